"""What the operations answer: frozen values that know nothing of terminals or JSON.

Instants are aware UTC by Redis's clock, lags are milliseconds, shares are parts of 1.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from celery_dispatch.core.entry import Cursor, Entry, Fence
from celery_dispatch.core.ports import Stored
from celery_dispatch.core.ring import Ranks
from celery_dispatch.core.rows import Pause

__all__ = [
    "Dues",
    "EntryDetail",
    "EntryList",
    "EntryReport",
    "EntryState",
    "EntryTotals",
    "IntentReport",
    "Lag",
    "NodeReport",
    "NodeState",
    "PoolReport",
    "Problem",
    "Severity",
    "Sketch",
    "StatusReport",
]


class Severity(Enum):
    ERROR = "error"  #: occurrences are late or lost, or will be
    WARNING = "warning"  #: works, but a fault would cost more than it should
    NOTE = "note"  #: nothing is wrong, but it explains what is seen


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong, and what cures it; each one sentence."""

    what: str
    cure: str
    severity: Severity = Severity.ERROR


class NodeState(Enum):
    STEADY = "steady"  #: fires its share
    LATE = "late"  #: its lease still runs, but its last heartbeat is longer ago than it should be
    JOINING = "joining"  #: alive, still loading its entries
    DRAINING = "draining"  #: alive, taken off the ring by a person
    CUT_OFF = "cut-off"  #: alive, but it cannot reach the broker
    STANDBY = "standing-by"  #: alive, but runs a config that is not in force
    FOREIGN = "foreign"  #: alive, but of another app or broker than the pool
    EXPIRED = "expired"  #: its lease has run out


@dataclass(frozen=True, slots=True)
class Lag:
    """How late occurrences were fired, in ms, over the last heartbeat; ``None`` where nothing was."""

    p50: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node; what it says of itself is ``None`` or 0 where it says nothing.

    ``name`` is what its settings call it, ``identity`` names its app and broker.  ``last_heartbeat`` is when
    Redis last took one of its heartbeats, and what it says of itself is as old as that; ``recovered`` is when
    the last recovery of the pool began that it saw.  ``in_force``: it is of this pool and runs the config
    that is in force now.  ``entries`` and ``standby`` count those that it owns and stands by for, ``fired``
    and ``skipped`` its own occurrences since it started.
    """

    id: str
    host: str
    state: NodeState
    config: str
    identity: str
    in_force: bool
    joined: datetime
    lease_end: datetime
    last_heartbeat: datetime | None = None
    share: float = 0.0
    name: str | None = None
    pid: int | None = None
    version: str | None = None
    started: datetime | None = None
    recovered: datetime | None = None
    entries: int = 0
    standby: int = 0
    fired: int = 0
    skipped: int = 0
    lag: Lag = Lag()
    loading: int = 0
    outage: str | None = None
    errors: Mapping[str, str] = field(default_factory=dict)
    error_count: int = 0

    @property
    def is_alive(self) -> bool:
        return self.state is not NodeState.EXPIRED


@dataclass(frozen=True, slots=True)
class PoolReport:
    """The pool at ``now`` by Redis's clock.

    ``fence`` is the config in force now, ``None`` before a first node came; ``switch`` the one that a switch
    is written ahead for.  Where ``fence`` itself begins later than now, none was in force before it.
    ``challenger`` is a config that most nodes run but that is not in force, empty for none; ``recovery``
    names the one under way, empty for none.  ``asked`` is when it was asked for, in monotonic seconds.
    """

    now: datetime
    fence: Fence | None
    nodes: tuple[NodeReport, ...]
    ranks: Ranks
    switch: Fence | None = None
    challenger: str = ""
    identity: str = ""
    recovery: str = ""
    asked: float = field(default_factory=time.monotonic, compare=False)

    @property
    def alive(self) -> tuple[NodeReport, ...]:
        return tuple(node for node in self.nodes if node.is_alive)

    @property
    def steady(self) -> tuple[NodeReport, ...]:
        """The nodes that fire: those on the ring whose heartbeats come."""
        return tuple(node for node in self.nodes if node.state is NodeState.STEADY)


@dataclass(frozen=True, slots=True)
class IntentReport:
    """The open intents: how many, and when the oldest attempt began."""

    open: int = 0
    oldest: datetime | None = None


class EntryState(Enum):
    SCHEDULED = "scheduled"  #: its next due is to come, and a node owns it
    DUE = "due"  #: its due has come, and the handover is not over yet
    OVERDUE = "overdue"  #: nobody fired it within lease and handover
    PAUSED = "paused"  #: somebody paused it: what it is due for is passed over
    COMPLETED = "completed"  #: nothing is left to fire, by its schedule, end or count
    WAITING = "waiting"  #: no node owns it
    POLLED = "polled"  #: its schedule cannot tell the next due
    UNANCHORED = "not-anchored"  #: no node has taken it up yet
    ERROR = "error"  #: cannot be scheduled, rendered or routed
    DAMAGED = "damaged"  #: its row in Redis is not a cursor
    AHEAD = "ahead"  #: its cursor is in the future, so it stays silent until then
    FOREIGN = "other-definition"  #: the config in force defines it differently from this one
    ABSENT = "not-here"  #: it has a cursor, but this config does not have it
    TOMBSTONE = "tombstone"  #: it left the config

    @property
    def is_wrong(self) -> bool:
        return self in _WRONG


_WRONG = frozenset({EntryState.OVERDUE, EntryState.ERROR, EntryState.DAMAGED, EntryState.AHEAD})


@dataclass(frozen=True, slots=True)
class Sketch:
    """What an entry sends and when, in words; ``options`` and arguments as ``repr``.

    ``recurrence`` is the schedule's document, ``None`` for one that JSON cannot carry.
    """

    task: str | None = None
    schedule: str | None = None
    args: str | None = None
    kwargs: str | None = None
    options: str | None = None
    recurrence: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class EntryReport:
    """One entry; ``next_due`` is ``None`` where nobody can know it, ``last_due`` before its first.

    ``shadows``: it is the config's, and one of the same name was created at run time.
    """

    name: str
    state: EntryState
    sketch: Sketch = Sketch()
    next_due: datetime | None = None
    last_due: datetime | None = None
    fired: int = 0
    skipped: int = 0
    owner: str | None = None
    standby: str | None = None
    error: str | None = None
    shadows: bool = False


@dataclass(frozen=True, slots=True)
class EntryList:
    """The first ``len(entries)`` of ``matched`` entries, by name."""

    now: datetime
    entries: tuple[EntryReport, ...]
    matched: int
    total: int


@dataclass(frozen=True, slots=True)
class Dues:
    """The next dues of one entry.

    ``fires_at`` is when each is fired, if the entry has a jitter.  ``assumed``: it has no cursor yet, so they
    are counted from ``now``.  ``error`` says why there are fewer than were asked for.
    """

    name: str
    now: datetime
    dues: tuple[datetime, ...]
    fires_at: tuple[datetime, ...] = ()
    assumed: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class EntryDetail:
    """Everything that is known of one entry; ``entry`` is ``None`` if this config does not have it."""

    report: EntryReport
    entry: Entry | None
    stored: Stored
    dues: Dues
    writer: str | None = None
    pause: Pause | None = None

    @property
    def cursor(self) -> Cursor | None:
        return self.stored if isinstance(self.stored, Cursor) else None


@dataclass(frozen=True, slots=True)
class EntryTotals:
    """All entries counted: by state (``tombstone`` excluded from ``total``), and what was ever fired."""

    total: int
    by_state: Mapping[EntryState, int]
    fired: int
    skipped: int


@dataclass(frozen=True, slots=True)
class StatusReport:
    """The pool in one screen; ``config`` is the fingerprint of the app that asked."""

    pool: PoolReport
    entries: EntryTotals
    intents: IntentReport
    lag: Lag
    config: str
    problems: tuple[Problem, ...]

    @property
    def is_fine(self) -> bool:
        return not any(problem.severity is Severity.ERROR for problem in self.problems)
