"""What of an entry's messages is its own and always the same: its letter, written once and kept.

Arguments are serialised and shown as Celery would do it, which takes longer than all else that is done for an
occurrence.  That is only done where both are plain data, so that it comes out the same each time and runs
nobody's code; ``stencils`` proves that Celery's own messages have the same in them.

A letter that was not asked for in the last hour or two is forgotten: that of an entry which is gone, too.
"""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import timedelta
from json.encoder import JSONEncoder, encode_basestring_ascii
from sys import intern
from typing import Any, Union, cast

from celery import Celery
from celery.utils.saferepr import saferepr

from celery_dispatch.celery_bridge.payload import Payload, payload_of
from celery_dispatch.core.entry import Occurrence
from celery_dispatch.core.records import record

__all__ = ["Letter", "Letters", "quoted"]

_MILLISECOND = timedelta(milliseconds=1)
_KEPT = 3600.0  # seconds, twice at most
_LONGEST = 4_096  # bytes; what is longer is not worth its memory

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
_SIMPLE_TEXT = re.compile(r"[\w .,:/@-]{,100}", re.ASCII)
_EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_plain_json = JSONEncoder().encode  # of plain data kombu's own says the same, and takes three times as long


@record
class Letter:
    """``shape`` is what an entry shares with others: task and options; the four after it are quoted.

    Holds as long as ``payload`` and ``task`` are those that it was written for.
    """

    payload: Payload
    task: object
    shape: str
    name: str
    body: str
    args: str
    kwargs: str
    countdown: timedelta | None
    expires: timedelta | None
    ttl: str  # the same as ``expires``, in milliseconds

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of the entry."""
        return self.payload.options or {}


_Kept = Union[Letter, Payload]  # a payload where it has no letter


class Letters:
    """The letters of what is fired now and then."""

    def __init__(self, app: Celery) -> None:
        self._app: Any = app
        self._kept: dict[str, _Kept] = {}
        self._older: dict[str, _Kept] = {}  # not asked for since ``_kept`` was begun
        self._until = 0.0
        self._tasks: Mapping[str | None, object] = {}  # the registry: it sees what is added
        self._longest = 0, 0  # of how arguments are shown
        self._limits: dict[str, Any] = {}  # the same

    def look(self) -> None:
        """See what Celery goes by when it builds a message, and forget what nobody asked for."""
        app = self._app
        self._tasks = app.tasks
        self._longest = app.amqp.argsrepr_maxsize, app.amqp.kwargsrepr_maxsize
        levels = getattr(app.conf, "task_repr_maxlevels", None)  # since Celery 5.7
        self._limits = {} if levels is None else {"maxlevels": levels}
        if time.monotonic() >= self._until:
            self._kept, self._older = {}, self._kept
            self._until = time.monotonic() + _KEPT

    def of(self, occurrence: Occurrence) -> Letter | None:
        """The letter of the occurrence's entry; ``None`` where Celery must build its messages."""
        name, payload = occurrence.entry.name, payload_of(occurrence.entry)
        known, task = self._kept.get(name), self._tasks.get(payload.task)
        if known is None and name in self._older:
            known = self._kept[name] = self._older.pop(name)
        if isinstance(known, Letter) and known.payload is payload and known.task is task:
            return known
        if known is payload:
            return None
        letter = self._written(name, payload, task)
        self._kept[name] = letter or payload
        return letter

    def _written(self, name: str, payload: Any, task: Any) -> Letter | None:
        options = payload.options or {}
        args, kwargs = list(payload.args or ()), dict(payload.kwargs or {})
        if not (_are_plain_options(options) and _is_plain(args) and _is_plain(kwargs)):
            return None
        try:
            if task is not None:
                _check_signature(task, args, kwargs)
            body = b64encode(_plain_json((args, kwargs, _EMBEDDED)).encode()).decode()
            shown_args = quoted(self._shown(args or (), self._longest[0]))
            shown_kwargs = quoted(self._shown(kwargs, self._longest[1]))
            countdown, expires = _span(options.get("countdown")), _span(options.get("expires"))
        except Exception:  # Celery will say what is wrong with it
            return None
        if len(body) + len(shown_args) + len(shown_kwargs) > _LONGEST:
            return None
        ttl = str(expires // _MILLISECOND) if expires else ""
        shape = intern(f"{payload.task} {options!r}")  # one text for all that share it
        return Letter(
            payload, task, shape, quoted(name), body, shown_args, shown_kwargs, countdown, expires, ttl
        )

    def _shown(self, value: Any, most: int) -> str:
        """Arguments as Celery shows them to people."""
        if not value or (type(value) is list and all(map(_is_simple, value))):
            text = repr(value)
            if len(text) < most:
                return text if value else intern(text)
        return str(saferepr(value, most, **self._limits))


def _are_plain_options(options: Any) -> bool:
    """Whether all are known, and plain; what has expired when it is sent, Celery warns of."""
    return type(options) is dict and (
        not options
        or (
            all(
                name in _OPTIONS and type(value) in _OPTIONS[name] and _is_plain(value)
                for name, value in options.items()
            )
            and options.get("expires", 1) >= 1
        )
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


def quoted(text: str) -> str:
    """``text`` as it stands between the quotes of JSON; itself where it stands so."""
    inner = encode_basestring_ascii(text)[1:-1]
    return text if inner == text else inner
