"""What others do under the same faults: stock beat and RedBeat, judged by the same oracle and checker.

Their messages say neither for which due nor by whom they were sent.  The sender is told by the process id in
Celery's ``origin`` header.  The due is found by a rule that gives the product the benefit of the doubt:

* The grid is the product's own: it begins with the first message of all, so nothing is held against a start.
* A run belongs to the instant of the grid that is nearest, up to half a period before or after it.  Both
  products count an interval from their last run, so they drift: what comes less than half a period late has a
  lag, and what comes less than half a period early is on time.
* Two runs by one process that are at least half a period apart are two occurrences: where drift would put
  both on one instant, the later one takes the next.  Closer together, or by two processes, they are one
  occurrence, doubled.

So a lag is half a period at most, and silence shows as what is lost: of several missed occurrences both
products fire one.  What drift swallows is lost too.  Nobody starts again what has ended, as a supervisor
might.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from tests.drills.checker import Arrival, judge
from tests.drills.cluster import Cluster
from tests.drills.faults import Fault
from tests.drills.ground import Ground
from tests.drills.oracle import Era, Every, Schedule
from tests.drills.process import wait_until
from tests.drills.releases import Release
from tests.drills.stage import SETTLE, Outcome, Stage

__all__ = ["PRODUCTS", "PeerStage", "Product", "matched", "peer_stage", "period"]

_PREFIX = re.compile(r"^\[[^]]*/MainProcess\] ", re.MULTILINE)
_OF_THE_POOL = re.compile(r"trimmed|renewed|steady|no member")
_VICTIM = "node-2"  # what the faults strike
_START = 30.0  # seconds
_PATIENCE = 1.5  # seconds in which what is on its way arrives
_ALONE = ("none", "term", "kill", "pause", "cut", "redis-down", "redis-kill")


@dataclass(frozen=True, slots=True)
class Product:
    """A beat scheduler, how many processes of it are started, and the names of the faults that apply.

    ``settings`` are told our lease and our heartbeat, in seconds.
    """

    name: str
    nodes: int
    faults: Sequence[str]
    settings: Callable[[float, float], Mapping[str, object]]
    module: str = "celery"

    @property
    def installed(self) -> bool:
        """Whether it can be drilled here."""
        return find_spec(self.module) is not None


def _stock(lease: float, heartbeat: float) -> Mapping[str, object]:
    return {"beat_scheduler": "celery.beat:PersistentScheduler"}


def _redbeat(lease: float, heartbeat: float) -> Mapping[str, object]:
    """A lock that lasts as long as our lease and is tried as often as we renew; else 1,500 s and 300 s."""
    return {
        "beat_scheduler": "redbeat.RedBeatScheduler",
        "redbeat_lock_timeout": lease,
        "beat_max_loop_interval": heartbeat,
    }


PRODUCTS = (
    Product("stock beat", 1, _ALONE, _stock),
    Product("3 stock beats", 3, ("none",), _stock),
    Product("RedBeat", 3, (*_ALONE, "join", "kill-two"), _redbeat, "redbeat"),
)


def peer_stage(
    product: Product,
    fault: Fault,
    ground: Ground,
    directory: Path,
    *,
    settings: Mapping[str, object],
    calm: float = 4.0,
) -> PeerStage:
    """The product's processes, ready for this fault."""
    return PeerStage(
        ground,
        directory,
        fault.entries,
        settings=settings,
        proxied=fault.proxied,
        nodes=product.nodes,
        calm=calm,
        product=product,
    )


class _PeerCluster(Cluster):
    """Processes that keep no list of members: who waits for the pool waits as long as ours may take."""

    lease = heartbeat = 0.0

    def environment(
        self,
        *,
        url: str | None = None,
        conf: Mapping[str, object] | None = None,
        release: Release | None = None,
    ) -> dict[str, str]:
        there = {"redbeat_redis_url": url or self.url}
        return super().environment(url=url, conf={**there, **(conf or {})}, release=release)

    def start(self, count: int, *, proxied: bool = False) -> None:
        """First the one that the faults strike, so that it is the one that works where only one does."""
        others = [f"node-{number}" for number in range(1, count + 1) if f"node-{number}" != _VICTIM]
        for name in [_VICTIM, *others][:count]:
            beat = self.beat(name, proxied=proxied)
            said = "Sending due task" if name == _VICTIM else "beat: Starting"
            wait_until(lambda: said in beat.process.log, _START, why=self.logs)  # noqa: B023

    def nodes(self) -> list[str]:
        return sorted(self.beats)

    def wait_for_nodes(self, count: int, timeout: float = _START) -> None:
        time.sleep(self.lease + self.heartbeat)

    def wait_for_renewals(self, count: int, timeout: float = _START) -> None:
        time.sleep(self.heartbeat)


@dataclass
class PeerStage(Stage):
    """A stage without a pool."""

    product: Product = PRODUCTS[0]

    def _cluster(self) -> Cluster:
        times = self.lease, self.seconds("heartbeat_interval")
        settings = {**self.settings, **self.product.settings(*times)}
        cluster = _PeerCluster(self.ground.url, self.directory, self.entries, settings=settings)
        cluster.lease, cluster.heartbeat = times
        return cluster

    def settled(self) -> None:
        """The anchor is a period before the first message."""
        wait_until(lambda: len(self.collector), _START, why=self.cluster.logs)
        self.anchor = self.collector.arrivals[0].at // 1000 - period(self.cluster.schedule)
        self.lag_from = self.now() + SETTLE
        self.note(f"processes that run: {len(self.cluster.beats)}")

    def note(self, text: str) -> None:
        """What a fault says of the pool is left out: a peer has none."""
        if not _OF_THE_POOL.search(text):
            super().note(text)

    def eras(self) -> tuple[Era, ...]:
        return (Era(self.anchor, self.cluster.schedule),)

    def finish(self) -> Outcome:
        end = self.now()
        self.run_on(_PATIENCE)
        self.watch.stop()
        dead = [
            f"{name} ended by itself: {_last_words(beat.process.log)}"
            for name, beat in self.cluster.beats.items()
            if not beat.process.alive and not beat.process.ended_by_us
        ]
        self.cluster.close()
        self.collector.stop()
        senders = {beat.process.pid: name for name, beat in self.cluster.beats.items()}
        schedule = self.cluster.schedule
        history = matched(self.collector.arrivals, schedule, anchor=self.anchor, senders=senders)
        return Outcome(
            verdict=judge(schedule, history, anchor=self.anchor, until=end, lag_from=self.lag_from),
            bound=max(self.bound, period(schedule) / 2),  # to drift is no fault here
            events=tuple(self.events),
            stall=self._stall.worst,
            logs=self.directory,
            record=replace(self._record(end), arrivals=tuple(history)),
            complaints=(*self.complaints, *dead),
            may_overtake=True,
        )


def _last_words(log: str) -> str:
    """The end of a log without Celery's prefixes, in one line."""
    return " ".join(_PREFIX.sub("", log).split())[-200:]


# --- which occurrence a message is --------------------------------------------------------------------------


def matched(
    arrivals: Iterable[Arrival], schedule: Schedule, *, anchor: int, senders: Mapping[int, str]
) -> list[Arrival]:
    """The arrivals of entries of ``schedule``, each with its due and its sender, by the rule of this module.

    ``senders`` are the names of the processes by their ids.
    """
    last: dict[tuple[str, str], Arrival] = {}
    found = []
    for arrival in sorted(arrivals, key=lambda it: it.at):
        if arrival.entry in schedule:
            sender = _sender(arrival, senders)
            before = last.get((arrival.entry, sender))
            due = _due(arrival.at / 1000, before, anchor=anchor, step=period(schedule))
            last[arrival.entry, sender] = replace(arrival, due=due)
            found.append(replace(arrival, due=due, at=max(arrival.at, due * 1000), node=sender))
    return found


def _due(at: float, before: Arrival | None, *, anchor: int, step: int) -> int:
    nearest = anchor + step * round((at - anchor) / step)
    if before is None or before.due is None or nearest > before.due:
        return nearest
    another_run = at - before.at / 1000 >= step / 2 and at >= before.due
    return before.due + step if another_run else before.due


def period(schedule: Schedule) -> int:
    """The one interval that all entries have, in ms."""
    found = {rule.seconds for rule in schedule.values() if isinstance(rule, Every)}
    if len(found) != 1:
        raise ValueError(f"the rule is for one interval, not for {sorted(found)}")
    return round(1000 * found.pop())


def _sender(arrival: Arrival, senders: Mapping[int, str]) -> str:
    """Celery writes ``gen<pid>@<host>``."""
    number = str(arrival.headers.get("origin", "")).partition("@")[0].removeprefix("gen")
    return senders.get(int(number), "unknown") if number.isdigit() else "unknown"
