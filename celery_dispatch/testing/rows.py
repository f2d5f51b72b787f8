"""``Rows`` in memory; ``lua/change.lua`` and ``lua/put_back.lua`` say why each step is so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from celery_dispatch.core.entry import TOMBSTONE, Cursor
from celery_dispatch.core.ports import Change, ChangeResult, ChangeStatus, Damaged, News
from celery_dispatch.core.rows import ALL, Row, definition_hash
from celery_dispatch.errors import FencedError
from celery_dispatch.redis_store.codec import to_ms
from celery_dispatch.redis_store.row_codec import encode_row, row_after_version
from celery_dispatch.redis_store.rows import check_changes, row_to_be
from celery_dispatch.testing.store import MemoryPort, MemoryStore

__all__ = ["MemoryRows"]


class MemoryRows(MemoryPort):
    """Implements the ``Rows`` port on the store's ``rows`` and ``cursors``."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._serials: dict[str, int] = {}

    def news(self, since: int, limit: int) -> News:
        store = self.store
        with store.operation(self):
            versions = {name: row.version for name, row in store.rows.items() if isinstance(row, Row)}
            later = sorted((version, name) for name, version in versions.items() if version > since)
            return News(
                version=store.catalog,
                floor=store.catalog_floor,
                gate=store.gate,
                changed=tuple((name, version) for version, name in later[:limit]),
            )

    def read(self, names: Sequence[str]) -> list[Row | Damaged | None]:
        with self.store.operation(self):
            return [self.store.rows.get(name) for name in names]

    def scan(self, position: int, count: int) -> tuple[int, list[tuple[str, Row | Damaged]]]:
        with self.store.operation(self):
            rows = self.store.rows
            for name in rows:
                self._serials.setdefault(name, len(self._serials) + 1)
            left = [
                name for name in sorted(rows, key=self._serials.__getitem__) if self._serials[name] > position
            ]
            page = left[:count]
            position = self._serials[page[-1]] if left[count:] else 0
            return position, [(name, rows[name]) for name in page]

    def change(self, changes: Sequence[Change]) -> list[ChangeResult]:
        check_changes(changes)
        for change in changes:  # what Redis could not hold is refused here as well
            row_after_version(row_to_be(change, 0))
        with self.store.operation(self) as now:
            _check(self.store, "", now)
            results = [self._change(change, now) for change in changes]
            self.store.rows_changed()
            return results

    def put_back(self, recovery: str, known: int, rows: Mapping[str, Row]) -> None:
        store = self.store
        for row in rows.values():
            encode_row(row)
        with store.operation(self) as now:
            _check(store, recovery, now)
            lost = {name: row for name, row in rows.items() if _version(store.rows.get(name)) < row.version}
            store.rows.update(lost)
            store.catalog = max(store.catalog, known, *(row.version for row in lost.values()), 0)
            if lost:
                store.catalog = max(store.catalog + 1, to_ms(now))
                halt = lost[ALL].version if ALL in lost else store.gate.partition(".")[2]
                store.gate = f"{store.catalog}.{halt}"
                store.rows_changed()

    def retire(self, rows: Mapping[str, tuple[Row, Cursor]]) -> None:
        store = self.store
        with store.operation(self) as now:
            _check(store, "", now)
            for name, (row, cursor) in rows.items():
                if store.rows.get(name) == row and store.cursors.get(name) == cursor:
                    del store.rows[name], store.cursors[name]
                    store.catalog_floor = max(store.catalog_floor, row.version)

    def _change(self, change: Change, now: datetime) -> ChangeResult:
        store, name = self.store, change.name
        row = store.rows.get(name)
        if isinstance(row, Row) and row == row_to_be(change, row.version):
            return ChangeResult(ChangeStatus.DONE, row)
        if row != change.expected:
            return ChangeResult(ChangeStatus.STALE, row)
        store.catalog = max(store.catalog + 1, to_ms(now))
        new = row_to_be(change, store.catalog)
        if name != ALL:
            stored = store.cursors.get(name)
            creates = not _before(change) and change.definition
            if creates and isinstance(stored, Cursor) and not stored.is_tombstone:
                return ChangeResult(ChangeStatus.TAKEN, None)
            if isinstance(stored, Damaged):
                return ChangeResult(ChangeStatus.DAMAGED, None)
            store.cursors[name] = _moved(stored, change, now, new.version)
        else:
            store.gate = f"{store.gate.partition('.')[0]}.{new.version}"
        store.rows[name] = new
        if change.drops_intents:
            for field in [field for field in store.intents if field.partition(":")[2] == name]:
                del store.intents[field]
        return ChangeResult(ChangeStatus.DONE, new)


def _check(store: MemoryStore, recovery: str, now: datetime) -> None:
    """Raise ``FencedError`` where no row may be written."""
    if store.recovery != recovery:
        raise FencedError(
            f"The pool is in recovery {store.recovery}: nothing can be changed until its nodes have merged."
            if store.recovery
            else f"The recovery {recovery} is over: rows can be put back no more."
        )
    alive = any(member.lease_end >= now for member in store.members.values())
    if store.seen_on not in ("", store.server) and alive:
        raise FencedError(
            f"Redis is not the server that the pool was last seen on, which has run_id {store.seen_on}."
        )


def _moved(stored: Cursor | None, change: Change, now: datetime, version: int) -> Cursor:
    """The cursor under the row that the change writes."""
    before, after = _before(change), definition_hash(change.definition)
    if stored is None:
        return Cursor.anchor(after, change.anchor or now, "", change=version)
    moved = replace(stored, revision=stored.revision + 1, change=version)
    if stored.definition != before or before == after:
        return moved
    if before == TOMBSTONE:
        begin = change.anchor or now
        return replace(moved, definition=after, due=begin, effective_from=begin, fired=0, skipped=0)
    since = stored.effective_from if change.keeps_since else now
    return replace(moved, definition=after, effective_from=since)


def _before(change: Change) -> str:
    return change.expected.hash if isinstance(change.expected, Row) else change.before


def _version(row: Row | Damaged | None) -> int:
    return row.version if isinstance(row, Row) else 0
