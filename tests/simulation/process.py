"""A beat process in virtual time: the real node, membership and keeper, with their two threads as tasks.

What the product does with threads and waits is modelled here, and only here:

* the keeper beats when it said that it would, and after a wake, but not sooner than ``GATHER`` after the beat
  before (``core/keeper.py``);
* the loop turns when its node says so, or its view changed (``running.py``).  An idle loop, which the product
  turns once a second, is turned once an interval here: nothing can tell the difference but the time it takes;
* the two go on side by side: while one waits for an answer the other runs, unless the process is stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, cast

from celery_dispatch.core.clock import PoolClock
from celery_dispatch.core.entry import Occurrence
from celery_dispatch.core.keeper import GATHER, GOODBYE, Keeper
from celery_dispatch.core.node import Node
from celery_dispatch.core.pool import Identity, Membership, Timing
from celery_dispatch.core.ports import Command, Path
from celery_dispatch.core.report import NodeReport
from celery_dispatch.core.timeline import Item
from celery_dispatch.errors import StoreError, StoreUnavailable
from celery_dispatch.testing import (
    MemoryIntents,
    MemoryLedger,
    MemoryListener,
    MemoryOutbox,
    MemoryPool,
    MemoryRows,
    MemoryStore,
)
from tests.simulation.faulty import Faulty, Harm, Killed
from tests.simulation.loop import Loop
from tests.simulation.plan import Plan, Spec
from tests.simulation.ranks import SharedRing

__all__ = ["DRIFT", "Process", "Surroundings"]

_RETRY = 0.5  # seconds between tries to reach the broker at start, as in ``running.py``
_LONGEST_HOLD = 5.0  # seconds that a turn which was told to end may go on, as there
_QUICKEST = 0.001  # seconds that a turn takes at least
DRIFT = 2e-4  # by which the clock of a host may run fast or slow
_JITTER = 0.004  # seconds by which a loop may wake up late
_WAY = 0.002  # seconds that a message is on its way at most
_IDLE = 0.5  # a node with nothing to do asks for more: it looks for rows once a second
_HOT = 250  # turns within a second that no loop has a reason for


@dataclass(frozen=True)
class Surroundings:
    """What every process lives in; ``seen`` hears of each call on a port, ``wrong`` of what must not be."""

    plan: Plan
    loop: Loop
    store: MemoryStore
    seen: Callable[[Process, str, tuple[Any, ...], Any], None]
    wrong: Callable[[str], None]


class LocalClock:
    """The monotonic clock of one host: it began somewhere, and runs a little fast or slow."""

    def __init__(self, loop: Loop, random: Random) -> None:
        self._loop = loop
        self._start, self._rate = random.uniform(10, 1e6), 1 + random.uniform(-DRIFT, DRIFT)

    def monotonic(self) -> float:
        return self._start + self._loop.now * self._rate


class _Outbox(MemoryOutbox):
    """A message is "name|due|definition"."""

    def path(self, occurrence: Occurrence | None) -> Path:
        user_code = occurrence is not None and cast(Spec, occurrence.entry.payload).user_code
        return Path(self.same_store, user_code)

    def render(self, occurrence: Occurrence, *, now: datetime) -> tuple[Command, ...]:
        entry = occurrence.entry
        return (
            Command("LPUSH", self.queue, f"{entry.name}|{occurrence.due.isoformat()}|{entry.definition}"),
        )

    def sent(self, occurrence: Occurrence) -> None:
        """Stock beat logs here."""


class _Membership(Membership):
    """Tells of errors that the keeper would log and forget."""

    def __init__(self, *args: Any, wrong: Callable[[str], None], **parts: Any) -> None:
        super().__init__(*args, **parts)
        self._ring = SharedRing()
        self._wrong = wrong

    def beat(self) -> bool | None:
        try:
            return super().beat()
        except StoreError:
            raise
        except Exception as error:
            self._wrong(f"{self.identity.node}: the heartbeat raised {error!r}")
            raise


class Process:
    """Named by host and number of start, so that a process that was started again is another node."""

    def __init__(self, name: str, config: int, world: Surroundings) -> None:
        self.name, self.config = name, config
        self.catalog = world.plan.catalog(config)
        self.began, self.ended = world.loop.now, float("inf")
        self.paused_until = 0.0
        self.harms: list[Harm] = []
        self._world, self._loop, self._settings = world, world.loop, world.plan.settings
        self._random = Random(f"{world.plan.seed} {name}")
        self._beat_ticket = self._turn_ticket = 0
        self._beating = self._turning = self._woken = self._stopping = self._told_to_end = False
        self._beat_ended = -1.0
        self._beats_again = False
        self._hot = (0, 0)
        self._build(PoolClock(LocalClock(world.loop, self._random)))

    def _build(self, clock: PoolClock) -> None:
        settings, store = self._settings, self._world.store
        timing = Timing(
            *(timedelta(seconds=s) for s in (settings.interval, settings.lease, settings.handover))
        )
        outbox = _Outbox(store, same_store=settings.same_store)
        self._outbox: Any = self._faulty("outbox", outbox)
        self._listener = MemoryListener(store)
        self.membership = _Membership(
            Identity(self.name, f"host-{self.name[0]}", self.catalog.fingerprint, "shop"),
            pool=self._faulty("pool", MemoryPool(store)),
            clock=clock,
            timing=timing,
            info=dict,
            wrong=self._world.wrong,
        )
        self.node = Node(
            catalog=self.catalog,
            membership=self.membership,
            clock=clock,
            make=lambda name, definition: Spec.from_text(definition).entry,
            ledger=self._faulty("ledger", MemoryLedger(store)),
            rows=self._faulty("rows", MemoryRows(store)),
            intents=self._faulty("intents", MemoryIntents(store)),
            outbox=self._outbox,
            report=NodeReport({}),
            timing=timing,
            batch_size=500,
            at_most_once=False,
            new_token=lambda size: f"{self._random.getrandbits(8 * size):0{2 * size}x}",
            look_again=self.wake,
        )
        self._keeper = Keeper(
            self.membership,
            interval=timing.interval,
            listener=self._listener,
            on_view=self._turn_now,
            on_change=self._rows_changed,
        )

    def _faulty(self, name: str, port: object) -> Any:
        return Faulty(port, name, self, lambda *call: self._world.seen(self, *call))

    def item(self, name: str) -> Item | None:
        """What the node knows of an entry."""
        return self.node._timeline.get(name)

    def version(self, name: str) -> int:
        """Of the row that the node knows of an entry."""
        return self.node._catalog.version(name)

    def defines(self, name: str, definition: str) -> bool:
        entry = self.catalog.entries.get(name)
        return entry is not None and entry.definition == definition

    # --- its life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Join the pool as soon as the broker answers."""
        self._loop.task_at(self._loop.now, self._join)

    def _join(self) -> None:
        try:
            self._outbox.connect()
        except StoreUnavailable:
            self._loop.task_at(self._loop.now + _RETRY, self._join)
        except Killed:
            return
        else:
            self.membership.turned()
            self._beat_at(self._loop.now)
            self._turn_at(self._loop.now)
            self._listener.start(self._told, self._rows_changed)

    @property
    def dead(self) -> bool:
        return self._loop.now >= self.ended

    def kill(self) -> None:
        self.ended = min(self.ended, self._loop.now)
        self._listener.stop()

    def stop(self) -> None:
        """As by SIGTERM: it is heard when the turn is over, or has taken long (``undisturbed.py``)."""
        if self._turning:
            self._told_to_end = True
            self._loop.at(self._loop.now + _LONGEST_HOLD, self._leave_now)
        else:
            self._leave_now()

    def _leave_now(self) -> None:
        """The keeper says goodbye, whatever the loop is in the middle of."""
        if self._stopping or self.dead:
            return
        self._stopping = True
        self._beat_ticket += 1
        self._loop.at(self._loop.now + GOODBYE, self.kill)
        if not self._beating:
            self._loop.task_at(self._loop.now, self._leave)

    def _leave(self) -> None:
        try:
            self._keeper.leave()
        except Killed:
            return
        self.kill()

    def pause(self, seconds: float) -> None:
        self.paused_until = max(self.paused_until, self._loop.now + seconds)

    # --- what befalls it in a call --------------------------------------------------------------------------

    def travel(self) -> None:
        self._loop.wait(self._loop.now + self._random.random() * _WAY)

    def breathe(self, call: str) -> None:
        while not self.dead and self.paused_until > self._loop.now:
            self._loop.wait(self.paused_until)
        if self.dead or (self._stopping and not call.startswith("pool.")):
            raise Killed

    def harm_to(self, call: str) -> Harm | None:
        if not self.harms:
            return None
        now = self._loop.now
        self.harms = [harm for harm in self.harms if harm.until > now]
        return next((harm for harm in self.harms if harm.concerns(call, now)), None)

    def suffer(self, harm: Harm) -> None:
        if harm.once:
            self.harms.remove(harm)
        if harm.what == "kill":
            self.kill()
        elif harm.what == "pause":
            self.pause(harm.seconds)
        elif harm.seconds:
            self._loop.wait(self._loop.now + harm.seconds)

    # --- the keeper -----------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look at the pool now, or as soon as the beat that is under way is over."""
        if self._beating:
            self._beats_again = True
        elif not (self.dead or self._stopping):
            self._beat_at(max(self._loop.now, self._beat_ended + GATHER))

    def _told(self) -> None:
        if self._hears():
            self.wake()

    def _rows_changed(self) -> None:
        if self._hears():
            self.node.rows_changed()
            self._turn_now()

    def _hears(self) -> bool:
        """Whether wakes of the others reach it."""
        now = self._loop.now
        cut = any("pool" in harm.ports and harm.p >= 1 and harm.until > now for harm in self.harms)
        return self._settings.wakes and not cut and not self.dead

    def _beat_at(self, seconds: float) -> None:
        self._beat_ticket += 1
        ticket = self._beat_ticket
        self._loop.task_at(seconds, lambda: self._beat(ticket))

    def _beat(self, ticket: int) -> None:
        if self.dead or ticket != self._beat_ticket:
            return
        if self.paused_until > self._loop.now:
            self._beat_at(self.paused_until)
            return
        self._beating, self._beats_again = True, False
        try:
            delay = self._keeper.beat()
        except Killed:
            return
        finally:
            self._beating = False
        self._beat_ended = self._loop.now
        if self._stopping:
            self._leave()
        elif ticket == self._beat_ticket:
            self._beat_at(self._loop.now + (GATHER if self._beats_again else delay))

    # --- the loop -------------------------------------------------------------------------------------------

    def _turn_now(self) -> None:
        if self._turning:
            self._woken = True
        else:
            self._turn_at(self._loop.now)

    def _turn_at(self, seconds: float) -> None:
        self._turn_ticket += 1
        ticket = self._turn_ticket
        self._loop.task_at(seconds, lambda: self._turn(ticket))

    def _turn(self, ticket: int) -> None:
        if self.dead or self._stopping or ticket != self._turn_ticket:
            return
        if self.paused_until > self._loop.now:
            self._turn_at(self.paused_until)
            return
        self._turning, self._woken = True, False
        try:
            wait = self.node.turn()
        except Killed:
            return
        except Exception as error:
            self._world.wrong(f"{self.name}: turn() raised {error!r}")
            return
        finally:
            self._turning = False
            if self._told_to_end:
                self._leave_now()
        wait = 0.0 if self._woken else self._idle(wait)
        self._count()
        self._turn_at(self._loop.now + max(wait, _QUICKEST) + self._random.random() * _JITTER)

    def _idle(self, wait: float) -> float:
        if wait < _IDLE or self.membership.view is None:
            return wait
        alarm = self.node._timeline.next_alarm()
        if alarm is None:
            return self._settings.interval
        return min(max((alarm - self.node._clock.now()).total_seconds(), _IDLE), self._settings.interval)

    def _count(self) -> None:
        second = int(self._loop.now)
        turns = self._hot[1] + 1 if self._hot[0] == second else 1
        self._hot = (second, turns)
        if turns == _HOT:
            self._world.wrong(f"{self.name}: its loop turned {_HOT} times within a second")
