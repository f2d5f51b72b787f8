"""The rows of what was said at run time, on Redis: one hash, and in a sorted set their versions.

Every write is one script that writes the cursors with them: ``change.lua`` for people, ``put_back.lua`` and
``retire.lua`` for nodes.  What they do, and why, is told in ``core.rows``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Union

import redis

from celery_dispatch.core.entry import Cursor
from celery_dispatch.core.ports import Change, ChangeResult, ChangeStatus, Damaged, News
from celery_dispatch.core.rows import MOST_CHANGES, Row, definition_hash
from celery_dispatch.errors import FencedError
from celery_dispatch.redis_store.codec import encode_cursor, printable, to_ms
from celery_dispatch.redis_store.exact import exactly
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.lua_source import lua_source
from celery_dispatch.redis_store.own_keys import of_store
from celery_dispatch.redis_store.row_codec import decode_row, encode_row, row_after_version

__all__ = ["RedisRows", "check_changes", "row_to_be"]

_MOST = 1_000  # names in one command
_MOST_WRITTEN = 300  # rows in one script, so that Redis is not held up for long: some 3 µs each
_LATEST = 2**53
_GATE = re.compile(r"[0-9]*\.[0-9]*")  # another one is none, here as in claim.lua
_STATUSES = {
    "w": ChangeStatus.DONE,
    "s": ChangeStatus.STALE,
    "c": ChangeStatus.TAKEN,
    "d": ChangeStatus.DAMAGED,
}

_Args = list[Union[str, bytes, int]]


class RedisRows:
    """The rows of all entries; implements the ``Rows`` port.

    May be used from several threads.  Raises ``StoreError``.  More than 300 rows that are put back or
    retired take several steps, each of them atomic.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client: Any = client
        self._keys = keys
        self._scripts: dict[str, Any] = {
            name: client.register_script(lua_source("rows") + lua_source(name))
            for name in ("change", "put_back", "retire")
        }

    @of_store
    def news(self, since: int, limit: int) -> News:
        with self._client.pipeline(transaction=False) as pipe:  # the version first: what it counts is listed,
            # and what came meanwhile is left to the next look, together with what nobody of us wrote
            pipe.hmget(self._keys.pool, "catalog", "catalog_floor", "gate")
            pipe.zrange(
                self._keys.changes,
                f"({since}",
                _LATEST,
                byscore=True,
                offset=0,
                num=limit,
                withscores=True,
            )
            (version, floor, gate), changed = pipe.execute()
        latest = _number(version)
        return News(
            version=latest,
            floor=_number(floor),
            gate=gate if gate and _GATE.fullmatch(gate) else "",
            changed=tuple((name, int(score)) for name, score in changed if score <= latest),
        )

    @of_store
    def read(self, names: Sequence[str]) -> list[Row | Damaged | None]:
        found: list[Any] = []
        for start in range(0, len(names), _MOST):
            found += self._client.hmget(self._keys.entries, list(names[start : start + _MOST]))
        rows = [None if raw is None else decode_row(raw) for raw in found]
        return [
            exactly(self._client, self._keys.entries, name, row) if isinstance(row, Damaged) else row
            for name, row in zip(names, rows)
        ]

    @of_store
    def scan(self, position: int, count: int) -> tuple[int, list[tuple[str, Row | Damaged]]]:
        position, page = self._client.hscan(self._keys.entries, position, count=count)
        return int(position), [(name, decode_row(raw)) for name, raw in page.items()]

    @of_store
    def change(self, changes: Sequence[Change]) -> list[ChangeResult]:
        check_changes(changes)
        keys = self._keys
        args: _Args = [len(changes), *(change.name for change in changes)]
        for change in changes:
            args += _parts(change)
        reply = self._run("change", (keys.cursor, keys.nodes, keys.intents, keys.attempts), args, recovery="")
        return [_result(letter, detail) for letter, detail in zip(reply[1], reply[2])]

    @of_store
    def put_back(self, recovery: str, known: int, rows: Mapping[str, Row]) -> None:
        listed = list(rows.items())
        for start in range(0, max(1, len(listed)), _MOST_WRITTEN):
            args: _Args = [recovery, known]
            for name, row in listed[start : start + _MOST_WRITTEN]:
                args += (name, row.version, encode_row(row))
            self._run("put_back", (self._keys.nodes,), args, recovery=recovery)

    @of_store
    def retire(self, rows: Mapping[str, tuple[Row, Cursor]]) -> None:
        listed = list(rows.items())
        for start in range(0, len(listed), _MOST_WRITTEN):
            args: _Args = []
            for name, (row, cursor) in listed[start : start + _MOST_WRITTEN]:
                args += (name, encode_row(row), encode_cursor(cursor))
            self._run("retire", (self._keys.cursor, self._keys.nodes), args, recovery="")

    def _run(self, name: str, keys: Sequence[str], args: _Args, *, recovery: str) -> list[Any]:
        own = self._keys
        reply: list[Any] = self._scripts[name](
            keys=(own.pool, own.entries, own.changes, *keys), args=(own.wake, *args)
        )
        if reply[0] == "fenced":
            raise FencedError(_fenced(recovery, *reply[1:]))
        return reply


def check_changes(changes: Sequence[Change]) -> None:
    """Raise ``ValueError`` for changes that cannot be one step."""
    if len(changes) > MOST_CHANGES:
        raise ValueError(f"{len(changes)} changes in one step; give at most {MOST_CHANGES}")
    if len({change.name for change in changes}) != len(changes):
        raise ValueError("an entry is changed twice in one step")


def row_to_be(change: Change, version: int) -> Row:
    """The row that ``change`` writes."""
    return Row(version, change.token, change.created, change.updated, change.pause, change.definition)


def _parts(change: Change) -> _Args:
    expected = change.expected
    return [
        _stored(expected),
        expected.hash if isinstance(expected, Row) else change.before,
        row_after_version(row_to_be(change, 0)),
        definition_hash(change.definition),
        to_ms(change.anchor) if change.anchor else "",
        int(change.drops_intents),
        int(change.keeps_since),
    ]


def _stored(row: Row | Damaged | None) -> str | bytes:
    if isinstance(row, Damaged):
        return row.exact or row.raw
    return "" if row is None else encode_row(row)


def _result(letter: str, detail: str) -> ChangeResult:
    return ChangeResult(_STATUSES[letter], decode_row(detail) if detail else None)


def _fenced(recovery: str, reason: str, word: str) -> str:
    if reason == "server":
        return f"Redis is not the server that the pool was last seen on, which has run_id {printable(word)}."
    if word:
        return (
            f"The pool is in recovery {printable(word)}: nothing can be changed until its nodes have merged."
        )
    return f"The recovery {recovery} is over: rows can be put back no more."


def _number(stored: str | None) -> int:
    return int(stored) if stored and stored.isascii() and stored.isdecimal() and len(stored) < 16 else 0
