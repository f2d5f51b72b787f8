"""What a person sees: a picture that moves, or one line a second where standard output is no terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .pool import View, label
from .runs import Run
from .verdict import Occurrence, Verdict

__all__ = ["Frame", "Lane", "Screen", "verdict_panel"]

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")
_BARS = " ▁▂▃▄▅▆▇█"
_SECONDS_SHOWN = 36
_LATE_MS = 250
_EVENTS_SHOWN = 9


@dataclass(frozen=True, slots=True)
class Lane:
    """One beat: its process as the demo knows it."""

    name: str
    pid: int
    alive: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """All that one picture shows; ``origin`` is the instant (ms) at which the grid begins.

    ``live`` are the entries that were created while it runs.
    """

    seconds: float
    lanes: Sequence[Lane]
    entries: Sequence[str]
    view: View
    runs: Sequence[Run]
    origin: int | None
    verdict: Verdict | None = None
    events: Sequence[str] = field(default_factory=tuple)
    live: Sequence[str] = field(default_factory=tuple)


class Screen:
    """Shows frames; ``with`` restores the terminal whatever happens."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._events_printed = 0
        self._printed = -1

    def __enter__(self) -> Screen:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, frame: Frame) -> None:
        """Draw it, or print what is new."""
        if self._live:
            self._live.update(_picture(frame), refresh=True)
            return
        for event in frame.events[self._events_printed :]:
            self._print(event)
        self._events_printed = len(frame.events)
        if int(frame.seconds) > self._printed:
            self._printed = int(frame.seconds)
            self._print(_line(frame))

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)
        self._console.file.flush()


# --- the picture --------------------------------------------------------------------------------------------


def _picture(frame: Frame) -> RenderableType:
    colours = {lane.name: _COLOURS[i % len(_COLOURS)] for i, lane in enumerate(frame.lanes)}
    return Panel(
        Group(
            _lanes(frame, colours), Text(), _owners(frame, colours), Text(), _totals(frame), *_events(frame)
        ),
        title="celery_dispatch: many beats, one schedule",
        subtitle=f"{frame.seconds:.0f} s",
        border_style="dim",
    )


def _lanes(frame: Frame, colours: Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, expand=True)
    for heading in ("beat", "pid", "state"):
        table.add_column(heading, no_wrap=True)
    table.add_column("owns", justify="right")
    table.add_column("fired", justify="right")
    table.add_column("what it fired, second by second", ratio=1, no_wrap=True)
    fired = Counter(label(run.node) for run in frame.runs)
    owned = Counter(frame.view.owners.values())
    for lane in frame.lanes:
        state = frame.view.states.get(lane.name, "starting") if lane.alive else "killed"
        table.add_row(
            Text(lane.name, colours[lane.name]),
            str(lane.pid),
            Text(state, "bold red" if state == "killed" else ""),
            str(owned[lane.name]),
            str(fired[lane.name]),
            _ticks(lane.name, frame, colours[lane.name]),
        )
    return table


def _ticks(name: str, frame: Frame, colour: str) -> Text:
    """A bar per second: how many of the dozen this beat fired; bold yellow if anything of it ran late."""
    line = Text()
    if frame.origin is None:
        return line
    second_of = {run: (run.due - frame.origin) // 1000 for run in frame.runs if label(run.node) == name}
    late = {second for run, second in second_of.items() if run.lag > _LATE_MS}
    counts = Counter(second for run, second in second_of.items() if run.entry not in frame.live)
    newest = max((run.due - frame.origin) // 1000 for run in frame.runs) if frame.runs else 0
    for second in range(max(1, newest - _SECONDS_SHOWN + 1), newest + 1):
        height = -(-counts[second] * (len(_BARS) - 1) // len(frame.entries))
        line.append(_BARS[min(height, len(_BARS) - 1)], "bold yellow" if second in late else colour)
    return line


def _owners(frame: Frame, colours: Mapping[str, str]) -> Table:
    """Each entry in the colour of its owner."""
    table = Table.grid(padding=(0, 2))
    fired = Counter(run.entry for run in frame.runs)
    cells = []
    for entry in (*frame.entries, *frame.live):
        owner = frame.view.owners.get(entry, "")
        cells.append(Text(f"{entry} → {owner or '?':<7}{fired[entry]:>3}", colours.get(owner, "dim")))
    for start in range(0, len(cells), 3):
        table.add_row(*cells[start : start + 3])
    return table


def _totals(frame: Frame) -> Text:
    return Text(_counts(frame.verdict), "bold" if frame.verdict and frame.verdict.good else "bold yellow")


def _events(frame: Frame) -> list[Text]:
    return [Text(event, "dim") for event in frame.events[-_EVENTS_SHOWN:]]


# --- words --------------------------------------------------------------------------------------------------


def _counts(verdict: Verdict | None) -> str:
    if verdict is None:
        return "waiting for the first run"
    return (
        f"expected {verdict.expected}, ran {verdict.ran}, lost {len(verdict.lost)}, "
        f"doubled {len(verdict.doubled)}, worst lag {_lag(verdict.worst)}"
    )


def _line(frame: Frame) -> str:
    owned = Counter(frame.view.owners.values())
    live = ", ".join(f"{lane.name} owns {owned[lane.name]}" for lane in frame.lanes if lane.alive)
    return f"{frame.seconds:5.1f} s  {live}; {_counts(frame.verdict)}"


def _lag(run: Run | None) -> str:
    return f"{run.lag} ms" if run else "unknown"


def verdict_panel(verdict: Verdict, faults: Sequence[str]) -> RenderableType:
    """The count at the end, with the first of whatever is wrong."""
    table = Table.grid(padding=(0, 2))
    for what, value in (
        ("expected", str(verdict.expected)),
        ("ran in the worker", str(verdict.ran)),
        ("lost", _some(verdict.lost)),
        ("doubled", _some(verdict.doubled)),
        ("early", _some([(run.entry, run.due) for run in verdict.early])),
        ("not on the grid", _some([(run.entry, run.due) for run in verdict.unexpected])),
        ("lag, median", f"{verdict.median_lag:.0f} ms"),
        ("lag, worst", _lag(verdict.worst)),
    ):
        table.add_row(what, value)
    for fault in faults:
        table.add_row("fault", fault)
    good = verdict.good and not faults
    words = "every occurrence ran exactly once" if good else "NOT every occurrence ran exactly once"
    if verdict.good and faults:
        words = "every occurrence ran exactly once, but not all went as planned"
    colour = "green" if good else "red"
    return Panel(table, title=words, title_align="left", border_style=colour, expand=False)


def _some(occurrences: Sequence[Occurrence]) -> str:
    if not occurrences:
        return "0"
    shown = [f"{entry} due {due / 1000:.3f}" for entry, due in occurrences[:3]]
    return f"{len(occurrences)} ({', '.join(shown + ['…'] * (len(occurrences) > 3))})"
