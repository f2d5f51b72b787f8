"""Schedules as they are: what the app's config and the rows say, and how far the cursors have come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import Any

from celery_dispatch.celery_bridge.payload import payload_of
from celery_dispatch.core.entry import Cursor, Entry, Fence
from celery_dispatch.core.ports import Damaged, Stored
from celery_dispatch.core.recurrence import Nominal
from celery_dispatch.core.rows import ALL, Row
from celery_dispatch.errors import DispatchError, EntryError
from celery_dispatch.schedules.store import Store
from celery_dispatch.schedules.values import Page, Paused, Schedule, State

__all__ = ["Found", "Reading", "loaded"]

_PAGE = 1_000  # names in one command
_TRIES = 3
_SLICE = 200  # schedules that are looked at in one go
_BEGIN = Fence("", datetime(1970, 1, 1, tzinfo=timezone.utc))


@dataclass(frozen=True, slots=True)
class Found:
    """What is stored of one name, and whether the app's own config has it."""

    name: str
    row: Row | Damaged | None
    cursor: Stored
    in_config: bool

    @property
    def defined(self) -> str:
        """The definition of its row, empty for none."""
        return self.row.definition if isinstance(self.row, Row) else ""

    @property
    def version(self) -> int:
        """The version of its row, 0 for none."""
        return self.row.version if isinstance(self.row, Row) else 0

    @property
    def is_shadowed(self) -> bool:
        """Whether a config has the name that its row defines."""
        return bool(self.defined) and (self.in_config or self._of_config)

    @property
    def is_known(self) -> bool:
        return self.in_config or bool(self.defined) or isinstance(self.row, Damaged) or self._of_config

    @property
    def is_of_run_time(self) -> bool:
        """Whether it was created at run time, or has a row that cannot be read and is not of the config."""
        return bool(self.defined) or (isinstance(self.row, Damaged) and not self.in_config)

    @property
    def is_torn(self) -> bool:
        """Whether row and cursor were not read in one state, for they name each other."""
        if not isinstance(self.cursor, Cursor) or not isinstance(self.row, (Row, type(None))):
            return False
        return self.cursor.change != self.version

    @property
    def _of_config(self) -> bool:
        """Whether its cursor carries a definition that is not its row's."""
        own = self.row.hash if isinstance(self.row, Row) else ""
        return isinstance(self.cursor, Cursor) and self.cursor.definition not in ("", own)


class Reading:
    """Reads schedules; writes nothing.  Raises ``StoreError``.

    The names that have a row are kept, so that a page costs what is new and not a walk through all of them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # With the version up to which they are known, and the part of the gate that they were read under.
        self._known: tuple[frozenset[str], int, str] = frozenset(), 0, ""

    def find(self, names: Sequence[str]) -> list[Found]:
        """What is stored of these names; what changes while it is read is read again."""
        found = self._read(names)
        for _ in range(_TRIES):
            torn = [one.name for one in found if one.is_torn]
            if not torn:
                break
            again = {one.name: one for one in self._read(torn)}
            found = [again.get(one.name, one) for one in found]
        return found

    def find_all(self, names: Iterable[str]) -> list[Found]:
        """As ``find``, for more names than are read in one go."""
        listed = list(names)
        slices = (listed[start : start + _PAGE] for start in range(0, len(listed), _PAGE))
        return [one for some in slices for one in self.find(some)]

    def _read(self, names: Sequence[str]) -> list[Found]:
        cursors = self._store.ledger.read(names)
        rows = self._store.rows.read(names)
        catalog = self._store.catalog
        return [Found(name, row, cursor, name in catalog) for name, row, cursor in zip(names, rows, cursors)]

    def schedules(self, found: Sequence[Found]) -> list[Schedule]:
        """The schedules among them."""
        fence = self._store.pool.read().fence or _BEGIN
        return [self._schedule(one, fence) for one in found if one.is_known]

    def page(
        self,
        *,
        labels: Mapping[str, Any] | None,
        pattern: str | None,
        state: State | None,
        limit: int,
        after: str | None,
    ) -> Page:
        """The first ``limit`` schedules that are asked for, by name, from ``after`` on."""
        names = [
            name
            for name in sorted(self.names())
            if (after is None or name > after) and (pattern is None or fnmatchcase(name, pattern))
        ]
        items: list[Schedule] = []
        size = _SLICE if labels or state else min(_SLICE, limit + 1)
        for start in range(0, len(names), size):
            found = self.find(names[start : start + size])
            if labels:
                found = [one for one in found if _has_labels(self._definition(one), labels)]
            items += [one for one in self.schedules(found) if state is None or one.state is state]
            if len(items) > limit:
                return Page(tuple(items[:limit]), items[limit - 1].name)
        return Page(tuple(items), None)

    def labelled(self, labels: Mapping[str, Any]) -> list[Found]:
        """All that were created at run time and have these labels, by name."""
        found = self.find_all(sorted(self._row_names()))
        return [one for one in found if one.defined and _has_labels(loaded(one.defined), labels)]

    def names(self) -> set[str]:
        """Every name of the app's config, and every one that has a row."""
        return {*self._store.catalog.entries, *self._store.catalog.broken, *self._row_names()}

    def _row_names(self) -> frozenset[str]:
        """Every name that has a row, or had one since this was first asked."""
        rows, until, mends = self._known
        news = self._store.rows.news(until, _PAGE)
        now = news.gate.partition(".")[0]
        if now != mends or news.version < until:  # rows were put back, or lost
            rows, until, mends = frozenset(), 0, now
            news = self._store.rows.news(0, _PAGE)
        names = set(rows)
        while news.changed:
            names.update(name for name, _ in news.changed if name != ALL)
            until = news.changed[-1][1]
            if len(news.changed) < _PAGE:
                break
            news = self._store.rows.news(until, _PAGE)
        self._known = frozenset(names), until, mends
        return self._known[0]

    # --- one schedule ---------------------------------------------------------------------------------------

    def entry(self, found: Found) -> Entry:
        """The entry that is fired under the name, as this app makes it; raises ``EntryError``."""
        catalog = self._store.catalog
        if isinstance(found.row, Damaged):
            raise EntryError(f"what was said of it at run time is {found.row}")
        if found.in_config:
            entry = catalog.entries.get(found.name)
            if entry is None:
                raise EntryError(catalog.broken[found.name])
            return entry
        if not isinstance(found.row, Row) or not found.defined:
            raise EntryError("it is in the config in force, which this app does not have")
        return replace(self._made(found.name, found.defined), definition=found.row.hash)

    def _made(self, name: str, definition: str) -> Entry:
        try:
            return self._store.definitions.entry(name, json.loads(definition))
        except EntryError:
            raise
        except Exception as error:  # schedules run user code
            raise EntryError(repr(error)) from error

    def _schedule(self, found: Found, fence: Fence) -> Schedule:
        row, cursor = found.row, found.cursor
        entry, error = _attempt(lambda: self.entry(found))
        due, wrong = _attempt(lambda: _next_due(entry, cursor, fence))
        known_here = found.in_config or bool(found.defined) or isinstance(row, Damaged)
        error = (error or wrong) if known_here else ""
        told = cursor if isinstance(cursor, Cursor) and not cursor.is_tombstone else None
        return Schedule(
            name=found.name,
            origin="run-time" if found.is_of_run_time else "config",
            version=found.version,
            definition=self._definition(found),
            paused=_paused(row),
            state=_state(
                found, error, completed=due is None and entry is not None and _can_tell(entry, cursor)
            ),
            last_due=told.due if told is not None and told.fired + told.skipped else None,
            next_due=due,
            fired=told.fired if told is not None else 0,
            skipped=told.skipped if told is not None else 0,
            error=error,
        )

    def _definition(self, found: Found) -> Mapping[str, Any] | None:
        if found.defined:
            return loaded(found.defined)
        entry = self._store.catalog.entries.get(found.name)
        if entry is None:
            return None
        given: Any = self._store.app.conf.beat_schedule or {}
        item = given[found.name] if found.name in given else payload_of(entry).item
        try:
            return self._store.definitions.document(found.name, item)
        except EntryError:
            return None


def _has_labels(definition: Mapping[str, Any] | None, labels: Mapping[str, Any]) -> bool:
    asked = (definition or {}).get("dispatch")
    own = asked.get("labels") if isinstance(asked, Mapping) else None
    return isinstance(own, Mapping) and all(key in own and own[key] == value for key, value in labels.items())


def loaded(definition: str) -> Mapping[str, Any] | None:
    """The item that a definition's text says; ``None`` if it says none."""
    try:
        item = json.loads(definition)
    except (ValueError, RecursionError):
        return None
    return item if isinstance(item, dict) else None


def _attempt(make: Callable[[], Any]) -> tuple[Any, str]:
    """What it makes, or why it cannot be made; schedules run user code."""
    try:
        return make(), ""
    except DispatchError as error:
        return None, str(error)
    except Exception as error:
        return None, repr(error)


def _next_due(entry: Entry | None, cursor: Stored, fence: Fence) -> datetime | None:
    if entry is None or not _can_tell(entry, cursor):
        return None
    assert isinstance(cursor, Cursor)
    return entry.next_due(cursor, fence)


def _can_tell(entry: Entry, cursor: Stored) -> bool:
    """Whether its next due follows from where its cursor stands."""
    alive = isinstance(cursor, Cursor) and not cursor.is_tombstone
    return alive and isinstance(entry.recurrence, Nominal)


def _paused(row: Row | Damaged | None) -> Paused | None:
    if not isinstance(row, Row) or row.pause is None or not row.pause.is_on:
        return None
    return Paused(row.pause.since, row.pause.note, row.pause.author)


def _state(found: Found, error: str, *, completed: bool) -> State:
    if error:
        return State.BROKEN
    if found.is_shadowed:
        return State.SHADOWED
    if isinstance(found.row, Row) and found.row.is_paused:
        return State.PAUSED
    return State.COMPLETED if completed else State.SCHEDULED
