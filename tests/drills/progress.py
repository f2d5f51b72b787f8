"""Shows on a terminal which drill runs, what it is doing, and how long all of them will still take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tests.drills.report import Row

__all__ = ["Progress", "rest"]

_GUESS = 35.0  # seconds of a drill of which nothing is known


def rest(
    ahead: Iterable[str],
    known: Mapping[str, float],
    *,
    running: Mapping[str, float] | None = None,
    at_a_time: int = 1,
) -> float:
    """Seconds until the drills ``ahead`` are over, by those that are ``known`` or else by their mean.

    ``running`` says for how long each of the others has been running.
    """
    mean = sum(known.values()) / len(known) if known else _GUESS
    left = [max(0.0, known.get(name, mean) - spent) for name, spent in (running or {}).items()]
    work = sum(left) + sum(known.get(name, mean) for name in ahead)
    return max([work / at_a_time, *left])


@dataclass
class _Running:
    """A drill, since when it runs (monotonic seconds) and what it is ``doing``."""

    title: str
    began: float
    doing: str = "starting"


class Progress:
    """Use as a context manager.  ``names`` are all drills in order; ``known`` is how long some took before.

    Where there is no terminal it prints a line when a drill begins and one when it is over.
    """

    def __init__(
        self, console: Console, names: Sequence[str], known: Mapping[str, float], *, at_a_time: int = 1
    ) -> None:
        self._console = console
        self._count = len(names)
        self._ahead = list(names)
        self._known = dict(known)
        self._at_a_time = at_a_time
        self._running: dict[str, _Running] = {}
        self._all_began = time.monotonic()
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=4, transient=True)

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, row: Row) -> None:
        self._ahead.remove(row.name)
        self._running[row.name] = _Running(row.title, time.monotonic())
        if not self._console.is_terminal:
            number = self._count - len(self._ahead)
            self._console.print(f"{self._of(number)} {escape(row.title)} …", highlight=False)

    def note(self, row: Row, doing: str) -> None:
        self._running[row.name].doing = doing

    def end(self, row: Row, *, events: Iterable[str] = ()) -> None:
        del self._running[row.name]
        self._known[row.name] = row.seconds
        word = "[green]pass[/]" if row.passed else "[bold red]FAIL[/]" if row.counts else "[dim]fail[/]"
        number = self._count - len(self._ahead) - len(self._running)
        self._console.print(
            f"{self._of(number)} {word}  {escape(row.title)}  [dim]{row.seconds:.0f} s", highlight=False
        )
        for problem in row.problems:
            self._console.print(
                f"      {escape(problem[-3000:])}", style="red" if row.counts else "dim", highlight=False
            )
        for event in events:
            self._console.print(f"      {escape(event)}", style="dim", highlight=False)

    def _of(self, number: int) -> str:
        return f"[dim]{number:>{len(str(self._count))}}/{self._count}[/]"

    def _picture(self) -> Group:
        now = time.monotonic()
        spent = {name: now - it.began for name, it in self._running.items()}
        left = rest(self._ahead, self._known, running=spent, at_a_time=self._at_a_time)
        lines = [self._line(it, now - it.began) for it in self._running.values()]
        so_far = now - self._all_began
        times = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=max(1.0, so_far + left), completed=so_far, width=50)
        times.add_row(bar, Text(f"{_clock(so_far)} so far, about {_clock(left)} to go", style="dim"))
        return Group(*lines, times)

    def _line(self, running: _Running, spent: float) -> Text:
        done = self._count - len(self._ahead) - len(self._running)
        line = Text.assemble(
            Text.from_markup(self._of(done + 1)),
            ("  " + running.title, "bold"),
            f"  {_clock(spent)}  ",
            (running.doing, "dim"),
        )
        line.truncate(self._console.width - 1, overflow="ellipsis")
        return line


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
