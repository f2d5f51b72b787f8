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

Not every entry has a shape.  Its options must be of those in ``_OPTIONS`` and plain data, as its arguments
must be.  A message must be of Celery's task protocol 2 in kombu's own JSON, not compressed, hold no header
or property that this module does not know, and go to the default exchange or to a fanout.  Whatever is not so
is built by Celery each time.  So is all that runs code of the user, for whoever renders asks for that first.
"""

from __future__ import annotations

import os
import re
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from json import loads
from json.encoder import JSONEncoder, encode_basestring_ascii
from operator import itemgetter
from secrets import token_hex
from sys import intern
from typing import Any, cast

from celery import Celery
from celery.beat import ScheduleEntry
from celery.utils.saferepr import saferepr
from kombu.serialization import registry  # type: ignore[attr-defined]
from kombu.utils import json

from celery_dispatch.celery_bridge.moments import rfc3339
from celery_dispatch.celery_bridge.rendering import TaskIds, payload_of, uuid_text
from celery_dispatch.core.entry import Occurrence
from celery_dispatch.core.ports import Command

__all__ = ["Stencils"]

_MILLISECOND = timedelta(milliseconds=1)
_AGE = 1.0  # seconds that a stencil is used
_MOST_SHAPES = 500  # beyond, most stencils would be cut for nothing
_MOST_LETTERS = 200_000
_LONGEST_LETTER = 4_096  # bytes; what is longer is not worth its memory
_TAGS = 256  # delivery tags made at a time: each time costs a system call

_OPTIONS: Mapping[str, tuple[type, ...]] = {
    "queue": (str,),
    "routing_key": (str,),
    "priority": (int, type(None)),
    "countdown": (int, float),
    "expires": (int, float),
    "expiration": (int, float),
    "time_limit": (int, float, type(None)),
    "soft_time_limit": (int, float, type(None)),
    "ignore_result": (bool,),
    "shadow": (str, type(None)),
    "serializer": (str,),
    "delivery_mode": (int, str),
    "headers": (dict, type(None)),
}
_SCALARS = (str, int, float, bool, type(None))
_EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

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

_SIMPLE_TEXT = re.compile(r"[\w .,:/@-]{,100}", re.ASCII)

_plain_json = JSONEncoder().encode  # of plain data kombu's own says the same, and takes three times as long

_Values = tuple[str, ...]  # as they stand between the quotes of JSON


@dataclass(frozen=True, slots=True)
class _Letter:
    """What of an entry's messages is its own and always the same; ``shape`` is what it shares with others.

    Holds as long as ``payload`` and ``task`` are those that it was written for.
    """

    payload: ScheduleEntry
    task: object
    shape: str
    words: tuple[str, str, str, str]  # name, body, args, kwargs
    countdown: timedelta | None
    expires: timedelta | None
    ttl: str  # the same as ``expires``, in milliseconds


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
        self._letters: dict[str, _Letter | ScheduleEntry] = {}  # a payload where it has no shape
        self._shapes: dict[str, _Stencil | None] = {}  # None where no stencil can be cut
        self._limits: dict[str, Any] = {}  # of how arguments are shown
        self._longest = 0, 0  # the same
        self._tasks: Mapping[str | None, object] = {}  # the registry: it sees what is added
        self._until = 0.0
        self._tags: list[str] = []
        self._due: tuple[datetime | None, str] = (None, "")

    def message(self, occurrence: Occurrence, now: datetime) -> tuple[Command, ...] | None:
        """The message of ``occurrence``; ``None`` where Celery must build it."""
        if time.monotonic() > self._until:
            self._shapes.clear()
            self._until = time.monotonic() + _AGE
            self._look()
        letter = self._letter(occurrence)
        if letter is None:
            return None
        stencil = self._shapes.get(letter.shape)
        if stencil is None or not stencil.proven:
            return None
        return stencil.fill(self._values(letter, occurrence, now, (self._tag(), letter.ttl)))

    def _look(self) -> None:
        """See what Celery goes by when it builds a message."""
        app = self._app
        self._tasks = app.tasks
        self._longest = app.amqp.argsrepr_maxsize, app.amqp.kwargsrepr_maxsize
        levels = getattr(app.conf, "task_repr_maxlevels", None)  # since Celery 5.7
        self._limits = {} if levels is None else {"maxlevels": levels}

    def learn(self, occurrence: Occurrence, now: datetime, commands: tuple[Command, ...]) -> None:
        """Celery has built this message of ``occurrence`` at ``now``."""
        letter, name = self._letter(occurrence), occurrence.entry.name
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

    def _is_kombus_json(self, letter: _Letter) -> bool:
        """Whether the body is serialised by kombu's own JSON: any other code may do more than that."""
        options: Any = letter.payload.options or {}
        name = options.get("serializer", getattr(letter.task, "serializer", None))
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
        self, letter: _Letter, occurrence: Occurrence, now: datetime, tag_and_ttl: tuple[str, str]
    ) -> _Values:
        due = self._due_text(occurrence.due)
        return (
            self._task_ids.of(occurrence.entry.name, due),
            *tag_and_ttl,
            due,
            *letter.words,
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

    # --- letters --------------------------------------------------------------------------------------------

    def _letter(self, occurrence: Occurrence) -> _Letter | None:
        name, payload = occurrence.entry.name, payload_of(occurrence)
        known, task = self._letters.get(name), self._tasks.get(payload.task)
        if isinstance(known, _Letter) and known.payload is payload and known.task is task:
            return known
        if known is payload:
            return None
        if len(self._letters) >= _MOST_LETTERS:  # names that came and went
            self._letters.clear()
        letter = self._written(name, payload, task)
        self._letters[name] = letter or payload
        return letter

    def _written(self, name: str, payload: Any, task: Any) -> _Letter | None:
        options = payload.options or {}
        args, kwargs = list(payload.args or ()), dict(payload.kwargs or {})
        if not (_are_plain_options(options) and _is_plain(args) and _is_plain(kwargs)):
            return None
        try:
            if task is not None:
                _check_signature(task, args, kwargs)
            words = (
                _quoted(name),
                b64encode(_plain_json((args, kwargs, _EMBEDDED)).encode()).decode(),
                _quoted(self._shown(args or (), self._longest[0])),
                _quoted(self._shown(kwargs, self._longest[1])),
            )
            countdown, expires = map(_span, (options.get("countdown"), options.get("expires")))
        except Exception:  # Celery will say what is wrong with it
            return None
        if sum(map(len, words)) > _LONGEST_LETTER:
            return None
        ttl = str(expires // _MILLISECOND) if expires else ""
        shape = intern(f"{payload.task} {options!r}")  # one for all that share it
        return _Letter(payload, task, shape, words, countdown, expires, ttl)

    def _shown(self, value: Any, most: int) -> str:
        """Arguments as Celery shows them to people."""
        if not value or (type(value) is list and all(map(_is_simple, value))):
            text = repr(value)
            if len(text) < most:
                return text
        return str(saferepr(value, most, **self._limits))


# --- what can be prepared -----------------------------------------------------------------------------------


def _are_plain_options(options: Any) -> bool:
    """Whether all are known; what has expired when it is sent, Celery warns of.

    Headers of the entry's own must not be where a stencil has its holes.
    """
    return (
        type(options) is dict
        and all(
            name in _OPTIONS and type(value) in _OPTIONS[name] and _is_plain(value)
            for name, value in options.items()
        )
        and options.get("expires", 1) >= 1
        and _FILLED.isdisjoint(options.get("headers") or ())
    )


def _is_plain(value: object) -> bool:
    """Whether it is data that JSON has words for: the same each time, and without code of anybody's."""
    if type(value) in _SCALARS:
        return True
    if type(value) in (list, tuple):
        return all(map(_is_plain, cast("Sequence[object]", value)))
    if type(value) is dict:
        return all(type(key) is str and _is_plain(each) for key, each in value.items())
    return False


def _is_simple(value: object) -> bool:
    """Whether Celery shows it as Python does."""
    if type(value) is str:
        return _SIMPLE_TEXT.fullmatch(value) is not None
    return value is None or type(value) in (int, bool)


def _check_signature(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise for what ``Task.apply_async`` refuses or changes."""
    if getattr(task, "_dump_pydantic_arguments", None) is not None:
        raise TypeError("its arguments are changed by pydantic")
    if task.typing:
        task.__header__(*args, **kwargs)


def _span(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=float(seconds))


def _quoted(text: str) -> str:
    """``text`` as it stands between the quotes of JSON."""
    return encode_basestring_ascii(text)[1:-1]


# --- cutting ------------------------------------------------------------------------------------------------


def _found(commands: Sequence[Command]) -> tuple[str, str]:
    """Delivery tag and time to live of a message as Celery gave them to it; empty where it has none."""
    text = commands[0].value if commands else ""
    tag, ttl = (found[1] if (found := pattern.search(text)) else "" for pattern in _EACH_TIME)
    return tag, ttl


def _cut(letter: _Letter, name: str, values: _Values, commands: tuple[Command, ...]) -> _Stencil | None:
    """A stencil from a message that Celery built, or ``None`` where something in it is not known."""
    texts = {command.value for command in commands if command.op != "PEXPIRE"}
    if len(texts) != 1:  # none, or an event as well
        return None
    text = texts.pop()
    queues = any(command.op == "LPUSH" for command in commands)
    message = _known_message(text, own_headers=_own_headers(letter), queues=queues)
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


def _own_headers(letter: _Letter) -> Mapping[str, object]:
    options: Any = letter.payload.options
    return (options or {}).get("headers") or {}


def _known_message(text: str, *, own_headers: Mapping[str, object], queues: bool) -> dict[str, Any] | None:
    """A message of which every part is known; ``None`` if it is not."""
    try:
        message: dict[str, Any] = loads(text)
        headers, properties = message["headers"], message["properties"]
        known = (
            message.keys() == _PARTS
            and (message["content-type"], message["content-encoding"]) == _JSON
            and headers.keys() <= _HEADERS | own_headers.keys()
            and properties.keys() <= _PROPERTIES
            and not (queues and properties["delivery_info"]["exchange"])
        )
    except (ValueError, TypeError, KeyError, AttributeError):  # it is none of Celery's
        return None
    return message if known else None


def _put_holes(message: dict[str, Any], letter: _Letter, values: _Values, mark: str) -> bool:
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
    return _quoted(value) if isinstance(value, str) else None
