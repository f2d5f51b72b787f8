"""Putting what a reader found into the pool, so that the first fire here is the other scheduler's next one.

The other scheduler must have been stopped, for what it sends after its store was read is not known here.

=================================  =========================================================================
the name                           what becomes of it
=================================  =========================================================================
this app's ``beat_schedule``       the definition stays the config's; its cursor is put at the last due, also
has it                             before a first beat ever ran.  Not where this pool has fired or skipped
                                   an occurrence already: it would be fired again.  One that was disabled
                                   is paused instead
exists at run time                 the same, so that an import may be repeated until the first beat starts
is new                             an entry is created, anchored at the last due; one that was disabled
                                   begins paused, and now
cannot be carried over             refused, with the reason
=================================  =========================================================================

A cursor is written if it is still the one that was read: a node that was faster has won.  Dying in between
leaves each entry moved or not, and the import is repeated.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Protocol

from celery_dispatch.core.clock import whole_ms
from celery_dispatch.core.entry import Cursor, Entry
from celery_dispatch.core.ports import Stored
from celery_dispatch.core.recurrence import Nominal
from celery_dispatch.errors import EntryError
from celery_dispatch.manage.moving.found import Found
from celery_dispatch.manage.moving.snapping import snapped

__all__ = ["Creation", "Importer", "Move", "Step", "Target"]

_BATCH = 500
_MILLISECOND = timedelta(milliseconds=1)


class Step(Enum):
    CREATE = "create"  #: a new entry, anchored at the last due
    CURSOR = "cursor"  #: an entry that is here already goes on from the last due
    PAUSE = "pause"  #: an entry that is here already is paused, for it was disabled
    KEEP = "keep"  #: it stays as it is here
    REFUSE = "refuse"  #: it cannot be carried over


@dataclass(frozen=True, slots=True)
class Move:
    """What becomes of one entry; ``due`` is where its cursor is put, ``next_due`` the first to be fired.

    ``why`` says why it is kept or refused; ``expected`` is its cursor as it was read.
    """

    found: Found
    step: Step
    entry: Entry | None = None
    due: datetime | None = None
    next_due: datetime | None = None
    why: str = ""
    expected: Cursor | None = None

    @property
    def name(self) -> str:
        return self.found.name


@dataclass(frozen=True, slots=True)
class Creation:
    """An entry to be created at run time that begins at ``due``, paused if it was."""

    name: str
    definition: Mapping[str, Any]
    due: datetime
    paused: bool


class Target(Protocol):
    """Where entries are moved to."""

    def existing(self, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """The definitions of those of ``names`` that exist at run time; empty where one cannot be read."""
        ...

    def entry(self, name: str, definition: Mapping[str, Any]) -> Entry:
        """The entry that this would be; raises ``EntryError``."""
        ...

    def create(self, creations: Sequence[Creation]) -> Mapping[str, str]:
        """Create them; those that could not be, each with the reason."""
        ...

    def pause(self, names: Sequence[str]) -> Mapping[str, str]:
        """Pause them; those that could not be, each with the reason."""
        ...

    def plant(self, cursors: Mapping[str, tuple[Cursor | None, Cursor]]) -> set[str]:
        """Write each cursor that is still as it was read; the names of those that were."""
        ...


@dataclass(frozen=True)
class Importer:
    """Moves entries in; ``configured`` are those of this app's ``beat_schedule``, ``broken`` its wrong ones.

    ``read`` reads cursors.
    """

    target: Target
    read: Callable[[Sequence[str]], Sequence[Stored]]
    configured: Mapping[str, Entry]
    broken: Mapping[str, str]
    now: Callable[[], datetime]

    # --- what would be done ---------------------------------------------------------------------------------

    def plan(self, found: Iterable[Found]) -> tuple[Move, ...]:
        """What would become of each, by name; writes nothing."""
        listed = sorted(found, key=lambda each: each.name)
        names = [each.name for each in listed]
        there = self.target.existing(names)
        return tuple(self._planned(each, there, stored) for each, stored in zip(listed, self.read(names)))

    def _planned(self, found: Found, there: Mapping[str, Mapping[str, Any]], stored: Stored) -> Move:
        name = found.name
        if name in self.configured:
            return self._planned_cursor(found, self.configured[name], stored)
        if name in self.broken:
            return Move(found, Step.REFUSE, why=f"beat_schedule has it, in error: {self.broken[name]}")
        definition = there.get(name, found.definition)
        if definition is None:
            return Move(found, Step.REFUSE, why=found.refusal)
        try:
            entry = self.target.entry(name, definition)
            if name in there:
                return self._planned_cursor(found, entry, stored)
            return self._going_on(found, Step.CREATE, entry, stored)
        except EntryError as error:
            return Move(found, Step.REFUSE, why=str(error))
        except Exception as error:  # schedules run user code
            return Move(found, Step.REFUSE, why=repr(error))

    def _planned_cursor(self, found: Found, entry: Entry, stored: Stored) -> Move:
        if found.paused:
            return Move(found, Step.PAUSE, entry)
        if found.last_run is None:
            return Move(found, Step.KEEP, why="it is here already, and was never sent there")
        if isinstance(stored, Cursor):
            if stored.fired + stored.skipped:
                return Move(found, Step.KEEP, why="this pool has fired or skipped an occurrence already")
            if stored.is_tombstone:
                return Move(found, Step.KEEP, why="it left the config in force")
        elif stored is not None:
            return Move(found, Step.KEEP, why=f"its row in Redis is no cursor: {stored}")
        try:
            move = self._going_on(found, Step.CURSOR, entry, stored)
        except EntryError as error:
            return Move(found, Step.REFUSE, why=str(error))
        if isinstance(stored, Cursor) and stored.due == move.due:
            return replace(move, step=Step.KEEP, why="it goes on from there already")
        return move

    def _going_on(self, found: Found, step: Step, entry: Entry, stored: Stored) -> Move:
        began = None if found.paused else found.last_run or found.since
        now = whole_ms(self.now())
        due = snapped(began or now, entry.recurrence)
        if due > now + _MILLISECOND:
            raise EntryError(
                f"it was last sent at {began}, which lies in the future by Redis's clock: is a clock wrong? "
                "Import it again when that is past"
            )
        move = Move(found, step, entry, due, expected=stored if isinstance(stored, Cursor) else None)
        if not isinstance(entry.recurrence, Nominal):
            return move
        try:
            return replace(move, next_due=entry.recurrence.following(due, due))
        except EntryError:  # nothing more to come
            return move

    # --- doing it -------------------------------------------------------------------------------------------

    def carry_out(self, moves: Sequence[Move]) -> tuple[Move, ...]:
        """Do what was planned, and say what became of it; raises ``StoreError``."""
        done: dict[str, Move] = {}
        acts = {Step.CREATE: self._create, Step.CURSOR: self._put, Step.PAUSE: self._pause}
        for step, act in acts.items():
            wanted = [move for move in moves if move.step is step]
            for start in range(0, len(wanted), _BATCH):
                done |= act(wanted[start : start + _BATCH])
        return tuple(done.get(move.name, move) for move in moves)

    def _create(self, moves: Sequence[Move]) -> dict[str, Move]:
        creations = [
            Creation(move.name, move.found.definition, move.due, move.found.paused)
            for move in moves
            if move.found.definition is not None and move.due is not None
        ]
        return _outcome(moves, self.target.create(creations))

    def _pause(self, moves: Sequence[Move]) -> dict[str, Move]:
        return _outcome(moves, self.target.pause([move.name for move in moves]))

    def _put(self, moves: Sequence[Move]) -> dict[str, Move]:
        planted = self.target.plant({move.name: (move.expected, _moved(move)) for move in moves})
        return {
            move.name: move
            if move.name in planted
            else replace(move, step=Step.KEEP, why="a node wrote its cursor at this moment; import again")
            for move in moves
        }


def _outcome(moves: Sequence[Move], refused: Mapping[str, str]) -> dict[str, Move]:
    return {
        move.name: replace(move, step=Step.REFUSE, why=refused[move.name]) if move.name in refused else move
        for move in moves
    }


def _moved(move: Move) -> Cursor:
    """The cursor at the last due; a higher revision than was read, so that no node puts that one back."""
    assert move.entry is not None and move.due is not None
    if not isinstance(move.expected, Cursor):
        return Cursor.anchor(move.entry.definition, move.due, _who())
    return replace(
        move.expected,
        due=move.due,
        effective_from=min(move.due, move.expected.effective_from),
        revision=move.expected.revision + 1,
        node=_who(),
    )


def _who() -> str:
    return f"import@{socket.gethostname()}"
