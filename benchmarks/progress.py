"""Shows on a terminal what is being measured, and how long all of it will still take."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

__all__ = ["Progress"]


class Progress:
    """Use as a context manager; ``seconds`` are what the steps take, about.

    Where there is no terminal it prints a line when a step is over.
    """

    def __init__(self, console: Console, seconds: Sequence[float]) -> None:
        self._console = console
        self._seconds = list(seconds)
        self._done = 0
        self._title = ""
        self._began = 0.0
        self._bar = Bar(
            BarColumn(30),
            TimeElapsedColumn(),
            TextColumn(
                "about {task.fields[left]} to go  [bold]{task.description}[/]  [dim]{task.fields[doing]}"
            ),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        self._console.print(
            f"{len(self._seconds)} steps, about {_clock(sum(self._seconds))} min", style="dim"
        )
        self._task = self._bar.add_task("", total=sum(self._seconds), doing="", left="")
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, title: str) -> None:
        self._title, self._began = title, time.monotonic()
        self.say("")

    def say(self, doing: str) -> None:
        """What is done now."""
        assert self._task is not None
        done, left = sum(self._seconds[: self._done]), sum(self._seconds[self._done :])
        self._bar.update(
            self._task,
            completed=done,
            description=escape(self._title),
            doing=escape(doing),
            left=_clock(left),
        )

    def end(self, trouble: str) -> None:
        """The step is over; ``trouble`` is what went wrong."""
        took = time.monotonic() - self._began
        self._done += 1
        word = "[bold red]FAIL[/]" if trouble else "[green]done[/]"
        count = f"[dim]{self._done:>2}/{len(self._seconds)}[/]"
        self._console.print(f"{count} {word} {escape(self._title)} [dim]{took:.0f} s", highlight=False)
        if trouble:
            self._console.print(f"      {escape(trouble[-2000:])}", style="red", highlight=False)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
