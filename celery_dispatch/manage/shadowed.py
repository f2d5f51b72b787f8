"""What shadow mode would have fired, read from its records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import redis

from celery_dispatch.redis_store.codec import from_micros, printable
from celery_dispatch.redis_store.driver_errors import translated
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.shadow import LIFETIME, ShadowRecord

__all__ = ["ShadowReport", "ShadowedEntry", "read_shadow"]

_PAGE = 1000  # records per command
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ShadowedEntry:
    """The occurrences of one entry; ``worst_lag`` is how late the latest one would have been, in ms.

    ``dues`` are all of them, in order, where one entry was asked for.
    """

    name: str
    count: int
    first_due: datetime
    last_due: datetime
    worst_lag: float
    dues: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """What was recorded between two instants, by name; ``unreadable`` rows were left out."""

    since: datetime
    until: datetime
    entries: tuple[ShadowedEntry, ...]
    unreadable: int = 0

    @property
    def total(self) -> int:
        return sum(entry.count for entry in self.entries)


def read_shadow(
    client: redis.Redis,
    keys: Keys,
    *,
    name: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> ShadowReport:
    """The occurrences due in ``[since, until]``, of the entry ``name`` or of all.

    Without ``since`` from the oldest that is kept, without ``until`` to now.  Raises ``StoreError``.
    """
    with translated():
        now = _now(client)
    since, until = since or now - LIFETIME - _DAY, until or now
    found: dict[str, list[ShadowRecord]] = {}
    unreadable = 0
    for text in _rows(client, keys, now):
        try:
            record = ShadowRecord.decode(text)
        except ValueError:
            unreadable += 1
            continue
        if since <= record.due <= until and name in (None, record.name):
            found.setdefault(record.name, []).append(record)
    entries = tuple(_entry(each, found[each], with_dues=name is not None) for each in sorted(found))
    return ShadowReport(since, until, entries, unreadable)


def _now(client: redis.Redis) -> datetime:
    seconds, micros = client.time()
    return from_micros(seconds * 1_000_000 + micros)


def _rows(client: redis.Redis, keys: Keys, now: datetime) -> Iterator[str]:
    """Every row that is kept, a page at a time, so that a long list never holds Redis up."""
    for days in range(LIFETIME // _DAY + 2):
        key = keys.shadow(now - days * _DAY)
        last = -1  # new ones come at the other end
        while True:
            with translated():
                page: Any = client.lrange(key, last - _PAGE + 1, last)
            yield from page
            if len(page) < _PAGE:
                break
            last -= _PAGE


def _entry(name: str, records: list[ShadowRecord], *, with_dues: bool) -> ShadowedEntry:
    dues = sorted(record.due for record in records)
    worst = max(record.at - record.due for record in records)
    return ShadowedEntry(
        name=printable(name),
        count=len(dues),
        first_due=dues[0],
        last_due=dues[-1],
        worst_lag=worst / timedelta(milliseconds=1),
        dues=tuple(dues) if with_dues else (),
    )
