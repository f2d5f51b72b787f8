"""Shows on a terminal which drill runs, what it is doing, and how long all of them will still take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tests.drills.report import Row
from tests.drills.stage import Stage

__all__ = ["Progress", "rest"]

_GUESS = 35.0  # seconds of a drill of which nothing is known


def rest(ahead: Iterable[str], known: Mapping[str, float]) -> float:
    """Seconds that the drills ``ahead`` will take, by those that are ``known`` or else by their mean."""
    mean = sum(known.values()) / len(known) if known else _GUESS
    return sum(known.get(name, mean) for name in ahead)


class Progress:
    """Use as a context manager.  ``names`` are all drills in order; ``known`` is how long some took before.

    Where there is no terminal it prints a line when a drill begins and one when it is over.
    """

    def __init__(self, console: Console, names: Sequence[str], known: Mapping[str, float]) -> None:
        self._console = console
        self._names = list(names)
        self._known = dict(known)
        self._done = 0
        self._title = ""
        self._began = self._all_began = time.monotonic()
        self._stage: Stage | None = None
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=4, transient=True)

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, title: str) -> None:
        self._title, self._stage, self._began = title, None, time.monotonic()
        if not self._console.is_terminal:
            self._console.print(f"{self._count()} {escape(title)} …", highlight=False)

    def watch(self, stage: Stage) -> None:
        """What this stage notes is what is being done now."""
        self._stage = stage

    def end(self, row: Row, *, events: Iterable[str] = ()) -> None:
        self._known[row.name] = row.seconds
        word = "[green]pass[/]" if row.passed else "[bold red]FAIL[/]" if row.counts else "[dim]fail[/]"
        self._console.print(
            f"{self._count()} {word}  {escape(row.title)}  [dim]{row.seconds:.0f} s", highlight=False
        )
        for problem in row.problems:
            self._console.print(
                f"      {escape(problem[-3000:])}", style="red" if row.counts else "dim", highlight=False
            )
        for event in events:
            self._console.print(f"      {escape(event)}", style="dim", highlight=False)
        self._done += 1

    def _count(self) -> str:
        count = len(self._names)
        return f"[dim]{min(self._done + 1, count):>{len(str(count))}}/{count}[/]"

    def _picture(self) -> Group:
        now = time.monotonic()
        here = now - self._began
        running, ahead = self._names[self._done : self._done + 1], self._names[self._done + 1 :]
        left = max(0.0, rest(running, self._known) - here) + rest(ahead, self._known)
        doing = self._stage.events[-1][1] if self._stage is not None and self._stage.events else "starting"
        line = Text.assemble(
            Text.from_markup(self._count()),
            ("  " + self._title, "bold"),
            f"  {_clock(here)}  ",
            (doing, "dim"),
        )
        line.truncate(self._console.width - 1, overflow="ellipsis")
        spent = now - self._all_began
        times = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=max(1.0, spent + left), completed=spent, width=50)
        times.add_row(bar, Text(f"{_clock(spent)} so far, about {_clock(left)} to go", style="dim"))
        return Group(line, times)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
