"""Judges the messages that really arrived against the occurrences that should exist.

===========  =========================================================================================
finding      meaning
===========  =========================================================================================
lost         an expected occurrence of which no message arrived
doubled      an occurrence of which more than one message arrived, by whether the task ids are equal
early        a message that was on the broker before its due, by Redis's clock
phantom      a message of nothing: of no entry, without a due, of an entry that was not in force at that
             due (removed, or not there yet), or of a due that is yet to come
off grid     a message of an entry in force, with a due that is none of this entry's
misrouted    a message that arrived on another queue than that of the config in force at its due
disordered   a message that arrived after one of the same entry with a later due
===========  =========================================================================================

Lost is judged for dues up to ``until``; everything else for every message there is.  A late message after
``until`` is therefore never counted as lost, but may still be doubled, early or phantom.

Doubled under the same task id is *repeated*: the same message twice.  That is allowed where the caller says
so, since a broker other than the dispatch Redis is written to at least once.  What is *excused* may have
happened or not, and nobody can tell: occurrences that a Redis lost together with what it had acknowledged, or
that fell due while nobody was there to fire them.  They may be lost or doubled, and nothing else.

Entries *apart* are those that a fault befell themselves: each has a bound of its own for its lag.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from tests.drills.oracle import Era, Occurrence, Schedule, expected_of

__all__ = ["Arrival", "Occurrence", "Verdict", "judge", "judge_eras", "percentile"]

_MINUTE = 60_000
_NONE: Mapping[str, float] = MappingProxyType({})


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
    headers: dict[str, object] = field(default_factory=dict, compare=False, repr=False)
    properties: dict[str, object] = field(default_factory=dict, compare=False, repr=False)

    @property
    def lag(self) -> float:
        """Milliseconds from due to arrival; negative if it came early."""
        return math.nan if self.due is None else self.at / 1000 - self.due


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a history; ``lags`` in ms, sorted, of the occurrences whose lag is judged.

    ``excused`` are occurrences that may be lost or doubled, and were; they are in no other finding.
    ``apart`` are the messages whose lag is judged by their entry's own bound.
    """

    expected: int
    arrived: int
    lost: tuple[Occurrence, ...]
    doubled_same_id: tuple[Occurrence, ...]
    doubled_other_id: tuple[Occurrence, ...]
    early: tuple[Arrival, ...]
    phantom: tuple[Arrival, ...]
    off_grid: tuple[Arrival, ...]
    misrouted: tuple[Arrival, ...]
    disordered: tuple[Arrival, ...]
    excused: tuple[Occurrence, ...]
    lags: tuple[float, ...]
    worst: Arrival | None
    apart: tuple[Arrival, ...] = ()

    @property
    def doubled(self) -> tuple[Occurrence, ...]:
        return self.doubled_same_id + self.doubled_other_id

    @property
    def worst_lag(self) -> float:
        return self.lags[-1] if self.lags else math.nan

    def lag(self, percent: float) -> float:
        """The given percentile of the lags, by nearest rank."""
        return percentile(self.lags, percent)

    def problems(
        self,
        *,
        bound: float | None = None,
        bounds: Mapping[str, float] = _NONE,
        may_repeat: bool = False,
        may_overtake: bool = False,
    ) -> list[str]:
        """One sentence per kind of finding, with examples; empty if all is well within ``bound`` ms.

        ``bounds`` are those of the entries apart.  ``may_repeat``: the same message twice is no problem.
        ``may_overtake``: nor is one that arrives after a later one of its entry, as when somebody takes over
        what a dead node had claimed.
        """
        found: dict[str, Sequence[object]] = {
            "lost": self.lost,
            "doubled with the same id": () if may_repeat else self.doubled_same_id,
            "doubled with another id": self.doubled_other_id,
            "early": self.early,
            "phantom": self.phantom,
            "off the grid": self.off_grid,
            "on the wrong queue": self.misrouted,
            "out of order": () if may_overtake else self.disordered,
            "later than its entry may be": [it for it in self.apart if not it.lag <= bounds[it.entry]],
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
    """Judge the history of one config, wherever its messages were routed.

    ``lag_from`` and ``lag_until`` bound the dues whose lag counts.
    """
    eras = (Era(anchor, schedule),)
    return judge_eras(
        eras, arrivals, until=until, lag_from=lag_from, lag_until=lag_until, any_queue=True
    )  # fmt: skip


def judge_eras(
    eras: Sequence[Era],
    arrivals: Iterable[Arrival],
    *,
    until: int,
    lag_from: int | None = None,
    lag_until: int | None = None,
    excused: Collection[Occurrence] = (),
    apart: Collection[str] = (),
    any_queue: bool = False,
) -> Verdict:
    """Judge a history in which the configs of ``eras`` were in force, one after the other."""
    history = sorted(arrivals, key=lambda arrival: arrival.at)
    wanted = expected_of(eras, until=until, excused=excused)
    horizon = _horizon(history, until)
    grid = expected_of(eras, until=horizon, excused=excused)
    real = [(it, arrival) for arrival in history if (it := (arrival.entry, arrival.due or 0)) in grid]
    ids: dict[Occurrence, list[str]] = defaultdict(list)
    first: dict[Occurrence, Arrival] = {}
    for occurrence, arrival in real:
        ids[occurrence].append(arrival.task_id)
        first.setdefault(occurrence, arrival)
    lost = sorted(wanted.keys() - first.keys(), key=lambda occurrence: occurrence[1])
    repeated = sorted(occurrence for occurrence, seen in ids.items() if len(seen) > 1)
    wrong = [it for it in repeated if it not in excused]
    low = eras[0].since if lag_from is None else lag_from
    high = until if lag_until is None else lag_until
    judged = [arrival for it, arrival in first.items() if low <= it[1] <= high]
    timely = sorted((it for it in judged if it.entry not in apart), key=lambda arrival: arrival.lag)
    strays = [arrival for arrival in history if (arrival.entry, arrival.due or 0) not in grid]
    return Verdict(
        expected=len(wanted),
        arrived=len(history),
        lost=tuple(it for it in lost if it not in excused),
        doubled_same_id=tuple(it for it in wrong if len(set(ids[it])) == 1),
        doubled_other_id=tuple(it for it in wrong if len(set(ids[it])) > 1),
        early=tuple(arrival for _, arrival in real if arrival.lag < 0),
        phantom=tuple(it for it in strays if not _in_force(it, eras, horizon)),
        off_grid=tuple(it for it in strays if _in_force(it, eras, horizon)),
        misrouted=() if any_queue else tuple(_misrouted(real, grid, excused)),
        disordered=tuple(_disordered(real)),
        excused=tuple(it for it in (*lost, *repeated) if it in excused),
        lags=tuple(arrival.lag for arrival in timely),
        worst=timely[-1] if timely else None,
        apart=tuple(it for it in judged if it.entry in apart),
    )


def _horizon(history: Sequence[Arrival], until: int) -> int:
    """How far the grid is reckoned: a message from far ahead is a phantom, and need not be looked for."""
    last = max((arrival.due for arrival in history if arrival.due is not None), default=until)
    seen_until = history[-1].at // 1000 if history else until
    return max(until, min(last, seen_until + 2 * _MINUTE))


def _in_force(arrival: Arrival, eras: Sequence[Era], horizon: int) -> bool:
    """Whether its entry was in force at the due that it names."""
    if arrival.due is None or not eras[0].since <= arrival.due <= horizon:
        return False
    era = next(era for era in reversed(eras) if era.since <= arrival.due)
    return arrival.entry in era.schedule


def _misrouted(
    real: Iterable[tuple[Occurrence, Arrival]],
    grid: Mapping[Occurrence, Era],
    excused: Collection[Occurrence],
) -> list[Arrival]:
    return [
        arrival
        for it, arrival in real
        if arrival.queue != grid[it].queue(arrival.entry) and it not in excused
    ]


def _disordered(real: Sequence[tuple[Occurrence, Arrival]]) -> list[Arrival]:
    newest: dict[str, int] = {}
    found = []
    for (entry, due), arrival in real:
        if due < newest.get(entry, due):
            found.append(arrival)
        newest[entry] = max(due, newest.get(entry, due))
    return found
