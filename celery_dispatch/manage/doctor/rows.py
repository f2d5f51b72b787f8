"""Rows under the pool's keys that no node would have written; damaged cursors the ledger itself tells.

What is there for a moment only, like a row of a node that is leaving, is not among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import redis

from celery_dispatch.core.ports import Damaged
from celery_dispatch.core.rows import ALL
from celery_dispatch.manage.doctor.snapshot import MOST, DamagedRow
from celery_dispatch.redis_store.client import translated
from celery_dispatch.redis_store.codec import decode_intent, decode_member, from_micros, printable, to_ms
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.own_keys import refuse_taken_keys
from celery_dispatch.redis_store.row_codec import decode_row

__all__ = ["read_damaged_rows"]

_AHEAD = timedelta(days=2)  # further than any lease or switch that the settings allow
_LOOKED_AT = 1_000  # intents, and rows of entries
_INSTANTS = ("since", "before_until", "reopened", "no_trim_until", "recovery_until")


@translated()
def read_damaged_rows(client: redis.Redis, keys: Keys) -> tuple[DamagedRow, ...]:
    """The first of them in each key.  Raises ``StoreError``, also where a key is of another type."""
    refuse_taken_keys(client, keys)
    asked: Any = client
    seconds, micros = asked.time()
    latest = to_ms(_whole(from_micros(seconds * 1_000_000 + micros) + _AHEAD))
    return tuple(
        row
        for rows in (
            _of_pool(asked, keys, latest),
            _of_nodes(asked, keys, latest),
            _of_members(asked, keys),
            _of_entries(asked, keys),
            _of_intents(asked, keys),
        )
        for row in islice(rows, MOST)
    )


def _of_pool(client: Any, keys: Keys, latest: int) -> Iterator[DamagedRow]:
    for field, value in zip(_INSTANTS, client.hmget(keys.pool, _INSTANTS)):
        if value and not (value.isascii() and value.isdecimal() and len(value) < 16):
            yield DamagedRow(keys.pool, field, f"is no instant: {_cut(value)!r}")
        elif value and int(value) > latest:
            yield DamagedRow(keys.pool, field, f"is an instant of the far future: {value}")


def _of_nodes(client: Any, keys: Keys, latest: int) -> Iterator[DamagedRow]:
    far = client.zrange(keys.nodes, latest, "+inf", byscore=True, offset=0, num=MOST, withscores=True)
    for node, end in far:
        yield DamagedRow(keys.nodes, _cut(node), f"a lease that no node took: it ends at {end:.0f}")


def _of_members(client: Any, keys: Keys) -> Iterator[DamagedRow]:
    for node, row in client.hscan_iter(keys.members):
        if decode_member(node, "0", row) is None:
            yield DamagedRow(keys.members, _cut(node), f"is no member: {_cut(row)!r}")


def _of_entries(client: Any, keys: Keys) -> Iterator[DamagedRow]:
    for name, row in islice(client.hscan_iter(keys.entries), _LOOKED_AT):
        found = decode_row(row)
        if isinstance(found, Damaged) and name != ALL:  # of which the doctor tells by itself
            yield DamagedRow(keys.entries, _cut(name), found.reason)


def _of_intents(client: Any, keys: Keys) -> Iterator[DamagedRow]:
    for field, row in islice(client.hscan_iter(keys.intents), _LOOKED_AT):
        found = decode_intent(field, row)
        if isinstance(found, Damaged):
            yield DamagedRow(keys.intents, _cut(field), found.reason)


def _cut(text: str) -> str:
    return printable(text[:100])


def _whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
