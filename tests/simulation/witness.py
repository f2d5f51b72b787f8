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
from celery_dispatch.core.ports import Change, Claim, ClaimStatus, Damaged, Intent, Settlement
from celery_dispatch.core.rows import ALL, Pause, Row
from celery_dispatch.testing import MemoryStore
from tests.simulation.excuses import Excuses
from tests.simulation.grid import TICK
from tests.simulation.history import Eras, Harms, Knowledge, Loss, progress
from tests.simulation.loop import Loop
from tests.simulation.plan import Event, Plan, Spec
from tests.simulation.process import DRIFT, Process

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
        self._punctual = _PUNCTUAL + 3 * settings.interval * DRIFT  # as old as a reading may be
        self._handover = timedelta(seconds=settings.handover)
        self._until_heard = 2 * settings.interval + settings.handover  # of what is said at run time
        self._settling = timedelta(seconds=settings.lease + 2 * settings.interval)
        self._specs = {(spec.name, spec.definition): spec for config in plan.configs for spec in config}
        self._defined = [{(spec.name, spec.definition) for spec in config} for config in plan.configs]
        self.rows: dict[str, Row] = {}  # as the store has them, by name
        self._row_since: dict[str, float] = {}
        self._by_row: set[tuple[str, str]] = set()  # every definition that was ever in a row
        self._created: set[str] = set()  # every name that one defined
        self._floor = 0
        self._confirmed: dict[str, set[Occurrence]] = {}  # what each process knows to be on another broker
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
        elif call in ("rows.put_back", "rows.retire"):
            self._look_at_rows(call)

    def look(self) -> None:
        """Note the config in force, and whether a recovery is over."""
        store = self._store
        for loss in self.losses:
            if loss.ended is None:
                loss.recovering = loss.recovering or store.recovery
                if loss.recovering and not store.recovery:
                    loss.ended = self._loop.now
                    self.say("the pool has recovered")
                    self._all_rows_are_back(loss)
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
        spec = self._specs[name, definition]
        lag = (now - spec.entry.fires_at(due)).total_seconds()
        push = Push(self._loop.now, lag, cursor or self._best.get(name) or _none(due))
        if due > now and cursor is None:  # else it was claimed before the clock was put back
            self.complain(f"{name} {due} was sent before it was due")
        if not self._belongs(spec, definition, due):
            self.complain(
                f"{name} {due} was sent under definition {definition!r}, which was not in force at its due"
            )
        self._is_wanted(name, occurrence)
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
        elif old is None or (old.is_tombstone and new.fired + new.skipped == 0 and new.due != old.due):
            self._anchored(process, name, old, new, fence)
        else:
            if new.definition != old.definition and name not in self._created:
                self._left_behind(name, old, new.effective_from)
            if new.fired + new.skipped > old.fired + old.skipped:
                self._advanced(process, claim, old, new)

    def _advanced(self, process: Process, claim: Claim, old: Cursor, new: Cursor) -> None:
        """Everything between the two cursors was fired or counted, and was this definition's to fire."""
        name, spec = claim.name, self._specs[claim.name, new.definition]
        fired, skipped = new.fired - old.fired, new.skipped - old.skipped
        self.say(f"{process.name} claims {name} {new.due.time().isoformat()} (+{fired}, skips {skipped})")
        dues = self._dues(spec, old, new)
        if fired not in (0, 1) or len(dues) != fired + skipped:
            self.complain(
                f"{name} went from {old} to {new}, which accounts for {fired + skipped} of {len(dues)} dues"
            )
            return
        if max(new.due, self._fires_at(spec, claim, new)) > self._store.now():
            self.complain(f"{name} {new.due} was claimed before it was due")
        first = dues[0]
        opened = self._opened(spec, old, new, first)
        lag = (self._store.now() - opened).total_seconds()
        late = lag > self._handover.total_seconds()
        if lag > self._punctual and not self._is_late_for_a_reason(name, lag):
            self.complain(f"{name} {first} was claimed {lag:.3f} s late, though somebody could have done it")
        self._is_not_paused(name, new, dues, fired)
        unpaused = sum(not self._is_paused(name, due) for due in dues) - fired
        if unpaused > 0 and (spec.catch_up == "all" or not late):
            self.complain(
                f"{unpaused} occurrences of {name} from {first} on were skipped under {spec.catch_up}"
            )
        for due in (first, new.due):
            if not self._belongs(spec, new.definition, due):
                self.complain(
                    f"{name} {due} was dealt with under {new.definition!r}, not in force at its due"
                )
        if (name, new.definition) in self._by_row and self.rows[name].hash != new.definition:
            self.complain(f"{name} {new.due} was claimed under {new.definition!r}, which was replaced")
        if fired:
            self._sent_or_owed(name, claim, new)

    def _dues(self, spec: Spec, old: Cursor, new: Cursor) -> list[datetime]:
        """What a claim deals with: all from one cursor to the next that is fired under its definition."""
        if spec.polled:
            asked = max(old.due + timedelta(seconds=spec.every), old.due + TICK)
            return [new.due] if new.due >= asked - TICK else []
        grid, found = spec.grid, list[datetime]()
        earliest = new.effective_from - TICK - timedelta(seconds=spec.jitter)
        due = grid.following(old.due, max(old.due, earliest))
        while due <= new.due:
            if spec.entry.fires_at(due) >= new.effective_from:
                found.append(due)
            due = grid.following(old.due, due)
        return found

    def _opened(self, spec: Spec, old: Cursor, new: Cursor, first: datetime) -> datetime:
        """When the first of them could be claimed."""
        if spec.polled:
            return max(old.due + timedelta(seconds=spec.every), new.effective_from)
        return spec.entry.fires_at(first)

    def _fires_at(self, spec: Spec, claim: Claim, new: Cursor) -> datetime:
        """When its occurrence is to be fired by the claim: by less than its jitter later than its due."""
        instant = claim.not_before or new.due
        if not new.due <= instant <= new.due + timedelta(seconds=spec.jitter):
            self.complain(f"{claim.name} {new.due} is to be fired at {instant}, by more than its jitter")
        if instant != spec.entry.fires_at(new.due):
            self.complain(f"{claim.name} {new.due} is to be fired at {instant}, not as everywhere else")
        return instant

    def _is_late_for_a_reason(self, name: str, lag: float) -> bool:
        changed = max(self._row_since.get(it, 0.0) for it in (name, ALL))
        if changed >= self._loop.now - lag - self._until_heard:
            return True
        since = self._store.now() - timedelta(seconds=lag) - self._settling
        fence = self.eras.fences[-1]
        helped = lag <= self._handover.total_seconds() + self._punctual
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

    # --- what is said at run time ---------------------------------------------------------------------------

    def written(self, change: Change) -> None:
        """A change of rows was carried out, or was found to have been."""
        name, store = change.name, self._store
        if store.rows.get(name) == self.rows.get(name):
            return
        self._look_at_rows("change")
        old, new = self._cursors.get(name), store.cursors.get(name)
        if name != ALL and not isinstance(new, Cursor):
            self.complain(f"{name} was changed and has no cursor: {new}")
        elif isinstance(new, Cursor):
            if old is not None and progress(new) <= progress(old):
                self.complain(f"the change of {name} left its cursor as it was: {old}, {new}")
            self._note(name, new)
        if change.drops_intents:
            for occurrence in [occurrence for occurrence in self.owed if occurrence[0] == name]:
                del self.owed[occurrence]

    def _look_at_rows(self, why: str) -> None:
        """Note what is stored now; the version of a row grows, but for what the store loses."""
        store = self._store
        self._floor = max(self._floor, store.catalog_floor)
        for name in sorted(store.rows.keys() | self.rows.keys()):
            old, new = self.rows.get(name), store.rows.get(name)
            if new == old:
                continue
            assert not isinstance(new, Damaged)
            self._row_since[name] = self._loop.now
            self.say(f"{why}: the row of {name or 'all'} is {_said(new)}")
            if new is None:
                self.rows.pop(name)
                self._cursors.pop(name, None)
                if old is not None and old.version > store.catalog_floor and why == "rows.retire":
                    self.complain(f"the row of {name} was removed, and the floor is {store.catalog_floor}")
                continue
            if old is not None and new.version <= old.version:
                self.complain(f"the row of {name} went back from {old} to {new}")
            self.rows[name] = new
            if new.definition:
                spec = Spec.from_text(new.definition)
                self._specs[name, new.hash] = spec
                self._by_row.add((name, new.hash))
                self._created.add(name)

    def _all_rows_are_back(self, loss: Loss) -> None:
        for name, row in loss.remembered_rows(self.harms, self._loop.now).items():
            stored = self._store.rows.get(name)
            version = stored.version if isinstance(stored, Row) else 0
            if version < row.version and row.version > self._floor:
                self.complain(f"the row {row} of {name} was known, and {stored} is stored after the recovery")

    def _pauses(self, name: str) -> list[Pause]:
        rows = (self.rows.get(name), self.rows.get(ALL))
        return [row.pause for row in rows if row is not None and row.pause is not None]

    def _is_paused(self, name: str, due: datetime) -> bool:
        return any(pause.until is None or pause.since <= due < pause.until for pause in self._pauses(name))

    def _is_not_paused(self, name: str, new: Cursor, dues: Sequence[datetime], fired: int) -> None:
        if fired and self._is_paused(name, new.due):
            self.complain(f"{name} {new.due} was fired though it is paused: {self._pauses(name)}")

    def _is_wanted(self, name: str, occurrence: Occurrence) -> None:
        """Nothing of an entry is sent after it was removed or paused; on another broker, a handover after."""
        row, now = self.rows.get(name), self._loop.now
        removed = row is not None and not row.definition and name in self._created
        if row is None or not (removed or row.is_paused):
            return
        since = self._row_since[name]
        in_time = not self._same_store and now - since <= self._handover.total_seconds()
        if not in_time and not self._excuses.unwanted(occurrence, since):
            self.complain(
                f"{name} {occurrence[1]} was sent {now - since:.3f} s after it was removed or paused"
            )

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
        if spec is None or spec.polled:
            return
        due = spec.grid.following(old.due, max(old.due, old.effective_from - TICK))
        while due < since and not self._belongs(spec, old.definition, due):
            due = spec.grid.following(old.due, due)
        fires_at = spec.entry.fires_at(due)
        if fires_at < since and not self._excuses.left_behind(name, old.definition):
            self.complain(f"{name} {due} belongs to {old.definition!r} and was not fired before {since}")

    def _belongs(self, spec: Spec, definition: str, due: datetime) -> bool:
        """Whether it is in force when that occurrence is to be fired."""
        if (spec.name, definition) in self._by_row:
            return True
        configs = self.eras.at(spec.entry.fires_at(due))
        return any((spec.name, definition) in self._defined[int(config[1:])] for config in configs)

    # --- intents --------------------------------------------------------------------------------------------

    def _settled(self, process: Process, settlements: Sequence[Settlement], results: Sequence[Any]) -> None:
        for settlement, result in zip(settlements, results):
            intent = settlement.intent
            occurrence = (intent.name, intent.due)
            if not self._same_store and occurrence in self.pushes:
                self._confirmed.setdefault(process.name, set()).add(occurrence)
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
        self.rows = {}
        self._look_at_rows("the store has")

    def reset(self, name: str) -> None:
        """A person has set the cursor of an entry back: what it had fired since may be fired again."""
        cursor = self._store.cursors[name]
        assert isinstance(cursor, Cursor)
        self._cursors[name] = self._best[name] = cursor
        self._excuses.resets.append((name, self._loop.now))

    def _knowledge(self, process: Process) -> Knowledge:
        cursors = {item.entry.name: item.cursor for item in process.node._timeline if item.attempt is None}
        confirmed = self._confirmed.get(process.name, set())
        sent = frozenset(process.node._delivery._published if self._same_store else confirmed)
        return Knowledge(process, cursors, process.node._catalog.rows, sent)


def _said(row: Row | None) -> str:
    if row is None:
        return "gone"
    paused = "" if row.pause is None else f", paused since {row.pause.since.time()} until {row.pause.until}"
    return f"version {row.version}, {row.hash or 'defines nothing'}{paused}"


def _none(due: datetime) -> Cursor:
    return Cursor(due, "", due)
