"""What a node says of itself: counters, lag and errors, read by people and never by the rules.

The node's loop counts; any other thread may read.  A counter only grows, from zero at the node's start.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

__all__ = ["LAG_BOUNDS", "ErrorKind", "LagHistogram", "NodeReport", "Skip"]

#: Upper bounds of the lag's buckets, in seconds; a last bucket without one comes after them.
LAG_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)

_RECENT = 1_000
_SHOWN_ERRORS = 20


class Skip(Enum):
    """Why an occurrence was counted and not fired."""

    LATE = "late"  #: by its catch-up policy: a later one was fired in its place, or none so late is
    WINDOW = "window"  #: older than its entry's catch-up window
    DROPPED = "dropped"  #: claimed, not known to be sent, and delivery is at most once
    LEFT = "left"  #: claimed, and its entry left the catalog before it was sent
    PAUSED = "paused"  #: its entry was paused, or all entries were


class ErrorKind(Enum):
    """What was at fault when something failed."""

    ENTRY = "entry"  #: one entry: it cannot be scheduled, serialised or routed
    STORE = "store"  #: Redis did not answer, or refused
    BROKER = "broker"  #: the broker could not be reached, or did not confirm
    FENCED = "fenced"  #: nothing: the config in force changed, or a recovery is under way


@dataclass(frozen=True, slots=True)
class LagHistogram:
    """The lags of all occurrences that were fired.

    ``counts`` has one number for each of ``LAG_BOUNDS`` (of those above the bound before it) and a last one
    for what is beyond; ``total`` is their sum in seconds.
    """

    counts: tuple[int, ...]
    total: float


class NodeReport:
    """Counts what happens on a node; everything may be read by another thread.

    ``outage`` says why nothing is fired now, ``broker_outage`` why the broker cannot be used.  ``last_turn``
    and ``last_fire`` are local monotonic seconds; what is fired counts from the beginning of its turn.
    """

    def __init__(self, about: Mapping[str, object]) -> None:
        self._about = dict(about)
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._lags = [0] * (len(LAG_BOUNDS) + 1)
        self._lag_total = 0.0
        self._skips = dict.fromkeys(Skip, 0)
        self._failures = dict.fromkeys(ErrorKind, 0)
        self._errors: dict[str, str] = {}
        self.turns = 0
        self.fired = 0
        self.skipped = 0
        self.lost = 0
        self.takeovers = 0
        self.intents_taken_over = 0
        self.recoveries = 0
        self.owned = 0
        self.standby = 0
        self.loading = 0
        self.run_time = 0
        self.version = 0
        self.open_intents = 0
        self._recovered: datetime | None = None
        self.outage: str | None = None
        self.broker_outage: str | None = None
        self.last_turn: float | None = None
        self.last_fire: float | None = None

    # --- counting -------------------------------------------------------------------------------------------

    def turned(self, monotonic: float) -> None:
        """The loop has come round once more, at this instant of the local clock."""
        self.turns += 1
        self.last_turn = monotonic

    def fire(self, lag: timedelta, *, helped: bool) -> None:
        """An occurrence was fired this long after its due; ``helped``: as its standby."""
        seconds = max(lag.total_seconds(), 0.0)
        self._lags[bisect_left(LAG_BOUNDS, seconds)] += 1
        self._lag_total += seconds
        self._recent.append(seconds)
        self.fired += 1
        self.last_fire = self.last_turn
        if helped:
            self.takeovers += 1

    def skip(self, count: int, reason: Skip) -> None:
        """So many occurrences were not fired and will not be."""
        if count:
            self._skips[reason] += count
            self.skipped += count

    def claim_lost(self) -> None:
        """Another node had moved the cursor first."""
        self.lost += 1

    def followed(self, version: int, *, run_time: int) -> None:
        """All changes up to ``version`` are known; so many entries are defined at run time."""
        self.version, self.run_time = version, run_time

    def taken_over(self, count: int) -> None:
        """So many intents of other nodes are this node's now."""
        self.intents_taken_over += count

    def recovery(self, at: datetime) -> None:
        """A recovery of the pool began, at ``at`` by pool time."""
        self.recoveries += 1
        self._recovered = at

    def count_error(self, kind: ErrorKind) -> None:
        """Something failed once more; of an entry, ``error`` is told instead."""
        self._failures[kind] += 1

    def error(self, name: str, message: str) -> bool:
        """An entry cannot be fired now; whether that is news."""
        self.count_error(ErrorKind.ENTRY)
        news = self._errors.get(name) != message
        self._errors[name] = message
        return news

    def well(self, name: str) -> bool:
        """It can again, or is not this node's any more; whether that is news."""
        return self._errors.pop(name, None) is not None

    # --- reading --------------------------------------------------------------------------------------------

    @property
    def lags(self) -> LagHistogram:
        """The lags since the node's start."""
        total = self._lag_total
        return LagHistogram(tuple(self._lags), total)

    @property
    def skips(self) -> Mapping[Skip, int]:
        """What ``skipped`` is made of."""
        return self._skips.copy()

    @property
    def failures(self) -> Mapping[ErrorKind, int]:
        """How often something failed, by what was at fault."""
        return self._failures.copy()

    @property
    def entries_in_error(self) -> int:
        """How many entries this node holds and cannot fire now."""
        return len(self._errors)

    def snapshot(self) -> dict[str, Any]:
        """JSON-ready; the lag is that of the last 1,000 occurrences, in milliseconds."""
        lags = sorted(self._recent.copy())
        errors = dict(self._errors)
        return {
            **self._about,
            "entries": self.owned,
            "standby": self.standby,
            "loading": self.loading,
            "run_time": self.run_time,
            "catalog": self.version,
            "fired": self.fired,
            "skipped": self.skipped,
            "lost": self.lost,
            "takeovers": self.takeovers,
            "open_intents": self.open_intents,
            "lag": {"p50": _ms(lags[len(lags) // 2]), "max": _ms(lags[-1])} if lags else None,
            "errors": {name: errors[name][:500] for name in sorted(errors)[:_SHOWN_ERRORS]},
            "error_count": len(errors),
            "recovered": self._recovered and self._recovered.isoformat(timespec="seconds"),
            "outage": self.outage or self.broker_outage,
        }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
