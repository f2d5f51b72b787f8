"""Cursors and members as the text that Redis holds.

A cursor is a compact JSON array in ASCII,
``[due_ms,"definition",effective_from_ms,revision,fired,skipped,"node"]``, and the version of its run-time row
after that where it stands under one.  The claim script compares it byte by byte, so there is exactly one text
for each cursor: a row that would not be written again just as it was read is ``Damaged``.

What is read may have been written by anybody: text that is shown to people is made printable, instants and
numbers are bounded so that reckoning with them cannot overflow, and an operation is one of four words.

An intent is two lines: ``token since_ms "node"``, which is all of it that scripts read and write, and the
JSON array ``["definition",[["op","key","value"],...]]``, with ``null`` for a message that was not rendered.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from sys import intern
from typing import Any

from celery_dispatch.core.entry import Cursor
from celery_dispatch.core.ports import Command, Damaged, Heartbeat, Intent, Member, MemberState

__all__ = [
    "attempt_seed",
    "attempt_token",
    "decode_cursor",
    "decode_intent",
    "decode_member",
    "encode_cursor",
    "encode_info",
    "encode_intent",
    "encode_node",
    "from_micros",
    "from_ms",
    "intent_field",
    "is_count",
    "is_instant",
    "is_text",
    "printable",
    "to_ms",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MS_A_DAY = 86_400_000
_LATEST_MS = 221_845_392_000_000  # the year 9000: what is added to an instant never leaves the calendar
_LARGEST = 2**53
_LONGEST = 2_000  # characters of what a node says of itself
_encode = json.JSONEncoder(separators=(",", ":")).encode
_quoted = encode_basestring_ascii
# As nearly every cursor is written; what does not look like it is looked at more closely.
_PLAIN_CURSOR = re.compile(
    r'\[(0|[1-9]\d{0,13}),"([0-9A-Za-z._:-]*)",(0|[1-9]\d{0,13}),([1-9]\d{0,14}),(0|[1-9]\d{0,14}),'
    r'(0|[1-9]\d{0,14}),"([0-9A-Za-z._:@-]*)"\]',
    re.ASCII,
)


# --- time ---------------------------------------------------------------------------------------------------


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970; ``ValueError`` unless ``moment`` is a whole number of them, from 1970 on.

    Remembered for many claims at one instant, but not in zones where clocks go back: two instants that are
    an hour apart are equal there.
    """
    return _utc_ms(moment) if moment.tzinfo is timezone.utc else _ms(moment)


def _ms(moment: datetime) -> int:
    since = moment - _EPOCH
    if since.microseconds % 1000 or since.days < 0:
        raise ValueError(f"{moment.isoformat()} is no whole millisecond since 1970")
    return since.days * _MS_A_DAY + since.seconds * 1000 + since.microseconds // 1000


_utc_ms = lru_cache(maxsize=1_000)(_ms)


@lru_cache(maxsize=1_000)
def from_ms(ms: int) -> datetime:
    """The instant, aware UTC; one object for those of many cursors that were read together."""
    return _EPOCH + timedelta(milliseconds=ms)


def from_micros(micros: int) -> datetime:
    """The instant, aware UTC."""
    return _EPOCH + timedelta(microseconds=micros)


# --- cursors ------------------------------------------------------------------------------------------------


def encode_cursor(cursor: Cursor | None) -> str:
    """The row of ``cursor``; the empty text for none."""
    if cursor is None:
        return ""
    change = f",{cursor.change}" if cursor.change else ""
    return (
        f"[{to_ms(cursor.due)},{_quoted(cursor.definition)},{to_ms(cursor.effective_from)},"
        f"{cursor.revision},{cursor.fired},{cursor.skipped},{_quoted(cursor.node)}{change}]"
    )


def decode_cursor(raw: str) -> Cursor | Damaged:
    """The cursor of a row, or what is wrong with it."""
    plain = _PLAIN_CURSOR.fullmatch(raw)
    if plain is not None:
        due, definition, effective_from, revision, fired, skipped, node = plain.groups()
        return Cursor(
            from_ms(int(due)), definition, from_ms(int(effective_from)),
            int(revision), int(fired), int(skipped), intern(node),
        )  # fmt: skip
    return _decode_any(raw)


def _decode_any(raw: str) -> Cursor | Damaged:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        return Damaged(raw, f"not JSON: {error}"[:200])
    if not isinstance(row, list) or len(row) not in (7, 8):
        return Damaged(raw, "not an array of seven or eight")
    due, definition, effective_from, revision, fired, skipped, node, *changes = row
    if not (is_instant(due) and is_instant(effective_from)):
        return Damaged(raw, "an instant is not milliseconds since 1970")
    counts = (revision, fired, skipped, *changes)
    if not (all(map(is_count, counts)) and revision > 0 and changes != [0]):
        return Damaged(raw, "a count is not a whole number in its range")
    if not (isinstance(definition, str) and isinstance(node, str)):
        return Damaged(raw, "definition or node is not text")
    if _encode(row) != raw:
        return Damaged(raw, "not written as this version writes it")
    change = changes[0] if changes else 0
    return Cursor(from_ms(due), definition, from_ms(effective_from), revision, fired, skipped, node, change)


def is_count(value: object) -> bool:
    """Whether it is a whole number that can be reckoned with, not negative."""
    return type(value) is int and 0 <= value <= _LARGEST


def is_instant(value: object) -> bool:
    """Whether it is milliseconds since 1970 that can be reckoned with."""
    return type(value) is int and 0 <= value <= _LATEST_MS


# --- intents ------------------------------------------------------------------------------------------------

#: Whoever publishes an intent carries its commands out, so it must not be able to hold any others.
_OPERATIONS = frozenset({"LPUSH", "PEXPIRE", "PUBLISH", "BASIC.PUBLISH"})
_SEED = re.compile(r"[0-9a-f]{12}")
_TOKEN = re.compile(r"[0-9a-f]{16}")
_INTENT = re.compile(r'([0-9a-f]{16}) ([0-9]{1,15}) ("[^\n]*")\n(\[.*\])')
_FIELD = re.compile(r"([0-9]{1,15}):(.*)", re.DOTALL)


def attempt_seed(token: str) -> str:
    """What the tokens of the attempts that are made from ``token`` begin with."""
    if not _SEED.match(token):
        raise ValueError(f"{token!r} makes no tokens; give 12 hexadecimal digits, as token_hex(6) does")
    return token[:12]


def attempt_token(seed: str, number: int) -> str:
    """The token of the attempt of this ``number`` among those of one seed, below 65,536."""
    return f"{seed}{number:04x}"


def encode_node(node: str) -> str:
    """A node's id as it stands in the row of an intent."""
    return _encode(node)


def intent_field(intent: Intent) -> str:
    """The name under which ``intent`` is stored: ``due_ms:name``."""
    return f"{to_ms(intent.due)}:{intent.name}"


def encode_intent(intent: Intent) -> str:
    """The row of ``intent``; ``ValueError`` unless its token is 16 hexadecimal digits."""
    if not _TOKEN.fullmatch(intent.token):
        raise ValueError(
            f"{intent.token!r} is no token of an attempt; give 16 hexadecimal digits, as token_hex(8) does"
        )
    commands = intent.commands and [(c.op, c.key, c.value) for c in intent.commands]
    attempt = f"{intent.token} {to_ms(intent.since)} {encode_node(intent.node)}"
    return f"{attempt}\n{_encode((intent.definition, commands))}"


def decode_intent(field: str, raw: str) -> Intent | Damaged:
    """The intent of a row, or what is wrong with it."""
    key, row = _FIELD.fullmatch(field), _INTENT.fullmatch(raw)
    if key is None or int(key[1]) > _LATEST_MS or not is_text(key[2]):
        return Damaged(raw, f"its field {field[:200]!r} is not due_ms:name")
    if row is None or int(row[2]) > _LATEST_MS:
        return Damaged(raw, "not an attempt and its message on two lines")
    try:
        node, rest = json.loads(row[3]), json.loads(row[4])
    except (ValueError, RecursionError) as error:
        return Damaged(raw, f"not JSON: {error}"[:200])
    if len(rest) != 2 or not (is_text(node) and is_text(rest[0]) and _is_message(rest[1])):
        return Damaged(raw, "not node, definition and message")
    commands = None if rest[1] is None else tuple(Command(*command) for command in rest[1])
    intent = Intent(
        name=key[2],
        due=from_ms(int(key[1])),
        definition=rest[0],
        node=node,
        token=row[1],
        since=from_ms(int(row[2])),
        commands=commands,
    )
    if intent_field(intent) != field or encode_intent(intent) != raw:
        return Damaged(raw, "not written as this version writes it")
    return intent


def _is_message(value: object) -> bool:
    return value is None or (
        isinstance(value, list)
        and all(isinstance(c, list) and len(c) == 3 and all(map(is_text, c)) for c in value)
        and all(command[0] in _OPERATIONS for command in value)
    )


def is_text(value: object) -> bool:
    """Whether it is text that can be sent."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


# --- words for people ---------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """``text`` without what would move a cursor or end a line where it is shown; U+FFFD stands instead.

    Nothing that this package writes changes by it.
    """
    return text if text.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in text)


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
        identity, draining = row.get("identity", ""), row.get("draining", False)  # not in an older version's
        end = float(lease_end)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not (isinstance(host, str) and isinstance(config, str) and isinstance(identity, str)):
        return None
    if not (isinstance(draining, bool) and is_instant(joined)):
        return None
    if not 0 <= end <= _LATEST_MS:
        return None
    return Member(
        id=printable(node),
        host=printable(host),
        config=printable(config),
        identity=printable(identity),
        state=state,
        draining=draining,
        joined=from_ms(joined),
        lease_end=from_ms(int(end)),
        info={printable(name): _told(what) for name, what in info.items()} if isinstance(info, dict) else {},
    )


def _told(what: object) -> object:
    """A part of what a node says of itself, fit to be shown and reckoned with; ``None`` where it is not."""
    if isinstance(what, str):
        return printable(what[:_LONGEST])
    if isinstance(what, dict):
        flat = {name: each for name, each in what.items() if not isinstance(each, dict)}
        return {printable(name): _told(each) for name, each in flat.items()}
    if isinstance(what, (int, float)) and abs(what) <= _LARGEST:
        return what
    return None
