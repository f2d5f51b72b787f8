"""One drill's stage: a server, a pool of beats on it, and a collector; and the verdict at its end.

The time line of a drill, by Redis's clock::

    anchor      steady      fault begins … fault over        end      end + patience
      ├───────────┼────────────────┼────────────┼─────────────┼─────────────┤
      lost, doubled, early, phantom: every due in (anchor, end]
                     lag: every due in (steady + settle, end]

Nothing is forgiven before the pool is steady but its lag: beats start one after the other, on a busy machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import redis

from tests.drills.checker import Verdict, judge
from tests.drills.cluster import Cluster, Spec
from tests.drills.collector import Collector, connect, now_us
from tests.drills.oracle import Every
from tests.drills.process import wait_until

__all__ = ["Outcome", "Server", "Stage", "Stall"]

SETTLE = 1_000  # ms after the pool is steady from which lag is judged
_STARTS = 30.0


class Server(Protocol):
    """A Redis that can be taken away and come back on the same port and directory."""

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Stall:
    """How long this machine let a thread wait that wanted to run: what part of a lag is nobody's fault."""

    _STEP = 0.005

    def __init__(self) -> None:
        self.worst = 0.0  #: ms
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drill-stall", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            time.sleep(self._STEP)
            self.worst = max(self.worst, (time.monotonic() - began - self._STEP) * 1000)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one drill showed; ``bound`` is the worst lag allowed, in ms."""

    verdict: Verdict
    bound: float
    events: tuple[tuple[int, str], ...]
    stall: float
    logs: Path
    complaints: tuple[str, ...] = ()

    @property
    def problems(self) -> list[str]:
        return [*self.verdict.problems(bound=self.bound), *self.complaints]

    @property
    def passed(self) -> bool:
        return not self.problems


@dataclass
class Stage:
    """What a fault acts on; use as a context manager."""

    server: Server
    directory: Path
    entries: Mapping[str, Spec]
    settings: Mapping[str, object] = field(default_factory=dict)
    nodes: int = 3
    proxied: bool = False
    bound: float = 50.0  #: ms; a fault may raise it
    calm: float = 4.0  #: seconds without a fault, before and after

    def __post_init__(self) -> None:
        settings = {"dispatch_catch_up": "all", **self.settings}
        self.cluster = Cluster(self.server.url, self.directory, self.entries, settings=settings)
        self.collector = Collector(self.server.url)
        self.events: list[tuple[int, str]] = []
        self.complaints: list[str] = []
        self.anchor = self.lag_from = 0
        self._stall = Stall()

    def __enter__(self) -> Stage:
        self.collector.start()
        self._stall.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.close()
        self.collector.stop()
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
        if not self.cluster.beats:
            self.cluster.start(self.nodes, proxied=self.proxied)
        self.settled()
        wait_until(
            lambda: set(self.entries) <= {arrival.entry for arrival in self.collector.arrivals},
            _STARTS,
            why=lambda: f"a message of each entry; there are {len(self.collector)}\n{self.cluster.logs()}",
        )
        self.run_on(self.calm)

    def settled(self) -> None:
        """Note that the pool is steady now: lag is judged from soon after."""
        self.anchor = self.cluster.since()
        self.lag_from = self.now() + SETTLE
        self._stall.worst = 0.0
        self.note(f"{len(self.cluster.nodes())} nodes steady")

    def now(self) -> int:
        """Redis TIME in ms."""
        return now_us(self.cluster.redis) // 1000

    def note(self, text: str) -> None:
        """Remember what happened when, by this host's clock, which Redis shares; asks nothing of Redis."""
        self.events.append((time.time_ns() // 1_000_000, text))

    def run_on(self, seconds: float) -> None:
        """Let the pool run as it is for a stated time."""
        time.sleep(seconds)

    def at_a_due(self, offset: int = 2) -> None:
        """Return ``offset`` ms after all entries became due at once: while claims are on their way."""
        rules = [spec.rule for spec in self.entries.values()]
        period = max(round(rule.seconds * 1_000_000) for rule in rules if isinstance(rule, Every))
        past = (now_us(self.cluster.redis) - self.anchor * 1000) % period
        time.sleep((period - past) / 1e6 + offset / 1000)

    def wait_for_server(self, timeout: float = 30.0) -> None:
        """Until Redis answers again."""
        wait_until(self.answers, timeout, why=lambda: f"an answer of {self.server.url}")

    def answers(self) -> bool:
        """Whether Redis serves commands now."""
        client = connect(self.server.url)
        try:
            return bool(client.exists(self.cluster.key("pool"))) or bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def finish(self) -> Outcome:
        """Wait for what is still to come, bounded, and judge."""
        end = self.now()
        limit = time.monotonic() + self.bound / 1000 + 2.0
        doubles = time.monotonic() + self.seconds("handover_delay") + 0.7
        while time.monotonic() < limit and (time.monotonic() < doubles or self._judge(end).lost):
            time.sleep(0.1)
        if (since := self.cluster.since()) != self.anchor:
            self.complaints.append(f"the config in force moved from {self.anchor} to {since}")
        self._look_for_corpses()
        self.cluster.close()
        self.collector.stop()
        return Outcome(
            verdict=self._judge(end),
            bound=self.bound,
            events=tuple(self.events),
            stall=self._stall.worst,
            logs=self.directory,
            complaints=tuple(self.complaints),
        )

    def _judge(self, end: int) -> Verdict:
        history = self.collector.arrivals
        return judge(self.cluster.schedule, history, anchor=self.anchor, until=end, lag_from=self.lag_from)

    def _look_for_corpses(self) -> None:
        """A beat that no fault ended must be alive."""
        for beat in self.cluster.beats.values():
            if not beat.process.alive and not beat.process.ended_by_us:
                self.complaints.append(f"{beat.process.name} ended by itself:\n{beat.process.log[-2000:]}")
