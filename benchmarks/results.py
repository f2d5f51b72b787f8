"""What was measured in one run, and the questions that tables, plots and targets ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.figures import Burst, Ratio, Spread

__all__ = ["Change", "Curve", "Followed", "Idle", "Results", "Start", "Steady", "Storm", "Work"]

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Storm:
    """``entries`` entries of which all were due at one instant.

    ``kind``: ``interval`` or ``crontab`` for one write, ``receiver`` for two steps on the same Redis,
    ``rabbitmq`` for those to RabbitMQ.  ``distinct``: how many of the entries had a message at the end, and
    ``twice`` how many messages there were besides; ``None`` where the queue was not read.  ``cpu`` is what
    the beats ran for it, in seconds together.  ``bare`` is how many of the same messages a bare client pushed
    a second, right after it.  ``curve`` is the messages over the seconds since the due.  ``note`` says why it
    was stopped.
    """

    product: str
    kind: str
    nodes: int
    entries: int
    burst: Burst
    distinct: int | None = None
    twice: int | None = None
    cpu: float | None = None
    bare: float | None = None
    curve: Curve = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Steady:
    """A stream of occurrences that are due one by one, on one node; lags in seconds.

    ``rate`` is what was fired a second; ``cpu`` and ``redis_cpu`` are shares of one core; ``lags`` the
    percentiles from 0 to 100, with their values.
    """

    entries: int
    wanted: float
    seconds: float
    rate: float
    p50: float
    p99: float
    worst: float
    twice: int
    cpu: float
    redis_cpu: float
    lags: Curve = ()


@dataclass(frozen=True, slots=True)
class Idle:
    """A node whose entries are due tomorrow; shares of one core, bytes, Redis commands a minute."""

    entries: int
    seconds: float
    cpu: float
    redis_cpu: float
    commands: float
    memory: int
    merely_loaded: int


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from a process's start until it had read its schedule, and until it held its whole share.

    ``number``: the how manieth node of the pool it is.
    """

    entries: int
    number: int
    read: float
    steady: float


@dataclass(frozen=True, slots=True)
class Change:
    """A node that joined or was killed during a storm: ``what``, and the storm's figures in seconds.

    ``undisturbed`` is how long the nodes that were there throughout take for the same storm by themselves.
    """

    what: str
    entries: int
    pause: float
    to_last: float
    undisturbed: float
    finished: bool
    twice: int
    curve: Curve = ()
    marks: Curve = ()  #: when it happened, and how many messages there were

    @property
    def extra(self) -> float:
        """How much later the last message came."""
        return max(0.0, self.to_last - self.undisturbed)


@dataclass(frozen=True, slots=True)
class Work:
    """Something that was done to ``entries`` entries made at run time; seconds.

    ``longest`` is how long Redis was held up by one ``command``, ``p99`` by 99 in 100 of those that took
    more than 0.1 ms at most, ``busy`` what its process ran meanwhile.
    """

    what: str
    entries: int
    took: float
    p99: float
    longest: float
    command: str
    busy: float


@dataclass(frozen=True, slots=True)
class Followed:
    """Seconds from the answer to a change until its first message, of an entry that is due every 50 ms.

    ``told``: the beats heard of it; else the connections on which they would have were cut just before.
    """

    told: bool
    changes: int
    p50: float
    worst: float


@dataclass(slots=True)
class Results:
    """One run; ``troubles`` are the steps that did not come to their end, with the reason.

    ``seconds`` is how long all took, on these ``servers``.
    """

    storms: list[Storm] = field(default_factory=list)
    steady: list[Steady] = field(default_factory=list)
    idle: list[Idle] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)
    followed: list[Followed] = field(default_factory=list)
    troubles: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    servers: list[str] = field(default_factory=list)

    def add(self, found: Iterable[object]) -> None:
        """Each where it belongs."""
        homes = {
            Storm: self.storms,
            Steady: self.steady,
            Idle: self.idle,
            Start: self.starts,
            Change: self.changes,
            Work: self.work,
            Followed: self.followed,
        }
        for one in found:
            home: list[object] = homes[type(one)]  # type: ignore[assignment]
            home.append(one)

    def add_trouble(self, step: str, reason: str) -> None:
        """``reason`` may be empty: then there is none."""
        if reason:
            self.troubles[step] = reason

    def document(self) -> dict[str, object]:
        """For programs; curves included."""
        return asdict(self)

    def of(self, product: str, kind: str, nodes: int, entries: int) -> list[Storm]:
        """All runs of one storm."""
        wanted = (product, kind, nodes, entries)
        return [it for it in self.storms if (it.product, it.kind, it.nodes, it.entries) == wanted]

    def spread(self, storms: Sequence[Storm], figure: Callable[[Storm], float | None]) -> Spread | None:
        """A figure over these storms; ``None`` where none has it."""
        known = [value for storm in storms if (value := figure(storm)) is not None]
        return Spread.of(known) if known else None

    def ratio(
        self, above: Sequence[Storm], below: Sequence[Storm], figure: Callable[[Storm], float | None]
    ) -> Ratio | None:
        """One figure of two storms, over each other; ``None`` where one of them was not measured."""
        ours, theirs = self.spread(above, figure), self.spread(below, figure)
        return None if ours is None or theirs is None else Ratio.of(ours, theirs)
