"""Run-time rows as the text that Redis holds.

A row is a compact JSON object in ASCII, its version first and its definition last:
``{"v":1,"token":"5f0c2a9b","created":ms,"updated":ms,"pause":[since_ms,until_ms,"note","author"],
"definition":{...}}``, where ``pause`` and ``definition`` are left out if there is none, and ``until_ms`` is
``null`` while the pause goes on.  The definition is carried as text, of which is known that it is an object;
only who makes an entry of it reads more.

As with cursors there is one text for each row: what would not be written again just as it was read is
``Damaged``.
"""

from __future__ import annotations

import json
import re
from typing import Any

from celery_dispatch.core.ports import Damaged
from celery_dispatch.core.rows import Pause, Row
from celery_dispatch.redis_store.codec import from_ms, is_count, is_instant, is_text, to_ms

__all__ = ["decode_row", "encode_row", "row_after_version"]

_encode = json.JSONEncoder(separators=(",", ":")).encode
_DEFINITION = ',"definition":'  # stands in no JSON text as a part of a string: its quotes would be escaped
_TOKEN = re.compile(r"[0-9a-f]{8,32}")


def encode_row(row: Row) -> str:
    """The text of ``row``; ``ValueError`` where Redis could not hold it so that it is read again."""
    return f'{{"v":{row.version}{row_after_version(row)}'


def row_after_version(row: Row) -> str:
    """The text of ``row`` without its version, which the script that writes it gives."""
    if not _TOKEN.fullmatch(row.token):
        raise ValueError(
            f"{row.token!r} is no token of a change; give hexadecimal digits, as token_hex(8) does"
        )
    head: dict[str, Any] = {
        "token": row.token,
        "created": to_ms(row.created),
        "updated": to_ms(row.updated),
    }
    if row.pause is not None:
        head["pause"] = _pause(row.pause)
    definition = f"{_DEFINITION}{row.definition}" if row.definition else ""
    return f",{_encode(head)[1:-1]}{definition}}}"


def decode_row(raw: str) -> Row | Damaged:
    """The row of a text, or what is wrong with it."""
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        return Damaged(raw, f"not JSON: {error}"[:200])
    if not isinstance(row, dict) or not {"v", "token", "created", "updated"} <= row.keys():
        return Damaged(raw, "not an object with v, token, created and updated")
    pause = row.get("pause")
    if not (is_count(row["v"]) and is_instant(row["created"]) and is_instant(row["updated"])):
        return Damaged(raw, "version or an instant is not a whole number in its range")
    if not (isinstance(row["token"], str) and _TOKEN.fullmatch(row["token"])):
        return Damaged(raw, "the token is not hexadecimal")
    if pause is not None and not _is_pause(pause):
        return Damaged(raw, "the pause is not since, until, note and author")
    if not isinstance(row.get("definition", {}), dict):
        return Damaged(raw, "the definition is not an object")
    decoded = Row(
        version=row["v"],
        token=row["token"],
        created=from_ms(row["created"]),
        updated=from_ms(row["updated"]),
        pause=None if pause is None else _pause_of(pause),
        definition=raw.partition(_DEFINITION)[2][:-1],
    )
    return decoded if encode_row(decoded) == raw else Damaged(raw, "not written as this version writes it")


def _pause(pause: Pause) -> list[Any]:
    return [
        to_ms(pause.since),
        None if pause.until is None else to_ms(pause.until),
        pause.note,
        pause.author,
    ]


def _is_pause(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    since, until, note, author = value
    return is_instant(since) and (until is None or is_instant(until)) and is_text(note) and is_text(author)


def _pause_of(row: list[Any]) -> Pause:
    since, until, note, author = row
    return Pause(from_ms(since), None if until is None else from_ms(until), note, author)
