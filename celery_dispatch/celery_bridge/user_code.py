"""Whether publishing an entry runs code of the user, which must run after the claim, on its winner.

Code counts as the user's if it was not defined where Celery or kombu define it.  That is asked of the
globals of the function, not of its name: a wrapper made with ``functools.wraps`` takes over the name of what
it wraps.  What is no plain function or method is no code of theirs either.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any

from celery import Celery, signals
from celery.app.routes import MapRoute
from celery.beat import BeatLazyFunc
from kombu.serialization import registry  # type: ignore[attr-defined]

from celery_dispatch.celery_bridge.payload import Payload

__all__ = ["UserCode"]

_AGE = 0.2  # seconds that what was seen is believed; looking takes longer than all the rest
_BEFORE: Any = signals.before_task_publish
_AFTER: Any = signals.after_task_publish
_SENT: Any = signals.task_sent
_SIGNALS = {"before_task_publish": _BEFORE, "after_task_publish": _AFTER, "task_sent": _SENT}
_SCHEDULER = ("apply_entry", "apply_async", "send_task", "_send_task")
_ENCODERS: Mapping[str, Any] = getattr(registry, "_encoders", {})
_SERIALIZERS = {"kombu", "celery", "yaml"}  # where the encoders that kombu and Celery register are defined
_OWN_MEANS = ("connection", "router")  # options that bring code or a connection of their own


class UserCode:
    """Looks for code of the user on the way from an entry to its message; runs none of it."""

    def __init__(self, app: Celery, scheduler: Any) -> None:
        self._app: Any = app
        self._scheduler = scheduler
        self._common = ""
        self._of_tasks: dict[str, str] = {}
        self._serializers: dict[str, str] = {}  # what the serializer of a task runs
        self._until = 0.0
        self._receivers: tuple[int, ...] = ()  # how many each signal has: cheap enough to be seen each time
        self._wraps_sending = False
        self._serializer: object = None

    def of(self, payload: Payload) -> str:
        """What of the user's runs when ``payload`` is published, in words; empty if nothing does."""
        self._look()
        return self._common or self._of_one(payload)

    def _of_one(self, payload: Payload) -> str:
        name, options = payload.task or "", payload.options
        found = self._of_tasks.get(name)
        if found is None:
            task = self._app.tasks.get(name)
            found = self._of_tasks[name] = _of_signals(name) or _of_task(task)
            self._serializers[name] = self._of_serializer(getattr(task, "serializer", None))
        of_serializer = self._serializers[name]
        if options and "serializer" in options:
            of_serializer = self._of_serializer(options["serializer"])
        return found or _of_arguments(payload) or of_serializer

    def _of_serializer(self, name: object) -> str:
        name = name or self._serializer
        codec = _ENCODERS.get(name) if isinstance(name, str) else None  # rendering will say so
        if codec is None or _home(codec.encoder).partition(".")[0] in _SERIALIZERS:
            return ""
        return f"the serializer {name} is not kombu's own"

    @property
    def wraps_sending(self) -> bool:
        """Whether the scheduler's ``apply_entry`` is not Celery's own, and so must be called."""
        self._look()
        return self._wraps_sending

    def _look(self) -> None:
        """See what holds for all entries and tasks; a receiver or a patch may be added at any time."""
        now, receivers = time.monotonic(), _receivers()
        if now < self._until and receivers == self._receivers:
            return
        self._receivers = receivers
        self._of_tasks.clear()
        self._wraps_sending = not _is_own(self._scheduler.apply_entry, "celery.beat")
        try:
            self._common = next(self._of_all(), "")
        except Exception as error:  # a setting that cannot be used; rendering will say so for each entry
            self._common = f"it cannot be told, since {error!r} was raised"
        self._until = now + _AGE

    def _of_all(self) -> Iterator[str]:
        app = self._app
        self._serializer = app.conf.task_serializer
        if app.conf.task_always_eager:
            yield "task_always_eager is set, so tasks run in beat itself"
        for name in _SCHEDULER:
            method = getattr(self._scheduler, name, None)
            if method is not None and not _is_own(method, "celery.beat"):
                yield f"the scheduler's {name} is overridden or patched, by {_home(method)}"
        for method, home in (
            (app.send_task, "celery.app.base"),
            (app.amqp.send_task_message, "celery.app.amqp"),
            (app.amqp.create_task_message, "celery.app.amqp"),
            (app.amqp.Producer.publish, "kombu.messaging"),
            (app.amqp.Producer._publish, "kombu.messaging"),
            (type(app.amqp.router).route, "celery.app.routes"),
        ):
            if not _is_own(method, home):
                name = getattr(method, "__qualname__", repr(method))
                yield f"{name} is overridden or patched, by {_home(method)}"
        for router in app.amqp.router.routes:
            if type(router) is not MapRoute:
                yield f"task_routes has a router of its own: {router!r}"


def _receivers() -> tuple[int, ...]:
    return len(_BEFORE.receivers or ()), len(_AFTER.receivers or ()), len(_SENT.receivers or ())


def _of_signals(task: str) -> str:
    for name, signal in _SIGNALS.items():
        if signal.receivers and signal.has_listeners(task):
            return f"the signal {name} has a receiver: {_named(signal, task)}"
    return ""


def _named(signal: Any, task: str) -> str:
    """The receivers of a signal that concern a task, by module and name."""
    found = []
    for function in signal._live_receivers(task):
        name = getattr(function, "__qualname__", type(function).__qualname__)
        found.append(f"{getattr(function, '__module__', '?')}:{name}")
    return ", ".join(found)


def _of_arguments(payload: Payload) -> str:
    """Celery evaluates lazy arguments at the top level only, so they are looked for nowhere else."""
    for values in (payload.args, payload.kwargs):
        if isinstance(values, (list, tuple, dict)):
            for value in values.values() if isinstance(values, dict) else values:
                if isinstance(value, BeatLazyFunc):
                    return "an argument is lazy: a BeatLazyFunc"
    options = payload.options
    if options:
        for name in _OWN_MEANS:
            if name in options:
                return f"its options bring a {name} of their own"
    return ""


def _of_task(task: Any) -> str:
    if task is None:
        return ""
    for name in ("apply_async", "shadow_name"):
        if not _is_own(getattr(task, name), "celery.app.task"):
            return f"the task's {name} is not Celery's own"
    return ""


def _is_own(function: Any, home: str) -> bool:
    found = _home(function)
    return found == home or found.startswith("celery_dispatch.")


def _home(function: Any) -> str:
    """The module that a function was defined in; the type of what only looks like one, as a proxy does."""
    kind = type(function)
    if kind is MethodType:
        return _home(function.__func__)
    if kind is FunctionType:
        return str(function.__globals__.get("__name__", ""))
    return f"{kind.__module__}.{kind.__qualname__}"
