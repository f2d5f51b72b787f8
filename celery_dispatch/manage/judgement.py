"""In what state an entry is, from its definition, its cursor and the pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

from celery_dispatch.core.entry import Catalog, Cursor, Entry, Fence
from celery_dispatch.core.ports import Damaged, Stored
from celery_dispatch.core.recurrence import Nominal
from celery_dispatch.core.rows import Pause
from celery_dispatch.errors import EntryError
from celery_dispatch.manage.reports import EntryReport, EntryState, PoolReport, Sketch
from celery_dispatch.manage.words import duration

__all__ = ["Bench"]

_AHEAD = timedelta(seconds=1)  # how far a cursor may seem to be in the future


@dataclass(frozen=True)
class Bench:
    """Judges entries against one reading of the pool.

    ``pause`` tells the pause that holds for an entry, ``shadowed`` are the names that a row defines too.
    ``pool.now`` is Redis's time before the cursors were read, ``later`` after it; see ``operations``.
    """

    pool: PoolReport
    later: datetime
    catalog: Catalog
    patience: timedelta
    sketch: Callable[[Entry], Sketch]
    pause: Callable[[str], Pause | None] = lambda name: None
    shadowed: frozenset[str] = frozenset()

    @cached_property
    def errors(self) -> Mapping[str, str]:
        """What live nodes that run the config in force say is wrong with an entry."""
        running = (node for node in self.pool.alive if node.in_force)
        return {name: message for node in running for name, message in node.errors.items()}

    @cached_property
    def is_in_force(self) -> bool:
        """Whether the catalog at hand is the one in force."""
        return self.pool.fence is not None and self.pool.fence.config == self.catalog.fingerprint

    def judge(self, name: str, stored: Stored) -> EntryReport:
        """One entry, from its row in the ledger."""
        entry = self.catalog.entries.get(name)
        known = self._known(name, entry, stored)
        if isinstance(stored, Damaged):
            return replace(known, state=EntryState.DAMAGED, error=stored.reason)
        if entry is None:
            return self._without_definition(known, stored)
        if self._is_foreign(entry, stored):
            return replace(known, state=EntryState.FOREIGN, error=self.errors.get(name))
        try:
            next_due = self._next_due(entry, stored)
            state, error_text = self._state(known, entry, stored, next_due)
        except EntryError as error:
            return replace(known, state=EntryState.ERROR, error=str(error))
        return replace(known, state=state, next_due=next_due, error=error_text)

    def goes_on_from(self, entry: Entry, stored: Stored) -> tuple[Cursor, Fence] | None:
        """The cursor and the fence from which the entry goes on, if a cursor tells."""
        if not isinstance(stored, Cursor) or self._is_foreign(entry, stored):
            return None
        return stored, self.pool.fence or Fence("", stored.effective_from)

    def _known(self, name: str, entry: Entry | None, stored: Stored) -> EntryReport:
        """What does not depend on the state."""
        ranks = self.pool.ranks
        report = EntryReport(
            name=name,
            state=EntryState.UNANCHORED,
            sketch=self.sketch(entry) if entry is not None else Sketch(),
            owner=ranks.owner(name),
            standby=ranks.standby(name),
            shadows=name in self.shadowed,
        )
        if not isinstance(stored, Cursor):
            return report
        happened = stored.fired + stored.skipped > 0
        return replace(
            report, last_due=stored.due if happened else None, fired=stored.fired, skipped=stored.skipped
        )

    def _without_definition(self, known: EntryReport, stored: Stored) -> EntryReport:
        broken = self.catalog.broken.get(known.name)
        if broken is not None:
            return replace(known, state=EntryState.ERROR, error=broken)
        if isinstance(stored, Cursor) and stored.is_tombstone:
            return replace(known, state=EntryState.TOMBSTONE, owner=None, standby=None)
        return replace(known, state=EntryState.ABSENT, error=self.errors.get(known.name))

    def _is_foreign(self, entry: Entry, stored: Stored) -> bool:
        """Whether the cursor follows a definition that only the config in force knows."""
        return isinstance(stored, Cursor) and stored.definition != entry.definition and not self.is_in_force

    def _next_due(self, entry: Entry, stored: Stored) -> datetime | None:
        known = self.goes_on_from(entry, stored)
        if known is None or not isinstance(entry.recurrence, Nominal):
            return None
        return entry.next_due(*known)

    def _state(
        self, known: EntryReport, entry: Entry, stored: Stored, next_due: datetime | None
    ) -> tuple[EntryState, str | None]:
        error = self.errors.get(known.name) or self._conflict(entry, stored)
        if error is not None:
            return EntryState.ERROR, error
        if not isinstance(stored, Cursor):
            return EntryState.UNANCHORED, None
        if stored.due > self.later + _AHEAD:
            return EntryState.AHEAD, f"Its cursor is {duration(stored.due - self.later)} in the future."
        polled = not isinstance(entry.recurrence, Nominal)
        if entry.has_fired_all(stored) or (next_due is None and not polled):
            return EntryState.COMPLETED, None
        if self.pause(known.name) is not None:
            return EntryState.PAUSED, None
        if next_due is None:
            return EntryState.POLLED if known.owner is not None else EntryState.WAITING, None
        fires_at = entry.fires_at(next_due)
        if fires_at + self.patience < self.pool.now:
            return EntryState.OVERDUE, None
        if known.owner is None:
            return EntryState.WAITING, None
        return EntryState.DUE if fires_at <= self.pool.now else EntryState.SCHEDULED, None

    def _conflict(self, entry: Entry, stored: Stored) -> str | None:
        fence = self.pool.fence
        if fence is None or not isinstance(stored, Cursor) or not stored.conflicts(entry.definition, fence):
            return None
        return (
            "Another definition of it was taken up under the same config fingerprint. "
            "Let all nodes run the same code; if you set dispatch_config_version, give each release its own."
        )
