"""Judges the messages that really arrived against the occurrences that should exist.

===========  =========================================================================================
finding      meaning
===========  =========================================================================================
lost         an expected occurrence of which no message arrived
doubled      an occurrence of which more than one message arrived, by whether the task ids are equal
early        a message that was on the broker before its due, by Redis's clock
phantom      a message of no occurrence: unknown entry, no due, or a due that is not on its grid
disordered   a message that arrived after one of the same entry with a later due
===========  =========================================================================================

Lost is judged for dues up to ``until``; everything else for every message there is.  A late message after
``until`` is therefore never counted as lost, but may still be doubled, early or phantom.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.drills.oracle import Schedule, expected

__all__ = ["Arrival", "Occurrence", "Verdict", "judge", "percentile"]

Occurrence = tuple[str, int]

_MINUTE = 60_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message as it was found on the broker.

    ``due`` is in ms, ``None`` where the message names none; ``at`` is Redis TIME in microseconds.
    """

    entry: str
    due: int | None
    task_id: str
    at: int
    queue: str = "celery"
    node: str = ""
    headers: dict[str, object] = field(default_factory=dict, compare=False)
    properties: dict[str, object] = field(default_factory=dict, compare=False)

    @property
    def lag(self) -> float:
        """Milliseconds from due to arrival; negative if it came early."""
        return math.nan if self.due is None else self.at / 1000 - self.due


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a history; ``lags`` in ms, sorted, of the occurrences whose lag is judged."""

    expected: int
    arrived: int
    lost: tuple[Occurrence, ...]
    doubled_same_id: tuple[Occurrence, ...]
    doubled_other_id: tuple[Occurrence, ...]
    early: tuple[Arrival, ...]
    phantom: tuple[Arrival, ...]
    disordered: tuple[Arrival, ...]
    lags: tuple[float, ...]
    worst: Arrival | None

    @property
    def doubled(self) -> tuple[Occurrence, ...]:
        return self.doubled_same_id + self.doubled_other_id

    @property
    def worst_lag(self) -> float:
        return self.lags[-1] if self.lags else math.nan

    def lag(self, percent: float) -> float:
        """The given percentile of the lags, by nearest rank."""
        return percentile(self.lags, percent)

    def problems(self, *, bound: float | None = None) -> list[str]:
        """One sentence per kind of finding, with examples; empty if all is well within ``bound`` ms."""
        found = {
            "lost": self.lost,
            "doubled with the same id": self.doubled_same_id,
            "doubled with another id": self.doubled_other_id,
            "early": self.early,
            "phantom": self.phantom,
            "out of order": self.disordered,
        }
        said = [f"{len(items)} {kind}, e.g. {items[:3]}" for kind, items in found.items() if items]
        if not self.expected:
            said.append("nothing was expected, so nothing was judged")
        if bound is not None and self.worst is not None and not self.worst_lag <= bound:
            late = sum(lag > bound for lag in self.lags)
            said.append(f"{late} later than {bound:.0f} ms; worst {self.worst_lag:.1f} ms: {self.worst}")
        return said


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of sorted values; NaN if there are none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def judge(
    schedule: Schedule,
    arrivals: Iterable[Arrival],
    *,
    anchor: int,
    until: int,
    lag_from: int | None = None,
    lag_until: int | None = None,
) -> Verdict:
    """Judge a history; ``lag_from`` and ``lag_until`` bound the dues whose lag counts."""
    history = sorted(arrivals, key=lambda arrival: arrival.at)
    wanted = expected(schedule, anchor=anchor, until=until)
    real, phantom = _split(schedule, history, anchor=anchor, until=until)
    ids: dict[Occurrence, list[str]] = defaultdict(list)
    first: dict[Occurrence, Arrival] = {}
    for occurrence, arrival in real:
        ids[occurrence].append(arrival.task_id)
        first.setdefault(occurrence, arrival)
    repeated = sorted(occurrence for occurrence, seen in ids.items() if len(seen) > 1)
    low = anchor if lag_from is None else lag_from
    high = until if lag_until is None else lag_until
    judged = [arrival for (_, due), arrival in first.items() if low <= due <= high]
    timely = sorted(judged, key=lambda arrival: arrival.lag)
    return Verdict(
        expected=len(wanted),
        arrived=len(history),
        lost=tuple(sorted(wanted.difference(first), key=lambda occurrence: occurrence[1])),
        doubled_same_id=tuple(it for it in repeated if len(set(ids[it])) == 1),
        doubled_other_id=tuple(it for it in repeated if len(set(ids[it])) > 1),
        early=tuple(arrival for _, arrival in real if arrival.lag < 0),
        phantom=tuple(phantom),
        disordered=tuple(_disordered(real)),
        lags=tuple(arrival.lag for arrival in timely),
        worst=timely[-1] if timely else None,
    )


def _split(
    schedule: Schedule, history: Sequence[Arrival], *, anchor: int, until: int
) -> tuple[list[tuple[Occurrence, Arrival]], list[Arrival]]:
    """The messages of occurrences that should exist, and those of none."""
    last = max((arrival.due for arrival in history if arrival.due is not None), default=until)
    seen_until = history[-1].at // 1000 if history else until
    horizon = max(until, min(last, seen_until + 2 * _MINUTE))
    grid = expected(schedule, anchor=anchor, until=horizon)
    real: list[tuple[Occurrence, Arrival]] = []
    phantom: list[Arrival] = []
    for arrival in history:
        if arrival.due is not None and (arrival.entry, arrival.due) in grid:
            real.append(((arrival.entry, arrival.due), arrival))
        else:
            phantom.append(arrival)
    return real, phantom


def _disordered(real: Sequence[tuple[Occurrence, Arrival]]) -> list[Arrival]:
    newest: dict[str, int] = {}
    found = []
    for (entry, due), arrival in real:
        if due < newest.get(entry, due):
            found.append(arrival)
        newest[entry] = max(due, newest.get(entry, due))
    return found
