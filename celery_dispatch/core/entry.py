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
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum

from celery_dispatch.core.recurrence import Recurrence

__all__ = ["TOMBSTONE", "CatchUp", "Catalog", "Cursor", "Entry", "Fence", "Occurrence"]

_TICK = timedelta(milliseconds=1)

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
    ``payload`` belongs to the outbox, which renders it; the core only carries it.
    """

    name: str
    recurrence: Recurrence
    definition: str
    catch_up: CatchUp = CatchUp.LATEST
    catch_up_window: timedelta | None = None
    payload: object = None


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One due instant of one entry; ``due`` is nominal, aware UTC, whole milliseconds."""

    entry: Entry
    due: datetime


@dataclass(frozen=True, slots=True)
class Fence:
    """The config that a claim is made under: its fingerprint, and the instant it came into force."""

    config: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Cursor:
    """An entry's record in the ledger; see the table in this module's docstring.

    ``revision`` counts definitions, ``fired`` and ``skipped`` count occurrences, ``node`` is the id of the
    node whose claim wrote it.
    """

    due: datetime
    definition: str
    effective_from: datetime
    revision: int = 1
    fired: int = 0
    skipped: int = 0
    node: str = ""

    @classmethod
    def anchor(cls, definition: str, since: datetime, node: str) -> Cursor:
        """The cursor of a name that begins at ``since``."""
        return cls(due=since, definition=definition, effective_from=since, node=node)

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
        return Cursor(
            due=due,
            definition=definition,
            effective_from=fence.since if changed else self.effective_from,
            revision=self.revision + changed,
            fired=self.fired + fired,
            skipped=self.skipped + skipped,
            node=node,
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
