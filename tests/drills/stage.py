"""One drill's stage: servers, a pool of beats on them, and a collector; and the verdict at its end.

The time line of a drill, by Redis's clock::

    anchor      steady      fault begins … fault over        end      end + patience
      ├───────────┼────────────────┼────────────┼─────────────┼─────────────┤
      lost, doubled, early, phantom: every due in (anchor, end]
                     lag: every due in (steady + settle, end]

Nothing is forgiven before the pool is steady but its lag: beats start one after the other, on a busy machine.
Each config that comes into force is noted with its instant, and what is due from then on is judged by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from tests.drills.aftermath import still_wrong, without_a_mark
from tests.drills.amqp_collector import AmqpCollector
from tests.drills.checker import Verdict, judge_eras
from tests.drills.cluster import Cluster
from tests.drills.collector import Collector, connect, now_us
from tests.drills.ground import Ground
from tests.drills.oracle import Era, Every, Occurrence, expected_of
from tests.drills.process import wait_until
from tests.drills.record import Record, Stall, Watch
from tests.drills.releases import Spec
from tests.drills.switches import Switches, held

__all__ = ["Outcome", "Stage"]

SETTLE = 1_000  # ms after the pool is steady from which lag is judged
_STARTS = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one drill showed; ``bound`` is the worst lag allowed, in ms.

    ``may_repeat`` and ``may_overtake``: see ``Verdict.problems``.
    """

    verdict: Verdict
    bound: float
    events: tuple[tuple[int, str], ...]
    stall: float
    logs: Path
    record: Record
    complaints: tuple[str, ...] = ()
    bounds: Mapping[str, float] = field(default_factory=dict)
    may_repeat: bool = False
    may_overtake: bool = False

    @property
    def problems(self) -> list[str]:
        found = self.verdict.problems(
            bound=self.bound,
            bounds=self.bounds,
            may_repeat=self.may_repeat,
            may_overtake=self.may_overtake,
        )
        return [*found, *self.complaints]

    @property
    def passed(self) -> bool:
        return not self.problems


@dataclass
class Stage:
    """What a fault acts on; use as a context manager.

    ``switches`` is how many configs are to come into force, the first included.  ``cast`` starts
    what is there if not just beats: real workers among it, which run what was sent.
    """

    ground: Ground
    directory: Path
    entries: Mapping[str, Spec]
    settings: Mapping[str, object] = field(default_factory=dict)
    nodes: int = 3
    proxied: bool = False
    user_code: str = ""
    cast: Callable[[Stage], None] | None = None
    queues: Sequence[str] = ("celery",)
    bound: float = 50.0  #: ms; a fault may raise it
    calm: float = 4.0  #: seconds without a fault, before and after; without any nobody asks who fired last
    switches: int = 1
    ended: int = 0  #: when the judged time was over; ms

    def __post_init__(self) -> None:
        self.cluster = self._cluster()
        self.collector = self._collector()
        self.watch = Watch(self.ground, self.cluster.beats)
        self.seen = Switches(
            lambda: self.ground.url, pool=self.cluster.key("pool"), members=self.cluster.key("members")
        )
        self.events: list[tuple[int, str]] = []
        self.tell: Callable[[str], None] = lambda text: None  # who shows what happens
        self.complaints: list[str] = []
        self.excused: set[Occurrence] = set()
        self.elsewhere: set[str] = set()  # entries that the fault itself judges
        self.bounds: dict[str, float] = {}  # of entries that a fault befell themselves; ms
        self.may_repeat = self.ground.broker is not None  # a fault that excuses no repeat says so
        self.anchor = self.lag_from = 0
        self.struck: tuple[int, int] | None = None
        self._stall = Stall()

    @property
    def in_two_steps(self) -> bool:
        """Whether there is a moment between the claim of a message and its arrival."""
        lazy = any(spec.odd in ("lazy", "locked") for spec in self.entries.values())
        return self.ground.broker is not None or bool(self.user_code) or lazy

    @property
    def worked(self) -> bool:
        """Whether real workers run what was sent."""
        return self.cast is not None

    def _cluster(self) -> Cluster:
        settings = {"dispatch_catch_up": "all", **self.ground.settings, **self.settings}
        return Cluster(
            self.ground.url, self.directory, self.entries, settings=settings, user_code=self.user_code
        )

    def _collector(self) -> Collector | AmqpCollector:
        if self.ground.broker is not None:
            return AmqpCollector(self.ground.broker.url, queues=self.queues)
        return Collector(lambda: self.ground.url, queues=self.queues, pass_on=self.worked)

    def __enter__(self) -> Stage:
        self.collector.start()
        self.seen.start()
        self._stall.start()
        self.watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.stop()
        self.cluster.close()
        self.collector.stop()
        self.seen.stop()
        self._stall.stop()

    # --- settings as the beats have them --------------------------------------------------------------------

    @property
    def lease(self) -> float:
        """Seconds; faults last so many leases, and shrink with it."""
        return self.seconds("lease_ttl")

    def seconds(self, name: str) -> float:
        """A duration among the settings, or its default."""
        defaults = {"lease_ttl": 10.0, "heartbeat_interval": 2.0, "handover_delay": 0.5}
        return float(str(self.settings.get(f"dispatch_{name}", defaults[name])))

    # --- the drill ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the beats, wait until they are steady and every entry was fired once, then stay calm."""
        if self.cast is not None:
            self.cast(self)
        elif not self.cluster.beats:
            self.cluster.start(self.nodes, proxied=self.proxied)
        self.settled()
        wait_until(
            lambda: self.eras()[0].schedule.keys() <= {it.entry for it in self.collector.arrivals},
            _STARTS,
            why=lambda: f"a message of each entry; there are {len(self.collector)}\n{self.cluster.logs()}",
        )
        self.run_on(self.calm)

    def settled(self) -> None:
        """Note that the pool is steady now: lag is judged from soon after."""
        wait_until(lambda: self.seen.found, _STARTS, why=lambda: "a config in force")
        self.anchor = self.seen.found[0].since
        self.lag_from = self.now() + SETTLE
        self._stall.worst = 0.0
        self.note(f"{len(self.cluster.nodes())} nodes steady")

    def now(self) -> int:
        """Redis TIME in ms."""
        return now_us(self.cluster.redis) // 1000

    def note(self, text: str) -> None:
        """Remember what happened when, by this host's clock, which Redis shares; asks nothing of Redis."""
        self.events.append((time.time_ns() // 1_000_000, text))
        self.tell(text)

    @contextmanager
    def under_fault(self) -> Iterator[None]:
        """What is noted first in the block is the fault; its consequences are over with the block."""
        known = len(self.events)
        yield
        if self.events[known:]:
            self.struck = (self.events[known][0], time.time_ns() // 1_000_000)

    def run_on(self, seconds: float) -> None:
        """Let the pool run as it is for a stated time."""
        time.sleep(seconds)

    def at_a_due(self, offset: int = 2) -> None:
        """Return ``offset`` ms after all entries became due at once: while claims are on their way."""
        rules = [spec.rule for spec in self.entries.values()]
        period = max(round(rule.seconds * 1_000_000) for rule in rules if isinstance(rule, Every))
        past = (now_us(self.cluster.redis) - self.anchor * 1000) % period
        time.sleep((period - past) / 1e6 + offset / 1000)

    def wait_for_switch(self, number: int, timeout: float = 60.0) -> int:
        """Until the ``number``-th config is in force, the first one counted; the instant of its switch."""
        wait_until(
            lambda: len(self.seen.found) >= number and self.now() > self.seen.found[number - 1].since,
            timeout,
            why=lambda: f"{number} switches; there were {self.seen.found}\n{self.cluster.logs()}",
        )
        switch = self.seen.found[number - 1]
        self.note(f"the config of {switch.beat} is in force since {switch.since}, written at {switch.seen}")
        return switch.since

    def excuse(
        self, low: int, high: int, *, names: Collection[str] | None = None, missing: bool = False
    ) -> None:
        """Let what is due in ``[low, high]`` be lost or doubled: all of it, or that of ``names``.

        ``missing``: only what had not arrived by then.
        """
        grid = expected_of(self.eras(), until=high, excused=self.excused)
        arrived = {(it.entry, it.due) for it in self.collector.arrivals if missing and it.at <= high * 1000}
        found = [it for it in grid if it[1] >= low and it not in arrived]
        self.excused.update(it for it in found if names is None or it[0] in names)

    def wait_for_server(self, timeout: float = 30.0) -> None:
        """Until Redis answers again."""
        wait_until(self.answers, timeout, why=lambda: f"an answer of {self.ground.url}")

    def answers(self) -> bool:
        """Whether Redis serves commands now."""
        client = connect(self.ground.url)
        try:
            return bool(client.exists(self.cluster.key("pool"))) or bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    # --- the verdict ----------------------------------------------------------------------------------------

    def finish(self) -> Outcome:
        """Wait for what is still to come, bounded, and judge."""
        self.ended = end = self.now()
        limit = time.monotonic() + max(self.bound, *self.bounds.values(), 0) / 1000 + 2.0
        doubles = time.monotonic() + self.seconds("handover_delay") + 0.7
        while time.monotonic() < limit and (time.monotonic() < doubles or self._judge(end).lost):
            time.sleep(0.1)
        if len(self.seen.found) != self.switches:
            self.complaints.append(f"{self.switches} configs were to come into force: {self.seen.found}")
        self.complaints += still_wrong(self)
        self.watch.stop()
        self.cluster.close()
        self.collector.stop()
        self.complaints += without_a_mark(self)
        return Outcome(
            verdict=self._judge(end),
            bound=self.bound,
            events=tuple(self.events),
            stall=self._stall.worst,
            logs=self.directory,
            record=self._record(end),
            complaints=tuple(self.complaints),
            bounds=self.bounds,
            may_repeat=self.may_repeat,
            may_overtake=self.in_two_steps,
        )

    def _record(self, end: int) -> Record:
        return Record(
            anchor=self.anchor,
            end=end,
            late_from=self.lag_from,
            beats=tuple(self.cluster.beats),
            arrivals=tuple(self.collector.arrivals),
            spells=self.watch.spells,
            struck=self.struck,
        )

    def eras(self) -> tuple[Era, ...]:
        """The configs that were in force, one after the other."""
        released = self.cluster.released
        switches = held(self.seen.found)
        return tuple(released.get(it.beat, self.cluster.release).era(it.since) for it in switches)

    def _judge(self, end: int) -> Verdict:
        history = [it for it in self.collector.arrivals if it.entry not in self.elsewhere]
        return judge_eras(
            self.eras(), history, until=end, lag_from=self.lag_from, excused=self.excused, apart=self.bounds
        )
