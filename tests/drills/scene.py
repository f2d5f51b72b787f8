"""A run as it is to be drawn: lanes, ticks, what was harmed, and words.  Knows no pixels.

======== ========================================================================================
look     of which occurrence
======== ========================================================================================
on-time  it arrived within 50 ms of its due
late     later, and within what the fault may cost
too-late later than that
twice    it arrived more than once: a tick for each arrival
wrong    an arrival that is early, on the wrong queue, or of no occurrence; drawn where it arrived
lost     it never arrived: in the lane *nobody*
excused  it is lost or doubled, and that is excused
======== ========================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.drills.checker import Arrival, Occurrence
from tests.drills.record import Record, Spell
from tests.drills.stage import Outcome

__all__ = ["LOOKS", "NOBODY", "PROMPT", "Scene", "Tick", "counted", "scene_of"]

NOBODY = "nobody"
PROMPT = 50.0  # ms
LOOKS = ("on-time", "late", "too-late", "twice", "wrong", "lost", "excused")
_RANDOM_PART = re.compile(r"-[0-9a-f]{8}$")  # of a node's id


@dataclass(frozen=True, slots=True)
class Tick:
    """An occurrence in the lane of who sent it; ``due`` and ``at`` (its arrival, if any) in ms."""

    lane: str
    entry: str
    due: int
    at: float | None
    look: str


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a plot shows; instants are ms, ``lines`` are read under the title."""

    title: str
    passed: bool
    lines: tuple[str, ...]
    anchor: int
    end: int
    lanes: tuple[str, ...]
    entries: tuple[str, ...]
    ticks: tuple[Tick, ...]
    spells: tuple[Spell, ...] = ()
    struck: tuple[int, int] | None = None
    events: tuple[tuple[int, str], ...] = ()
    bound: float = PROMPT


def scene_of(outcome: Outcome, *, title: str, lines: Sequence[str]) -> Scene:
    """What ``outcome`` says of each occurrence of its record."""
    record = outcome.record
    ticks = tuple(_ticks(outcome, record))
    senders = {*record.beats, *(tick.lane for tick in ticks)} - {NOBODY}
    return Scene(
        title=title,
        passed=outcome.passed,
        lines=tuple(lines),
        anchor=record.anchor,
        end=record.end,
        lanes=(*sorted(senders, key=_by_number), NOBODY),
        entries=tuple(sorted({tick.entry for tick in ticks})),
        ticks=ticks,
        spells=record.spells,
        struck=record.struck,
        events=outcome.events,
        bound=outcome.bound,
    )


def _ticks(outcome: Outcome, record: Record) -> Iterator[Tick]:
    arrived = set()
    verdict, looks = outcome.verdict, _Looks(outcome, record.late_from)
    for arrival in record.arrivals:
        look = looks.of(arrival)
        due = arrival.at // 1000 if look == "wrong" or arrival.due is None else arrival.due
        arrived.add((arrival.entry, arrival.due))
        if due > record.end and look in ("on-time", "late"):
            continue  # nothing depends on it
        yield Tick(_beat(arrival.node), arrival.entry, due, arrival.at / 1000, look)
    for look, occurrences in (("lost", verdict.lost), ("excused", verdict.excused)):
        for entry, due in occurrences:
            if (entry, due) not in arrived:
                yield Tick(NOBODY, entry, due, None, look)


class _Looks:
    """How an arrival looks, by the findings of a verdict."""

    def __init__(self, outcome: Outcome, late_from: int) -> None:
        verdict = outcome.verdict
        wrong = (*verdict.early, *verdict.phantom, *verdict.off_grid, *verdict.misrouted)
        self._wrong = set(map(_key, wrong))
        self._twice: set[Occurrence] = set(verdict.doubled)
        self._excused: set[Occurrence] = set(verdict.excused)
        self._late_from, self._bound, self._bounds = late_from, outcome.bound, outcome.bounds

    def of(self, arrival: Arrival) -> str:
        occurrence = (arrival.entry, arrival.due or 0)
        if _key(arrival) in self._wrong:
            return "wrong"
        if occurrence in self._twice:
            return "twice"
        if occurrence in self._excused:
            return "excused"
        if arrival.lag <= PROMPT:
            return "on-time"
        bound = self._bounds.get(arrival.entry, self._bound)
        too_late = arrival.lag > bound and occurrence[1] >= self._late_from
        return "too-late" if too_late else "late"


def _by_number(name: str) -> list[tuple[int, str]]:
    """``node-10`` comes after ``node-9``."""
    return [(int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


def _key(arrival: Arrival) -> tuple[object, ...]:
    return arrival.entry, arrival.due, arrival.at, arrival.task_id


def _beat(node: str) -> str:
    """The name of a beat in a node's id; messages that name no sender share a lane."""
    return _RANDOM_PART.sub("", node) or "unknown"


def counted(ticks: Iterable[Tick]) -> dict[str, int]:
    """How many ticks there are of each look, in the order of ``LOOKS``; looks without any are left out."""
    found = [tick.look for tick in ticks]
    return {look: count for look in LOOKS if (count := found.count(look))}
