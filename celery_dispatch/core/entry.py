"""The values that everything is about: entries, occurrences and cursors.

A *cursor* is what the ledger knows of one entry.  It is compared and replaced whole, so it never shows half a
change:

========================  ==========================================================================
cursor                    meaning
========================  ==========================================================================
none                      the name was never in force, or its tombstone was swept
nothing fired or skipped   anchored; the next due is later than ``due``
``definition == ""``      tombstone: the entry left the config at ``effective_from``
anything else             ``due`` is the last occurrence that was fired or skipped
========================  ==========================================================================

``effective_from`` is the instant at which the config switch took place that brought this definition; nothing
that was due before it is due under it.  An entry whose definition changed takes the new one with its first
claim, or a lease after the switch, once per switch: a cursor that
already took another definition under the same switch shows that two nodes run different definitions under
one fingerprint.

``change`` is the version of the run-time row that the cursor stands under, 0 where there is none: nobody
claims an entry without knowing that very row (``rows``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from hashlib import blake2b
from types import MappingProxyType
from typing import cast

from celery_dispatch.core.records import record
from celery_dispatch.core.recurrence import Nominal, Recurrence

__all__ = ["TOMBSTONE", "CatchUp", "Catalog", "Cursor", "Entry", "Fence", "Occurrence"]

_TICK = timedelta(milliseconds=1)
_NOTHING: Mapping[str, object] = MappingProxyType({})

#: The definition of a cursor whose entry is in no config.
TOMBSTONE = ""


class CatchUp(Enum):
    """What becomes of occurrences that could not be fired in time."""

    LATEST = "latest"  #: one for all missed, as stock beat does
    ALL = "all"  #: each of them, oldest first
    NONE = "none"  #: none that is later than lease and handover together


@dataclass(frozen=True, slots=True)
class Entry:
    """A named schedule and what to send.

    ``definition`` is a short hash of all that decides when and what is sent, equal across processes.
    ``catch_up_window``: occurrences older than this are skipped; ``None`` for no limit.
    ``count``: how many are fired in all, whatever its definition was; ``None`` for no limit.
    ``jitter``: up to how much later than its due an occurrence is fired.
    ``remove_when_completed``: it need not be kept once nothing is left to fire.
    ``payload`` belongs to the outbox, which renders it, and ``asked`` is what its definition asks of this
    package, for people; the core only carries both.
    """

    name: str
    recurrence: Recurrence
    definition: str
    catch_up: CatchUp = CatchUp.LATEST
    catch_up_window: timedelta | None = None
    payload: object = None
    count: int | None = None
    jitter: timedelta = timedelta(0)
    remove_when_completed: bool = False
    asked: Mapping[str, object] = field(default_factory=lambda: _NOTHING)

    def fires_at(self, due: datetime) -> datetime:
        """When the occurrence of ``due`` is fired: by the jitter later, and always before the next due.

        The same in every process.
        """
        if not self.jitter:
            return due
        later = cast(Nominal, self.recurrence).following(due, due)
        room = self.jitter if later is None else min(self.jitter, later - due)
        share = blake2b(f"{self.name}\n{due.isoformat()}".encode(), digest_size=4).digest()
        return due + room * int.from_bytes(share, "big") // 2**32 // _TICK * _TICK

    def next_due(self, cursor: Cursor, fence: Fence) -> datetime | None:
        """The first occurrence that is open under this definition; ``None`` if it is completed.

        Open is what the cursor has not passed and what is not fired before this definition came into force.
        """
        if self.has_fired_all(cursor):
            return None
        recurrence = cast(Nominal, self.recurrence)
        base = cursor.base(self.definition, fence)
        if not self.jitter:
            return recurrence.following(cursor.due, base)
        due = recurrence.following(cursor.due, max(cursor.due, base - self.jitter))
        while due is not None and self.fires_at(due) <= base:
            due = recurrence.following(cursor.due, due)
        return due

    def coming(self, cursor: Cursor, fence: Fence) -> Iterator[Occurrence]:
        """The occurrences from the next one on, if each is fired."""
        left = -1 if self.count is None else self.count - cursor.fired
        due = self.next_due(cursor, fence)
        while due is not None and left:
            yield Occurrence(self, due, self.fires_at(due))
            due = cast(Nominal, self.recurrence).following(due, due)
            left -= 1

    def has_fired_all(self, cursor: Cursor) -> bool:
        """Whether it may fire no more, by its ``count``."""
        return self.count is not None and cursor.fired >= self.count


@record
class Occurrence:
    """One due instant of one entry; ``due`` is nominal, aware UTC, whole milliseconds.

    ``jittered`` is when it is fired, where that is later than its due.
    """

    entry: Entry
    due: datetime
    jittered: datetime | None = None

    @property
    def fires_at(self) -> datetime:
        """When it is fired; what comes after that is lag."""
        return self.jittered or self.due


@dataclass(frozen=True, slots=True)
class Fence:
    """The config that a claim is made under: its fingerprint, and the instant it came into force."""

    config: str
    since: datetime


@record
class Cursor:
    """An entry's record in the ledger; see the table in this module's docstring.

    ``revision`` counts definitions, ``fired`` and ``skipped`` count occurrences, ``node`` is the id of the
    node whose claim wrote it, ``change`` the version of the row that it stands under.
    """

    due: datetime
    definition: str
    effective_from: datetime
    revision: int = 1
    fired: int = 0
    skipped: int = 0
    node: str = ""
    change: int = 0

    @classmethod
    def anchor(cls, definition: str, since: datetime, node: str, *, change: int = 0) -> Cursor:
        """The cursor of a name that begins at ``since``."""
        return cls(due=since, definition=definition, effective_from=since, node=node, change=change)

    @property
    def is_tombstone(self) -> bool:
        return self.definition == TOMBSTONE

    def conflicts(self, definition: str, fence: Fence) -> bool:
        """Whether another definition was already taken under this very switch."""
        return self.definition != definition and self.effective_from >= fence.since

    def base(self, definition: str, fence: Fence) -> datetime:
        """The instant that the next due of ``definition`` must be later than.

        What is due at the very instant of the switch belongs to the new definition.
        """
        since = self.effective_from if self.definition == definition else fence.since
        return max(self.due, since - _TICK)

    def advance(
        self, due: datetime, *, definition: str, fence: Fence, node: str, fired: int, skipped: int
    ) -> Cursor:
        """The cursor after ``due`` was dealt with by ``node`` under ``definition``."""
        changed = self.definition != definition
        return Cursor(  # by position, and for each occurrence: by name it takes half as long again
            due,
            definition,
            fence.since if changed else self.effective_from,
            self.revision + changed,
            self.fired + fired,
            self.skipped + skipped,
            node,
            self.change,
        )

    def take(self, definition: str, fence: Fence, node: str) -> Cursor:
        """The cursor of an entry that goes on under another definition, before its first claim under it."""
        return replace(
            self,
            definition=definition,
            effective_from=fence.since,
            revision=self.revision + 1,
            node=node,
        )

    def stand_under(self, change: int, definition: str, now: datetime, node: str) -> Cursor:
        """The cursor of an entry that has gone apart from its row, under that row and its ``definition``."""
        effective_from = self.effective_from if definition == self.definition else now
        return replace(
            self,
            definition=definition,
            effective_from=effective_from,
            revision=self.revision + 1,
            node=node,
            change=change,
        )

    def undo(self, before: Cursor, node: str) -> Cursor:
        """The cursor after it turned out that the occurrence, claimed from ``before``, cannot be sent.

        A higher revision than this one's, so that nobody takes it for a cursor that was lost.
        """
        return replace(before, revision=self.revision + 1, node=node)

    def bury(self, fence: Fence, node: str) -> Cursor:
        """The tombstone of an entry that the config in force does not have."""
        return self.take(TOMBSTONE, fence, node)


@dataclass(frozen=True)
class Catalog:
    """The entries of one config, and those of its names that cannot be scheduled, each with the reason.

    ``fingerprint`` is equal for nodes that run the same config.
    """

    fingerprint: str
    entries: Mapping[str, Entry]
    broken: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, name: object) -> bool:
        return name in self.entries or name in self.broken
