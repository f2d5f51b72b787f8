"""Carries a plan out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any

from celery_dispatch.core.entry import Cursor
from celery_dispatch.errors import StoreError
from celery_dispatch.testing import MemoryPool, MemoryStore
from tests.simulation.editor import Editor
from tests.simulation.ending import ending
from tests.simulation.faulty import Harm
from tests.simulation.grid import EPOCH
from tests.simulation.loop import Loop
from tests.simulation.plan import Event, Plan
from tests.simulation.process import Process, Surroundings
from tests.simulation.witness import Witness

__all__ = ["Outcome", "run"]

_ALL = ("pool", "ledger", "rows", "intents", "outbox")
_ANCHOR_WINDOW = timedelta(seconds=60)  # as in core/loading.py
_FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Outcome:
    """``wrong``: what must not be; ``hours`` were simulated, and ``fired`` messages sent in them."""

    plan: Plan
    wrong: tuple[str, ...]
    trace: tuple[str, ...]
    hours: float
    fired: int
    repeated: int
    switches: int
    recoveries: int


def run(plan: Plan) -> Outcome:
    """Let the plan happen; ends at the first thing that is wrong."""
    simulation = _Simulation(plan)
    simulation.go()
    witness = simulation.witness
    counts = [len(pushes) for pushes in witness.pushes.values()]
    return Outcome(
        plan=plan,
        wrong=tuple(witness.wrong),
        trace=tuple(witness.trace),
        hours=simulation.loop.now / 3600,
        fired=len(counts),
        repeated=sum(counts) - len(counts),
        switches=len(witness.eras.fences),
        recoveries=len(witness.losses),
    )


class _Queue(list):  # type: ignore[type-arg]
    """Tells of each message, and keeps none."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def append(self, message: str) -> None:
        self._tell(message)


class _Simulation:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.loop = Loop(Random(f"{plan.seed} order"))
        self._store = MemoryStore(self.loop, start=EPOCH)  # type: ignore[arg-type]
        self.witness = Witness(plan, self.loop, self._store)
        self._store.queues["celery"] = _Queue(self.witness.message)
        self._world = Surroundings(plan, self.loop, self._store, self._seen, self.witness.complain)
        self._editor = Editor(plan, self.loop, self._store, self.witness.written)
        self._saved: dict[int, dict[str, Any]] = {}
        self._harming = False

    def _seen(self, process: Process, call: str, args: tuple[Any, ...], result: Any) -> None:
        self.witness.seen(process, call, args, result)

    def go(self) -> None:
        for number, event in enumerate(self.plan.events):
            if event.what == "restore":
                self.loop.at(event.at - event.seconds, lambda number=number: self._save(number))
            self.loop.at(event.at, lambda number=number, event=event: self._let(number, event))
        self.loop.run(self.plan.until)
        if not self.witness.wrong:
            for words in ending(self.plan, self._store, self.witness):
                self.witness.complain(words)

    def _let(self, number: int, event: Event) -> None:
        self.witness.happens(event)
        getattr(self, f"_{event.what}")(number, event)

    # --- processes ------------------------------------------------------------------------------------------

    def _find(self, name: str) -> Process | None:
        """The process of that name, if it lives."""
        return next((it for it in self.witness.processes if it.name == name and not it.dead), None)

    def _start(self, _: int, event: Event) -> None:
        """``detail``: which config it runs."""
        if any(it.name == event.node for it in self.witness.processes):
            return
        process = Process(event.node, int(event.detail), self._world)
        self.witness.processes.append(process)
        process.start()

    def _stop(self, _: int, event: Event) -> None:
        if process := self._find(event.node):
            process.stop()

    def _kill(self, _: int, event: Event) -> None:
        if process := self._find(event.node):
            self._harm(event, _FOREVER)
            process.kill()

    def _pause(self, _: int, event: Event) -> None:
        if process := self._find(event.node):
            self._harm(event, event.seconds)
            process.pause(event.seconds)

    def _cut(self, number: int, event: Event) -> None:
        """From store and broker."""
        self._line(number, event, _ALL, "before", 1.0)

    def _nobroker(self, number: int, event: Event) -> None:
        """One node cannot reach the broker; the store it can, where that is another."""
        self._line(number, event, ("outbox",), "before", 1.0)

    def _deaf(self, number: int, event: Event) -> None:
        """What it asks for is done; the replies are lost."""
        self._line(number, event, _ALL, "after", 1.0)

    def _flaky(self, number: int, event: Event) -> None:
        """``detail``: the moment (before, after) and the part of its calls that is lost then."""
        moment, _, part = event.detail.partition(" ")
        self._line(number, event, _ALL, moment, float(part))

    def _line(self, number: int, event: Event, ports: tuple[str, ...], moment: str, p: float) -> None:
        process = self._find(event.node)
        if process is None:
            return
        self._harm(event, event.seconds)
        until = self.loop.now + event.seconds
        random = Random(f"{self.plan.seed} {event}")
        process.harms.append(Harm(ports, moment, "lose", until, p=p, seconds=0.05, random=random))

    def _point(self, _: int, event: Event) -> None:
        """``detail``: at which call, at which moment, what: ``ledger.claim after kill``.

        ``seconds``: how long it is stopped, or waits for the reply that is lost.
        """
        process = self._find(event.node)
        if process is None:
            return
        call, moment, what = event.detail.split()
        self._harm(event, _FOREVER if what == "kill" else event.seconds + self.plan.settings.lease)
        until = self.loop.now + self.plan.settings.lease
        process.harms.append(Harm((call,), moment, what, until, seconds=event.seconds, once=True))

    def _drain(self, _: int, event: Event) -> None:
        self._set_draining(event.node, True)

    def _undrain(self, _: int, event: Event) -> None:
        self._set_draining(event.node, False)

    def _set_draining(self, node: str, draining: bool) -> None:
        try:
            MemoryPool(self._store).drain(node, draining)
        except StoreError as error:
            self.witness.say(str(error))

    # --- the store ------------------------------------------------------------------------------------------

    def _down(self, _: int, event: Event) -> None:
        self._harm(event, event.seconds)
        self._store.available = False
        self.loop.at(self.loop.now + event.seconds, self._up)

    def _up(self) -> None:
        self._store.available = True
        self._store.restart()

    def _away(self, _: int, event: Event) -> None:
        """Nobody reaches the store, which goes on."""
        self._harm(event, event.seconds)
        self._store.available = False
        self.loop.at(self.loop.now + event.seconds, lambda: setattr(self._store, "available", True))

    def _broker(self, _: int, event: Event) -> None:
        """The broker is away from everybody."""
        self._harm(event, event.seconds)
        self._store.broker_available = False
        self.loop.at(self.loop.now + event.seconds, lambda: setattr(self._store, "broker_available", True))

    def _restart(self, _: int, event: Event) -> None:
        self._store.restart()

    def _flush(self, _: int, event: Event) -> None:
        self._store.flush()
        self.witness.lost()

    def _save(self, number: int) -> None:
        kept = {
            "clock",
            "available",
            "broker_available",
            "server",
            "queues",
            "published",
            "listeners",
            "followers",
        }
        saved = {
            name: value for name, value in vars(self._store).items() if name[0] != "_" and name not in kept
        }
        self._saved[number] = {name: _copy(value) for name, value in saved.items()}

    def _restore(self, number: int, event: Event) -> None:
        """The store is another server, with what it held ``seconds`` ago."""
        if number not in self._saved:
            return
        vars(self._store).update({name: _copy(value) for name, value in self._saved[number].items()})
        self._store.restart()
        self.witness.lost()

    def _forget(self, _: int, event: Event) -> None:
        """One cursor is gone: that of the entry ``detail``.

        Not while the pool recovers, for those who have merged look again only when all is well; nor while it
        could be that of a new name, which a node that has just come would anchor where its config began.
        """
        fence = self._store.fence
        if self._store.recovery or fence is None or self._store.now() - fence.since < _ANCHOR_WINDOW:
            return
        if self._store.cursors.pop(event.detail, None) is not None:
            self.witness.lost()

    def _reset(self, _: int, event: Event) -> None:
        """By command, as one whose cursor lies in the future needs it: the entry goes on from now."""
        cursor = self._store.cursors.get(event.detail)
        now = self._store.now().replace(microsecond=0)
        if isinstance(cursor, Cursor) and not cursor.is_tombstone and cursor.due > now:
            self._store.cursors[event.detail] = replace(cursor, due=now, revision=cursor.revision + 1)
            self.witness.reset(event.detail)

    # --- what is changed at run time ------------------------------------------------------------------------

    def _create(self, _: int, event: Event) -> None:
        self._editor.edit(event)

    _update = _delete = _hold = _release = _create

    def _step(self, _: int, event: Event) -> None:
        """The store's clock is put forward, or back."""
        self._harm(event, abs(event.seconds))
        self._store.step(event.seconds)

    # --- what is noted --------------------------------------------------------------------------------------

    def _harm(self, event: Event, seconds: float) -> None:
        """Whoever it befalls is excused until it is over, and until it has found its place again."""
        lease = self.plan.settings.lease
        self.witness.harms.note(event.node, event.at, event.at + seconds + lease)


def _copy(value: Any) -> Any:
    return value.copy() if isinstance(value, (dict, set)) else value
