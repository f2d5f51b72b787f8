"""Cursors and members as the text that Redis holds.

A cursor is a compact JSON array in ASCII,
``[due_ms,"definition",effective_from_ms,revision,fired,skipped,"node"]``.  The claim script compares it
byte by byte, so there is exactly one text for each cursor: a row that would not be written again just as it
was read is ``Damaged``.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

from celery_dispatch.core.entry import Cursor
from celery_dispatch.core.ports import Damaged, Heartbeat, Member, MemberState

__all__ = [
    "decode_cursor",
    "decode_member",
    "encode_cursor",
    "encode_info",
    "from_micros",
    "from_ms",
    "to_ms",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MS = timedelta(milliseconds=1)
_LATEST_MS = 253_402_300_799_999  # the end of the year 9999
_LARGEST = 2**53
_encode = json.JSONEncoder(separators=(",", ":")).encode


# --- time ---------------------------------------------------------------------------------------------------


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970; ``ValueError`` unless ``moment`` is a whole number of them, from 1970 on."""
    ms, rest = divmod(moment - _EPOCH, _MS)
    if rest or ms < 0:
        raise ValueError(f"{moment.isoformat()} is no whole millisecond since 1970")
    return ms


def from_ms(ms: int) -> datetime:
    """The instant, aware UTC."""
    return _EPOCH + timedelta(milliseconds=ms)


def from_micros(micros: int) -> datetime:
    """The instant, aware UTC."""
    return _EPOCH + timedelta(microseconds=micros)


# --- cursors ------------------------------------------------------------------------------------------------


def encode_cursor(cursor: Cursor | None) -> str:
    """The row of ``cursor``; the empty text for none."""
    if cursor is None:
        return ""
    return _encode(
        (
            to_ms(cursor.due),
            cursor.definition,
            to_ms(cursor.effective_from),
            cursor.revision,
            cursor.fired,
            cursor.skipped,
            cursor.node,
        )
    )


def decode_cursor(raw: str) -> Cursor | Damaged:
    """The cursor of a row, or what is wrong with it."""
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        return Damaged(raw, f"not JSON: {error}"[:200])
    if not isinstance(row, list) or len(row) != 7:
        return Damaged(raw, "not an array of seven")
    due, definition, effective_from, revision, fired, skipped, node = row
    if not (_is_count(due, _LATEST_MS) and _is_count(effective_from, _LATEST_MS)):
        return Damaged(raw, "an instant is not milliseconds since 1970")
    if not (_is_count(revision) and revision > 0 and _is_count(fired) and _is_count(skipped)):
        return Damaged(raw, "a count is not a whole number in its range")
    if not (isinstance(definition, str) and isinstance(node, str)):
        return Damaged(raw, "definition or node is not text")
    if _encode(row) != raw:
        return Damaged(raw, "not written as this version writes it")
    return Cursor(from_ms(due), definition, from_ms(effective_from), revision, fired, skipped, node)


def _is_count(value: object, most: int = _LARGEST) -> bool:
    return type(value) is int and 0 <= value <= most


# --- members ------------------------------------------------------------------------------------------------


def encode_info(beat: Heartbeat) -> str:
    """What a node says of itself to people, as a JSON object; what JSON cannot carry becomes text."""
    return json.dumps(dict(beat.info), default=str, separators=(",", ":"))


def decode_member(node: str, lease_end: str, raw: str | None) -> Member | None:
    """The member of a row; ``None`` where the row is not one."""
    try:
        row: Any = json.loads(raw or "")
        state = MemberState(row["state"])
        host, config, joined, info = row["host"], row["config"], row["joined"], row.get("info")
        end = float(lease_end)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not (isinstance(host, str) and isinstance(config, str) and _is_count(joined, _LATEST_MS)):
        return None
    if not 0 <= end <= _LATEST_MS:
        return None
    return Member(
        id=node,
        host=host,
        config=config,
        state=state,
        joined=from_ms(joined),
        lease_end=from_ms(int(end)),
        info=info if isinstance(info, dict) else {},
    )
