"""Sees every write to the store and every message, and holds them against the promises.

The rules are written down here a second time, from the design and not from the code: what is judged must not
be its own judge.  See the package's docstring for what each of them says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Claim, ClaimStatus, Intent, Settlement
from celery_dispatch.testing import MemoryStore
from tests.simulation.excuses import Excuses
from tests.simulation.grid import TICK
from tests.simulation.history import Eras, Harms, Knowledge, Loss, progress
from tests.simulation.loop import Loop
from tests.simulation.plan import Event, Plan
from tests.simulation.process import Process

__all__ = ["Occurrence", "Push", "Witness"]

Occurrence = tuple[str, datetime]
_GRACE = timedelta(days=1)
_PUNCTUAL = 0.25  # seconds that an occurrence may take in calm, and beyond the handover after one fault


@dataclass(frozen=True, slots=True)
class Push:
    """A message on the broker; ``cursor`` is the one whose claim it came from."""

    at: float
    lag: float
    cursor: Cursor


class Witness:
    """``wrong`` is what must not be, in words; the first is what matters."""

    def __init__(self, plan: Plan, loop: Loop, store: MemoryStore) -> None:
        self.wrong: list[str] = []
        self.trace: list[str] = []
        self.processes: list[Process] = []
        settings = plan.settings
        self.eras = Eras()
        self.harms = Harms()
        self.losses: list[Loss] = []
        self.pushes: dict[Occurrence, list[Push]] = {}
        self.owed: dict[Occurrence, Cursor] = {}  # claimed with an intent, and not sent yet
        self._plan, self._loop, self._store = plan, loop, store
        self._same_store = settings.same_store
        self._handover = timedelta(seconds=settings.handover)
        self._settling = timedelta(seconds=settings.lease + 2 * settings.interval)
        self._specs = {(spec.name, spec.definition): spec for config in plan.configs for spec in config}
        self._defined = [{(spec.name, spec.definition) for spec in config} for config in plan.configs]
        self._cursors: dict[str, Cursor] = {}  # as the store has them
        self._best: dict[str, Cursor] = {}  # the furthest that each ever was
        self._events: list[Event] = []
        self._excuses = Excuses(
            plan,
            loop,
            harms=self.harms,
            losses=self.losses,
            processes=self.processes,
            best=self._best,
            events=self._events,
        )

    def say(self, words: str) -> None:
        self.trace.append(f"{self._loop.now:10.3f}  {words}")

    def complain(self, words: str) -> None:
        """Note what must not be; the run ends with it."""
        pool = self._store.now().isoformat(timespec="milliseconds")
        self.wrong.append(f"at {self._loop.now:.3f} s ({pool} by the pool's clock): {words}")
        self.say(f"WRONG: {words}")
        self._loop.stopped = True

    def happens(self, event: Event) -> None:
        """It is about to."""
        self._events.append(event)
        self.say(str(event).strip())

    # --- what is seen ---------------------------------------------------------------------------------------

    def seen(self, process: Process, call: str, args: tuple[Any, ...], result: Any) -> None:
        """A call on a port was carried out."""
        if call == "ledger.claim":
            self._claimed(process, args[0], args[1])
        elif call.startswith("pool."):
            self.look()
        elif call == "intents.settle":
            self._settled(process, args[0], result)

    def look(self) -> None:
        """Note the config in force, and whether a recovery is over."""
        store = self._store
        for loss in self.losses:
            if loss.ended is None:
                loss.recovering = loss.recovering or store.recovery
                if loss.recovering and not store.recovery:
                    loss.ended = self._loop.now
                    self.say("the pool has recovered")
        if store.recovery:
            return
        fence = self.eras.look(store.fence, store.now(), swept=store.swept)
        if fence is not None:
            self.say(f"config {fence.config} is in force from {fence.since.isoformat()}")

    def message(self, text: str) -> None:
        """A message arrived on the broker."""
        name, instant, definition = text.split("|")
        due = datetime.fromisoformat(instant)
        occurrence, now = (name, due), self._store.now()
        self.say(f"message {name} {due.time().isoformat()}")
        before = self.pushes.setdefault(occurrence, [])
        cursor = self.owed.pop(occurrence, None) or (before[-1].cursor if before else None)
        push = Push(self._loop.now, (now - due).total_seconds(), cursor or self._best.get(name) or _none(due))
        if due > now and cursor is None:  # else it was claimed before the clock was put back
            self.complain(f"{name} {due} was sent before it was due")
        if not self._belongs(name, definition, due):
            self.complain(
                f"{name} {due} was sent under definition {definition!r}, which was not in force at its due"
            )
        if before and not self._excuses.repetition(occurrence, before[-1]):
            self.complain(
                f"{name} {due} was sent again; it was sent {self._loop.now - before[-1].at:.3f} s ago"
            )
        before.append(push)

    # --- claims ---------------------------------------------------------------------------------------------

    def _claimed(self, process: Process, fence: Fence, claims: Sequence[Claim]) -> None:
        recovery = self._store.recovery
        for claim in claims:
            new, old = self._store.cursors.get(claim.name), self._cursors.get(claim.name)
            if new == old:
                continue
            best = self._best.get(claim.name)
            self._note(claim.name, new)  # type: ignore[arg-type]
            if recovery and isinstance(new, Cursor):
                self._put_back(process, claim.name, old, new, best)
            elif isinstance(new, Cursor):
                self._moved(process, fence, claim, old, new)
            elif old is not None and not (
                old.is_tombstone and self._store.now() - old.effective_from > _GRACE
            ):
                self.complain(f"the cursor of {claim.name} was removed within the grace")

    def _note(self, name: str, cursor: Cursor | None) -> None:
        if cursor is None:
            self._cursors.pop(name, None)
            self._best.pop(name, None)
            return
        self._cursors[name] = cursor
        best = self._best.get(name)
        if best is None or progress(cursor) > progress(best):
            self._best[name] = cursor

    def _put_back(
        self, process: Process, name: str, old: Cursor | None, new: Cursor, best: Cursor | None
    ) -> None:
        self.say(f"{process.name} puts {name} back to {new.due.time().isoformat()}")
        if old is not None and progress(new) < progress(old):
            self.complain(f"{process.name} put {name} back to {new}, which is behind {old}")
        if best is None or progress(new) > progress(best):
            self.complain(f"{process.name} put {name} back to {new}, where it never was: at best at {best}")

    def _moved(self, process: Process, fence: Fence, claim: Claim, old: Cursor | None, new: Cursor) -> None:
        name = claim.name
        if old is not None and progress(new) < progress(old):
            self.complain(f"the cursor of {name} went back from {old} to {new}, written by {process.name}")
        elif claim.undoes is not None:
            self._undone(name, claim.undoes)
        elif old is None or (old.is_tombstone and new.fired + new.skipped == 0):
            self._anchored(process, name, old, new, fence)
        else:
            if new.definition != old.definition:
                self._left_behind(name, old, new.effective_from)
            if new.fired + new.skipped > old.fired + old.skipped:
                self._advanced(process, claim, old, new)

    def _advanced(self, process: Process, claim: Claim, old: Cursor, new: Cursor) -> None:
        """Everything between the two cursors was fired or counted, and was this definition's to fire."""
        name, spec = claim.name, self._specs[claim.name, new.definition]
        fired, skipped = new.fired - old.fired, new.skipped - old.skipped
        self.say(f"{process.name} claims {name} {new.due.time().isoformat()} (+{fired}, skips {skipped})")
        base = max(old.due, new.effective_from - TICK)
        dues = spec.grid.count(old.due, after=base, until=new.due)
        if fired not in (0, 1) or dues != fired + skipped:
            self.complain(
                f"{name} went from {old} to {new}, which accounts for {fired + skipped} of {dues} dues"
            )
        if new.due > self._store.now():
            self.complain(f"{name} {new.due} was claimed before it was due")
        first = spec.grid.following(old.due, base)
        lag = (self._store.now() - first).total_seconds()
        late = lag > self._handover.total_seconds()
        if lag > _PUNCTUAL and not self._is_late_for_a_reason(lag):
            self.complain(f"{name} {first} was claimed {lag:.3f} s late, though somebody could have done it")
        if skipped and (spec.catch_up == "all" or not late):
            self.complain(
                f"{skipped} occurrences of {name} from {first} on were skipped under {spec.catch_up}"
            )
        for due in (first, new.due):
            if not self._belongs(name, new.definition, due):
                self.complain(
                    f"{name} {due} was dealt with under {new.definition!r}, not in force at its due"
                )
        if fired:
            self._sent_or_owed(name, claim, new)

    def _is_late_for_a_reason(self, lag: float) -> bool:
        since = self._store.now() - timedelta(seconds=lag) - self._settling
        fence = self.eras.fences[-1]
        helped = lag <= self._handover.total_seconds() + _PUNCTUAL
        return fence.since >= since or self._excuses.late(fence.config, lag, helped=helped)

    def _sent_or_owed(self, name: str, claim: Claim, new: Cursor) -> None:
        occurrence = (name, new.due)
        pushes = self.pushes.get(occurrence, [])
        if claim.intent is not None:
            self.owed[occurrence] = new
        elif not pushes or pushes[-1].at != self._loop.now:
            self.complain(f"{name} {new.due} was claimed and its message was not pushed with it")
        else:
            pushes[-1] = Push(pushes[-1].at, pushes[-1].lag, new)

    def _undone(self, name: str, intent: Intent) -> None:
        occurrence = (name, intent.due)
        if self.owed.pop(occurrence, None) is None and occurrence in self.pushes:
            self.complain(f"{name} {intent.due} was given back though its message was sent")

    def _anchored(self, process: Process, name: str, old: Cursor | None, new: Cursor, fence: Fence) -> None:
        """A name begins; if it was there before, what it had been due for since must be excused."""
        self.say(f"{process.name} anchors {name} at {new.due.isoformat()}")
        if old is not None and fence.since - old.effective_from <= _GRACE:
            self.complain(f"{name} began anew within the grace")
        if old is None and new.due > fence.since and not self._excuses.late_anchor(name):
            self.complain(f"{name} begins at {new.due}, long after its config: what was due since is lost")

    def _left_behind(self, name: str, old: Cursor, since: datetime) -> None:
        """Another definition goes on from ``since``: nothing of the one before it may be open."""
        spec = self._specs.get((name, old.definition))
        if spec is None:
            return
        due = spec.grid.following(old.due, max(old.due, old.effective_from - TICK))
        while due < since and not self._belongs(name, old.definition, due):
            due = spec.grid.following(old.due, due)
        if due < since and not self._excuses.left_behind(name, old.definition):
            self.complain(f"{name} {due} belongs to {old.definition!r} and was not fired before {since}")

    def _belongs(self, name: str, definition: str, due: datetime) -> bool:
        return any((name, definition) in self._defined[int(config[1:])] for config in self.eras.at(due))

    # --- intents --------------------------------------------------------------------------------------------

    def _settled(self, process: Process, settlements: Sequence[Settlement], results: Sequence[Any]) -> None:
        for settlement, result in zip(settlements, results):
            intent = settlement.intent
            occurrence = (intent.name, intent.due)
            if result.status is not ClaimStatus.WON or self.owed.pop(occurrence, None) is None:
                continue
            self.say(f"{process.name} drops {intent.name} {intent.due.time().isoformat()}")
            if not self._excuses.dropped(intent):
                self.complain(f"{intent.name} {intent.due} was claimed and dropped, though it could be made")

    # --- what the store lost --------------------------------------------------------------------------------

    def lost(self) -> None:
        """The store has less than it had a moment ago."""
        store = self._store
        intents = {(i.name, i.due) for i in store.intents.values() if isinstance(i, Intent)}
        knowledge = [self._knowledge(process) for process in self.processes if not process.dead]
        gone = frozenset(self.owed.keys() - intents)
        for occurrence in gone:
            del self.owed[occurrence]
        back = frozenset(intents - self.owed.keys())
        self.losses.append(Loss(self._loop.now, store.now(), knowledge, back, gone))
        self._cursors = {n: c for n, c in store.cursors.items() if isinstance(c, Cursor)}

    def reset(self, name: str) -> None:
        """A person has set the cursor of an entry back: what it had fired since may be fired again."""
        cursor = self._store.cursors[name]
        assert isinstance(cursor, Cursor)
        self._cursors[name] = self._best[name] = cursor
        self._excuses.resets.append((name, self._loop.now))

    def _knowledge(self, process: Process) -> Knowledge:
        cursors = {item.entry.name: item.cursor for item in process.node._timeline if item.attempt is None}
        return Knowledge(process, cursors, frozenset(process.node._delivery._published))


def _none(due: datetime) -> Cursor:
    return Cursor(due, "", due)
