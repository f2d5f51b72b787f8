"""Nodes in memory and in virtual time: the real core on the ports of ``celery_dispatch.testing``."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from celery_dispatch.core.clock import PoolClock
from celery_dispatch.core.entry import Catalog, CatchUp, Entry
from celery_dispatch.core.node import Node
from celery_dispatch.core.pool import Identity, Membership, Timing
from celery_dispatch.core.ports import Heartbeat, MemberState
from celery_dispatch.core.recurrence import Recurrence
from celery_dispatch.core.report import NodeReport
from celery_dispatch.errors import StoreError
from celery_dispatch.testing import (
    ManualClock,
    MemoryIntents,
    MemoryLedger,
    MemoryOutbox,
    MemoryPool,
    MemoryRows,
    MemoryStore,
)

START = datetime(2030, 1, 1, tzinfo=timezone.utc)
HEARTBEAT, LEASE, HANDOVER = 2.0, 10.0, 0.5
GATHER = 0.02
STEP = 0.01


class Every:
    """A nominal recurrence: every so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.step = timedelta(seconds=seconds)

    def following(self, last: datetime, after: datetime) -> datetime:
        return last + self.step * ((after - last) // self.step + 1)

    def latest(self, last: datetime, now: datetime) -> tuple[datetime, int] | None:
        steps = (now - last) // self.step
        return (last + self.step * steps, steps - 1) if steps > 0 else None


def entry(
    name: str, every: float | Recurrence = 1.0, *, definition: str = "d", catch_up: CatchUp = CatchUp.ALL
) -> Entry:
    recurrence = Every(every) if isinstance(every, (int, float)) else every
    return Entry(name, recurrence, definition, catch_up=catch_up)


def catalog(*entries: Entry, fingerprint: str = "v1") -> Catalog:
    return Catalog(fingerprint, {one.name: one for one in entries})


def many(count: int, **options: object) -> Catalog:
    return catalog(*(entry(f"e{i}", **options) for i in range(count)))  # type: ignore[arg-type]


@dataclass
class Beat:
    """One node with its ports; ``paused`` stops its time like SIGSTOP."""

    node: Node
    membership: Membership
    pool: MemoryPool
    ledger: MemoryLedger
    rows: MemoryRows
    intents: MemoryIntents
    outbox: MemoryOutbox
    report: NodeReport
    paused: bool = False
    next_beat: float = 0.0

    @property
    def id(self) -> str:
        return self.membership.identity.node

    def cut(self, *, available: bool = False) -> None:
        for port in (self.pool, self.ledger, self.rows, self.intents, self.outbox):
            port.available = available


class World:
    """``fresh``: the very first start, before any pool was; else one is there, and its only node is gone."""

    def __init__(self, *, fresh: bool = False) -> None:
        self.clock = ManualClock(1000.0)
        self.store = MemoryStore(
            self.clock, start=START if fresh else START - timedelta(seconds=2 * HEARTBEAT)
        )
        self.beats: dict[str, Beat] = {}
        self._tokens = 0
        self.anchor: datetime | None = None  # when the first config came into force
        if not fresh:
            self._found()

    def _found(self) -> None:
        pool, recovery = MemoryPool(self.store), ""
        for passes in (HEARTBEAT, HEARTBEAT, 0.0):
            founder = Heartbeat(
                node="founder",
                host="host",
                config="none",
                identity="proj",
                state=MemberState.STEADY,
                lease=timedelta(seconds=LEASE),
                interval=timedelta(seconds=HEARTBEAT),
                handover=timedelta(seconds=HANDOVER),
                info={},
                merged=recovery,
            )
            recovery = pool.heartbeat(founder, known_epoch=None).recovery
            self.clock.advance(passes)
        pool.leave("founder")

    def start(
        self,
        name: str,
        entries: Catalog,
        *,
        host: str = "",
        app: str = "proj",
        batch_size: int = 500,
        at_most_once: bool = False,
    ) -> Beat:
        pool, ledger = MemoryPool(self.store), MemoryLedger(self.store)
        intents, rows = MemoryIntents(self.store), MemoryRows(self.store)
        clock, report, outbox = PoolClock(self.clock), NodeReport({}), MemoryOutbox(self.store)
        timing = Timing(timedelta(seconds=HEARTBEAT), timedelta(seconds=LEASE), timedelta(seconds=HANDOVER))
        membership = Membership(
            Identity(name, host or f"host-{name}", entries.fingerprint, app),
            pool=pool,
            clock=clock,
            timing=timing,
            info=report.snapshot,
        )
        node = Node(
            catalog=entries,
            make=self._make,
            membership=membership,
            clock=clock,
            ledger=ledger,
            rows=rows,
            intents=intents,
            outbox=outbox,
            report=report,
            timing=timing,
            batch_size=batch_size,
            at_most_once=at_most_once,
            new_token=self._new_token,
            look_again=lambda: self._wake(name),
        )
        beat = Beat(node, membership, pool, ledger, rows, intents, outbox, report)
        self.beats[name] = beat
        self.store.followers.append(node.rows_changed)
        self.store.listeners.append(lambda: self._wake(name))
        return beat

    def kill(self, name: str) -> None:
        del self.beats[name]

    def stop(self, name: str) -> None:
        self.beats.pop(name).membership.leave()

    def run(self, seconds: float, *, step: float = STEP) -> None:
        """Let time pass; every node beats and turns whenever it wants to, once a ``step`` at most."""
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until - step / 2:
            self.clock.advance(step)
            for beat in list(self.beats.values()):
                if not beat.paused:
                    self._let(beat)
            if self.anchor is None and self.store.fence is not None and self.store.fence.config != "none":
                self.anchor = self.store.fence.since

    def save(self) -> dict[str, object]:
        """All that the store holds now, as in an RDB file; messages and wakes aside."""
        return copy.deepcopy({name: vars(self.store)[name] for name in self._stored()})

    def load(self, saved: dict[str, object]) -> None:
        """The store is restarted with what ``save`` gave."""
        vars(self.store).update(copy.deepcopy(saved))
        self.store.server += "+"

    def _stored(self) -> set[str]:
        kept = {
            "clock",
            "available",
            "broker_available",
            "run_id",
            "queues",
            "published",
            "refused",
            "listeners",
            "followers",
        }
        return {name for name in vars(self.store) if name not in kept and not name.startswith("_")}

    def fired(self) -> Counter[tuple[str, float]]:
        """How often each (entry, seconds since the start) was put on the queue."""
        return Counter((name, (due - START).total_seconds()) for name, due in self.store.messages())

    def doubled(self) -> list[tuple[str, float]]:
        return [occurrence for occurrence, times in self.fired().items() if times > 1]

    def missing(self, names: list[str], until: float, every: float = 1.0) -> list[tuple[str, float]]:
        """Occurrences later than the anchor and up to ``until`` seconds that never came."""
        assert self.anchor is not None
        anchor = (self.anchor - START).total_seconds()
        fired, grid = self.fired(), int((until - anchor) / every)
        wanted = [(name, round(anchor + every * k, 3)) for name in names for k in range(1, grid + 1)]
        return [occurrence for occurrence in wanted if not fired[occurrence]]

    def seconds(self) -> float:
        return (self.store.now() - START).total_seconds()

    def _let(self, beat: Beat) -> None:
        if self.clock.monotonic() >= beat.next_beat:
            pause = HEARTBEAT
            try:
                beat.membership.beat()
            except StoreError:
                pause = 0.5
            beat.next_beat = self.clock.monotonic() + (GATHER if beat.membership.unsettled else pause)
        beat.node.turn()

    @staticmethod
    def _make(name: str, definition: str) -> Entry:
        """The entry of a row, whose definition is ``{"every": seconds}``, and other fields of it."""
        fields = json.loads(definition)
        return dataclasses.replace(entry(name, fields.pop("every")), **fields)

    def _new_token(self, size: int) -> str:
        self._tokens += 1
        return f"{self._tokens:0{2 * size}x}"

    def _wake(self, name: str) -> None:
        if name in self.beats:
            self.beats[name].next_beat = 0.0
