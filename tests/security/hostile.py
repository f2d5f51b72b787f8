"""What somebody who may write to the Redis, or a bug, could leave under the keys of a pool.

``VALUES`` go into every place; ``cursors``, ``members`` and ``intents`` look right and are not.
"""

from __future__ import annotations

import json
import os
import pickle
import tempfile
from collections.abc import Iterator
from typing import Any

from celery_dispatch.redis_store.keys import Keys

__all__ = [
    "ESCAPES",
    "FAR",
    "POOL_FIELDS",
    "VALUES",
    "WHOLE_KEYS",
    "WITNESS",
    "cursors",
    "fill_pool",
    "fill_rows",
    "intents",
    "members",
    "put_intent",
    "put_member",
    "take_key",
]

#: A directory that is made when a pickle, or what looks like one, was believed.
WITNESS = os.path.join(tempfile.gettempdir(), f"dispatch-witness-{os.getpid()}")


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (WITNESS,)


#: What a terminal would obey: a title, a cleared screen, a cursor moved up over a line, C1, bidi.
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x1b[1A\r\x9b31m\u202eelbat\u202c\u2028line\nforged: all is well"

#: In ms since 1970; the last that Python's datetime can hold, and one that only looks harmless.
_END, FAR = 253_402_300_799_999, 126_701_150_399_999

VALUES: dict[str, bytes] = {
    "empty": b"",
    "bytes": bytes(range(256)),
    "no-utf8": b"\xff\xfe\xed\xa0\x80\xc3(",
    "megabyte": b"A" * 1_000_000,
    "null": b"null",
    "array": b"[]",
    "object": b"{}",
    "text": b'"text"',
    "nan": b"NaN",
    "infinity": b"Infinity",
    "minus-infinity": b"-Infinity",
    "inf": b"inf",
    "beyond-float": b"1e400",
    "negative": b"-1",
    "fraction": b"0.5",
    "many-digits": b"9" * 5_000,
    "end-of-time": str(_END - 1).encode(),
    "past-the-end": b"253402300799999999",
    "deep-array": b"[" * 100_000,
    "deep-object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "surrogate": b'"\\ud800"',
    "escapes": ESCAPES.encode(),
    "pickle-0": pickle.dumps(_Evil(), 0),
    "pickle-4": pickle.dumps(_Evil(), 4),
    "reduce": json.dumps({"__reduce__": ["os.mkdir", [WITNESS]]}).encode(),
    "py-object": json.dumps({"py/reduce": [{"py/function": "os.mkdir"}, [WITNESS]]}).encode(),
    "kombu-type": b'{"__type__": "decimal", "__value__": "x"}',
    "lua": b"]] redis.call('FLUSHALL') --[[",
    "format": b"%s%n{0.__class__}",
}  # fmt: skip

#: The fields of the pool, but the two by which it is known whose it is and who fires.
POOL_FIELDS = (
    *("identity", "before_config", "challenger", "epoch", "run_id", "recovery", "recovery_names"),
    *("since", "before_since", "before_until", "reopened", "swept", "challenger_at", "vote_at", "changes"),
    *("beat_at", "lease"),
    *("no_trim_until", "recovery_from", "recovery_until", "identity_at", "unheard-of"),
    *("catalog", "catalog_floor", "gate"),
)

#: Each key of the pool with a command that makes it something else.
WHOLE_KEYS = {
    f"{name} is a {kind}": (name, command)
    for name in ("pool", "nodes", "members", "cursor", "entries", "changes", "intents", "attempts")
    for kind, command in (
        ("string", ("SET", "taken")),
        ("list", ("RPUSH", "taken")),
        ("set", ("SADD", "taken")),
        ("hash", ("HSET", "taken", "1")),
        ("zset", ("ZADD", "1", "taken")),
    )
    if (kind == "hash") <= (name in ("nodes", "changes", "attempts"))
    and (kind == "zset") <= (name not in ("nodes", "changes", "attempts"))
}


# --- rows that look right -----------------------------------------------------------------------------------

_WORDS: tuple[Any, ...] = (
    None, -1, 0, 0.5, 1e300, 2**53 + 1, 10**400, _END, True, "text", "", ESCAPES, "\ud800", [], {}, [[1]],
    float("nan"), float("inf"), {ESCAPES: ESCAPES}, "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59",
)  # fmt: skip


def cursors(now: int) -> Iterator[str]:
    """Rows that are nearly cursors, or cursors that no node would write."""
    good: list[Any] = [now, "d", now, 1, 0, 0, "n"]
    for place in range(7):
        for word in _WORDS:
            yield _compact([*good[:place], word, *good[place + 1 :]])
    yield from (_compact([*good, word]) for word in _WORDS)
    for due in (0, 1, now - 10**10, now + 3_600_000, FAR, *(_END - ms for ms in (0, 1, 110, 1_400, 10**8))):
        yield _compact([due, "d", 0, 9, 1, 0, "n"])
        yield _compact([now, "d", due, 2**53, 1, 0, "n"])
        yield _compact([due, "", due, 2**53, 1, 0, "n"])


def members(now: int) -> Iterator[str]:
    """Rows that are nearly members, or members with a hostile tale; none of the pool's own app."""
    good: dict[str, Any] = {
        "host": "h", "config": "v", "identity": "another", "state": "steady", "draining": False,
        "joined": now, "info": {},
    }  # fmt: skip
    told = (
        *("pid", "name", "version", "started", "recovered", "entries", "standby", "fired", "skipped", "lag"),
        *("loading", "outage", "errors", "error_count", "open_intents"),
    )
    for word in _WORDS:
        yield from (json.dumps({**good, name: word}) for name in good)
        yield from (json.dumps({**good, "info": {name: word}}) for name in told)
        yield json.dumps({**good, "info": {"lag": {"p50": word, "max": word}}})
        yield json.dumps({**good, "info": {"errors": {"good-1": word, ESCAPES: ESCAPES}}})


_TOKEN = "0123456789abcdef"


def intents(now: int) -> Iterator[tuple[str, str]]:
    """Fields and rows that are nearly intents, or are such as no node would write; none holds a message."""
    for number, (name, row) in enumerate(_rows(now)):
        yield (name or f"{now + number}:good-1"), row
    yield f"{now}:not-in-the-catalog", _row("gone", ["d", None])
    yield f"{_END}:good-1", _row("gone", ["d", None], since=_END)
    yield f"{_END + 1}:good-1", _row("gone", ["d", None])
    yield f"{now}:{ESCAPES}", _row("gone", ["d", None])
    yield "good-1", _row("gone", ["d", None])


def _rows(now: int) -> Iterator[tuple[str, str]]:
    for word in (None, 5, [], ESCAPES, "\ud800"):
        yield "", _row(word, ["d", None])
        yield "", _row("gone", [word, None])
        yield "", _row("gone", ["d", word and [word]])
        yield "", _row("gone", ["d", word and [["LPUSH", word if word != ESCAPES else 1, "message"]]])
        yield "", _row("gone", ["d", word and [["LPUSH", "celery", "message", word]]])
    yield "", f'{_TOKEN} 1 "a","b"\n["d",null]'
    yield "", f'{_TOKEN} 1 "",{"[" * 5000},""\n["d",null]'
    yield "", _row("mine", ["d", None])
    yield "", _row("gone", ["d", None], since=now + 10**11)
    for op in ("FLUSHALL", "DEL", "SET", "CONFIG", "EVAL", "lpush", "RPUSH", "SADD", "XADD", ESCAPES):
        yield "", _row("gone", ["d", [[op, "victim", "1"]]])
    for key in Keys("celery-dispatch").permanent:
        yield "", _row("gone", ["d", [["PEXPIRE", key, "1"]]])
        yield "", _row("gone", ["d", [["LPUSH", key, "1"]]])


def _row(node: Any, rest: Any, *, since: object = 1) -> str:
    return f"{_TOKEN} {since} {json.dumps(node)}\n{_compact(rest)}"


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


# --- what is written ----------------------------------------------------------------------------------------


def fill_rows(redis: Any, keys: Keys, value: bytes) -> None:
    """``value`` in every row and as every name, but for the rows of the pool and of entries beside good-1."""
    for key in (keys.cursor, keys.members, keys.entries, keys.intents):
        redis.hset(key, value, value)
    for name in ("good-1", "unheard-of"):
        redis.hset(keys.cursor, name, value)
    redis.hset(keys.members, "mine", value)
    put_member(redis, keys, "other", value)
    redis.zadd(keys.nodes, {value: 10**14})
    put_intent(redis, keys, b"1:good-1", value)
    redis.zadd(keys.attempts, {value: float("inf")})
    redis.zadd(keys.changes, {value: float("inf"), b"good-1": 10**14})
    facets = keys.facets(redis.hget(keys.pool, "config").decode())
    redis.hset(facets, mapping={"count": "1", value: value})
    redis.pexpire(facets, 60_000)
    redis.publish(keys.wake, value)


def fill_pool(redis: Any, keys: Keys, value: bytes) -> None:
    """``value`` in each of ``POOL_FIELDS``."""
    redis.hset(keys.pool, mapping=dict.fromkeys(POOL_FIELDS, value))


def put_member(redis: Any, keys: Keys, node: str, row: str | bytes, *, until: int = FAR) -> None:
    redis.hset(keys.members, node, row)
    redis.zadd(keys.nodes, {node: until})


def put_intent(redis: Any, keys: Keys, field: str | bytes, row: str | bytes) -> None:
    redis.hset(keys.intents, field, row)
    redis.zadd(keys.attempts, {field: 1})


def take_key(redis: Any, keys: Keys, what: str) -> str:
    """Make one of ``WHOLE_KEYS`` something else; which key it is."""
    name, (command, *arguments) = WHOLE_KEYS[what]
    key = str(getattr(keys, name))
    redis.delete(key)
    redis.execute_command(command, key, *arguments)
    return key
