"""Prepared messages: what Celery made of one entry, used for others of the same shape.

Celery takes some 100 µs to build a message, and most of it is the same each time.  Entries that have task and
options in common are of one *shape*: their messages differ in task id, delivery tag, due, name, arguments and
the instants of ``countdown`` and ``expires``, and in nothing else.  A *stencil* is such a message with holes
in these places::

    first of a shape ──► built by Celery, a stencil is cut from it
    second           ──► built by Celery; only if the stencil gives just the same, it is proven
    all others       ──► filled in

Celery's own messages go out while a stencil is being proven, so that nothing is sent which it did not make.
A stencil holds for a second: routes, queues, settings and task classes that change while beat runs are
followed.  It pays where many are due at once, and costs nothing where they are not.

Not every entry has a shape: it must have a letter (``letters``), its options and arguments being plain data.
A message must be of Celery's task protocol 2 in kombu's own JSON, not compressed, hold no header or property
that this module does not know, and go to the default exchange or to a fanout.  Whatever is not so is built by
Celery each time.  So is all that runs code of the user, for whoever renders asks for that first.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from json import loads
from operator import itemgetter
from secrets import token_hex
from typing import Any

from celery import Celery
from kombu.serialization import registry  # type: ignore[attr-defined]
from kombu.utils import json

from celery_dispatch.celery_bridge.letters import Letter, Letters, quoted
from celery_dispatch.celery_bridge.moments import rfc3339
from celery_dispatch.celery_bridge.rendering import TaskIds, uuid_text
from celery_dispatch.core.entry import Occurrence
from celery_dispatch.core.ports import Command

__all__ = ["Stencils"]

_AGE = 1.0  # seconds that a stencil is used
_MOST_SHAPES = 500  # beyond, most stencils would be cut for nothing
_TAGS = 256  # delivery tags made at a time: each time costs a system call

_JSON = ("application/json", "utf-8")
_PARTS = {"body", "content-encoding", "content-type", "headers", "properties"}
_HEADERS = {
    "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit",
    "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting",
    "stamped_headers", "stamps",
    "periodic_task_name", "dispatch_entry", "dispatch_due", "dispatch_node", "celery_beat_task",
}  # fmt: skip
_PROPERTIES = {
    "correlation_id", "reply_to", "delivery_mode", "delivery_info", "priority", "body_encoding",
    "delivery_tag", "expiration",
}  # fmt: skip

# The values of a message, by their places in the tuple that fills a stencil.
_ID, _TAG, _TTL, _DUE, _NAME, _BODY, _ARGS, _KWARGS, _ETA, _EXPIRES = range(10)
_HOLES = (
    ("", "body", _BODY),
    ("properties", "delivery_tag", _TAG),
    ("properties", "correlation_id", _ID),
    ("headers", "id", _ID),
    ("headers", "root_id", _ID),
    ("headers", "dispatch_due", _DUE),
    ("headers", "dispatch_entry", _NAME),
    ("headers", "periodic_task_name", _NAME),
    ("headers", "argsrepr", _ARGS),
    ("headers", "kwargsrepr", _KWARGS),
)

_FILLED = {field for part, field, _ in _HOLES if part == "headers"} | {"eta", "expires"}
_EACH_TIME = (re.compile(r'"delivery_tag": "([^"]*)"'), re.compile(r'"expiration": "([^"]*)"'))

_Values = tuple[str, ...]  # as they stand between the quotes of JSON


@dataclass(slots=True)
class _Stencil:
    """A message with holes; ``commands`` carry it to its queues, with ``None`` where it goes."""

    cut_from: str
    commands: tuple[tuple[str, str, str | None], ...]
    text: str
    pick: Callable[[_Values], Any]
    proven: bool = False

    def fill(self, values: _Values) -> tuple[Command, ...]:
        text = self.text % self.pick(values)
        return tuple([Command(op, key, value or text) for op, key, value in self.commands])


class Stencils:
    """Messages that need not be built by Celery; for entries that run no code of the user.

    Belongs to the thread that renders.
    """

    def __init__(self, app: Celery, *, key_prefix: str) -> None:
        self._app: Any = app
        self._task_ids = TaskIds(key_prefix)
        self._letters = Letters(app)
        self._shapes: dict[str, _Stencil | None] = {}  # None where no stencil can be cut
        self._until = 0.0
        self._tags: list[str] = []
        self._due: tuple[datetime | None, str] = (None, "")

    def message(self, occurrence: Occurrence, now: datetime) -> tuple[Command, ...] | None:
        """The message of ``occurrence``; ``None`` where Celery must build it."""
        if time.monotonic() > self._until:
            self._shapes.clear()
            self._until = time.monotonic() + _AGE
            self._letters.look()
        letter = self._letters.of(occurrence)
        if letter is None:
            return None
        stencil = self._shapes.get(letter.shape)
        if stencil is None or not stencil.proven:
            return None
        return stencil.fill(self._values(letter, occurrence, now, (self._tag(), letter.ttl)))

    def learn(self, occurrence: Occurrence, now: datetime, commands: tuple[Command, ...]) -> None:
        """Celery has built this message of ``occurrence`` at ``now``."""
        letter, name = self._letters.of(occurrence), occurrence.entry.name
        if letter is None:
            return
        values = self._values(letter, occurrence, now, _found(commands))
        stencil = self._shapes.get(letter.shape)
        if stencil is None:
            if letter.shape not in self._shapes and len(self._shapes) < _MOST_SHAPES:
                may = self._is_kombus_json(letter) and self._backend_is_silent()
                self._shapes[letter.shape] = _cut(letter, name, values, commands) if may else None
        elif stencil.cut_from != name and not stencil.proven:
            stencil.proven = stencil.fill(values) == commands
            if not stencil.proven:
                self._shapes[letter.shape] = None

    def _is_kombus_json(self, letter: Letter) -> bool:
        """Whether the body is serialised by kombu's own JSON: any other code may do more than that."""
        name = letter.options.get("serializer", getattr(letter.task, "serializer", None))
        codec = getattr(registry, "_encoders", {}).get("json")
        return (name or self._app.conf.task_serializer) == "json" and codec == (*_JSON, json.dumps)

    def _backend_is_silent(self) -> bool:
        """Whether the result backend does nothing of its own when a task is sent."""
        try:
            module: str = type(self._app.backend).on_task_call.__module__
        except Exception:  # it cannot be loaded
            return False
        return module.startswith("celery.")

    # --- values ---------------------------------------------------------------------------------------------

    def _values(
        self, letter: Letter, occurrence: Occurrence, now: datetime, tag_and_ttl: tuple[str, str]
    ) -> _Values:
        due = self._due_text(occurrence.due)
        return (
            self._task_ids.of(occurrence.entry.name, due),
            *tag_and_ttl,
            due,
            letter.name,
            letter.body,
            letter.args,
            letter.kwargs,
            "" if letter.countdown is None else (now + letter.countdown).isoformat(),
            "" if letter.expires is None else (now + letter.expires).isoformat(),
        )

    def _due_text(self, due: datetime) -> str:
        """Many entries are due at one instant."""
        if self._due[0] != due:
            self._due = (due, rfc3339(due))
        return self._due[1]

    def _tag(self) -> str:
        if not self._tags:
            digits = os.urandom(16 * _TAGS).hex()
            self._tags = [digits[at : at + 32] for at in range(0, len(digits), 32)]
        return uuid_text(self._tags.pop(), version=4)


# --- cutting ------------------------------------------------------------------------------------------------


def _found(commands: Sequence[Command]) -> tuple[str, str]:
    """Delivery tag and time to live of a message as Celery gave them to it; empty where it has none."""
    text = commands[0].value if commands else ""
    tag, ttl = (found[1] if (found := pattern.search(text)) else "" for pattern in _EACH_TIME)
    return tag, ttl


def _cut(letter: Letter, name: str, values: _Values, commands: tuple[Command, ...]) -> _Stencil | None:
    """A stencil from a message that Celery built, or ``None`` where something in it is not known."""
    texts = {command.value for command in commands if command.op != "PEXPIRE"}
    if len(texts) != 1:  # none, or an event as well
        return None
    text = texts.pop()
    queues = any(command.op == "LPUSH" for command in commands)
    message = _known_message(text, own_headers=letter.options.get("headers") or (), queues=queues)
    mark = token_hex(8)
    if message is None or not _put_holes(message, letter, values, mark):
        return None
    parts = re.split(rf"{mark}(\d)", str(json.dumps(message)))
    stencil = _Stencil(
        name,
        tuple((c.op, c.key, c.value if c.op == "PEXPIRE" else None) for c in commands),
        "%s".join(part.replace("%", "%%") for part in parts[::2]),
        itemgetter(*map(int, parts[1::2])),
    )
    return stencil if stencil.fill(values) == commands else None


def _known_message(text: str, *, own_headers: Iterable[str], queues: bool) -> dict[str, Any] | None:
    """A message of which every part is known; ``None`` if it is not."""
    try:
        message: dict[str, Any] = loads(text)
        headers, properties = message["headers"], message["properties"]
        known = (
            message.keys() == _PARTS
            and (message["content-type"], message["content-encoding"]) == _JSON
            and headers.keys() <= _HEADERS.union(own_headers)
            and _FILLED.isdisjoint(own_headers)
            and properties.keys() <= _PROPERTIES
            and not (queues and properties["delivery_info"]["exchange"])
        )
    except (ValueError, TypeError, KeyError, AttributeError):  # it is none of Celery's
        return None
    return message if known else None


def _put_holes(message: dict[str, Any], letter: Letter, values: _Values, mark: str) -> bool:
    """Put ``mark`` and its number in the place of each value; whether all were what they had to be."""
    holes = list(_HOLES)
    for field, value, span in (("eta", _ETA, letter.countdown), ("expires", _EXPIRES, letter.expires)):
        if span is not None:
            holes.append(("headers", field, value))
        elif message["headers"].get(field) is not None:
            return False
    if letter.expires is not None:
        holes.append(("properties", "expiration", _TTL))
    for part, field, value in holes:
        place = message if not part else message[part]
        if _quoted_or_none(place.get(field)) != values[value]:
            return False
        place[field] = f"{mark}{value}"
    return True


def _quoted_or_none(value: object) -> str | None:
    return quoted(value) if isinstance(value, str) else None
