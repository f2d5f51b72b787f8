"""From what is written about an entry to the entry itself, and to the JSON that Redis holds of it.

A definition has the shape of an item of ``beat_schedule``, wherever it comes from::

    {"task": "proj.tasks.add", "schedule": {"kind": "interval", "every": 10}, "args": [1, 2], "kwargs": {…},
     "options": {"queue": "reports", …}, "dispatch": {"catch_up": "all", …}}

``schedule`` is a number of seconds, a timedelta, a schedule object, or a document of ``schedule_codec``.
Everything that a definition may say is checked here, and each refusal names field, value and cure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from operator import is_
from typing import TYPE_CHECKING, Any, cast

from celery.beat import ScheduleEntry
from celery.schedules import crontab, schedule

from celery_dispatch.celery_bridge.fingerprint import definition_of
from celery_dispatch.celery_bridge.moments import rfc3339
from celery_dispatch.celery_bridge.payload import Payload
from celery_dispatch.celery_bridge.plain import plain
from celery_dispatch.celery_bridge.policies import Policies, bounded, check_jitter, deciding, policies_of
from celery_dispatch.celery_bridge.recurrences import Recurrences
from celery_dispatch.celery_bridge.schedule_codec import from_json, to_json
from celery_dispatch.config import Config, suggestion
from celery_dispatch.core.entry import Entry
from celery_dispatch.core.recurrence import Nominal
from celery_dispatch.errors import EntryError, NeverDue

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Definitions"]

_LONGEST_NAME = 500  # bytes
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_KEYS = (
    "task", "schedule", "args", "kwargs", "options", "relative", "last_run_at", "total_run_count", "dispatch"
)  # fmt: skip
_KNOWN = frozenset(_KEYS)
_LATER_KEYS = {"name", "app"}  # what the vars() of a ScheduleEntry have besides


class Definitions:
    """Reads the definitions of one app; equal schedules share one recurrence."""

    def __init__(self, app: Celery, config: Config) -> None:
        self._app = app
        self._config = config
        self._recurrences = Recurrences(app)
        self._defaults = policies_of({}, config)
        self._intervals: dict[tuple[timedelta, bool], Any] = {}
        self._nothing: dict[str, Any] = {}  # one for all: who sends an entry gets a copy
        self._now = app.now()

    def entry(self, name: object, item: Any) -> Entry:
        """The entry that ``item`` defines; ``item`` is not changed.

        Raises ``EntryError``, or whatever the user's own code raises.
        """
        known = _checked_name(name)
        fields = _fields(item)
        asked = fields.pop("dispatch", None)
        policies = self._defaults if asked is None else policies_of(asked, self._config)
        fields["last_run_at"] = self._now  # without one, the schedule would be asked for the time
        if isinstance(fields.get("schedule"), Mapping):
            fields["schedule"] = from_json(
                fields["schedule"], app=self._app, codecs=self._config.schedule_codecs
            )
        try:
            made: Any = ScheduleEntry(**{**fields, "name": known, "app": self._app})
        except Exception as error:
            raise EntryError(
                f"schedule {fields.get('schedule')!r:.80} cannot be used ({error!r}); "
                "use seconds, a timedelta, crontab, solar or a class with is_due()"
            ) from error
        _check(made)
        schedule = self._shared(made.schedule)
        definition = definition_of(
            task=made.task,
            schedule=schedule,
            args=made.args,
            kwargs=made.kwargs,
            options=made.options,
            dispatch=deciding(policies.given),
            zone=self._app.timezone,
        )
        payload = Payload(
            task=made.task,
            schedule=schedule,
            args=_own(made.args),
            kwargs=_own(made.kwargs) or self._nothing,
            options=_own(made.options) or self._nothing,
        )
        entry = Entry(
            name=known,
            recurrence=bounded(self._recurrences.of(schedule, known), policies),
            definition=definition,
            catch_up=policies.catch_up,
            catch_up_window=self._window(schedule, policies.catch_up_window),
            payload=payload,
        )
        return _held_to(policies, entry) if policies.given else entry

    def document(self, name: object, item: Any, *, after: datetime | None = None) -> dict[str, object]:
        """``item`` in JSON's own types, as Redis holds it; the entry that is made of it equals ``item``'s.

        What is empty is left out.  ``after`` is when it begins, if it is new.  Raises ``EntryError`` for what
        ``entry`` refuses and for what JSON cannot carry, and ``NeverDue`` for a new one that is never due.
        """
        entry = self.entry(name, item)
        if after is not None:
            _check_future(entry, after)
        payload: Any = entry.payload
        parts = {
            "args": list(payload.args or ()),
            "kwargs": payload.kwargs,
            "options": payload.options,
            "dispatch": entry.asked,
        }
        schedule = to_json(payload.schedule, codecs=self._config.schedule_codecs)
        document: dict[str, object] = {"task": payload.task, "schedule": schedule}
        document.update((field, plain(value, field)) for field, value in parts.items() if value)
        return document

    def _shared(self, s: Any) -> Any:
        """One schedule for all intervals that are equal: a large config has few different ones."""
        kind: type = type(s)
        if kind is not schedule or s.nowfun is not None or not isinstance(s.run_every, timedelta):
            return s
        return self._intervals.setdefault((s.run_every, s.relative), s)

    def _window(self, schedule: object, window: timedelta | None) -> timedelta | None:
        """The window, for a crontab no longer than ``beat_cron_starting_deadline``."""
        if not isinstance(schedule, crontab):
            return window
        deadline: Any = self._app.conf.beat_cron_starting_deadline
        if deadline is None:
            return window
        try:
            limit = timedelta(seconds=deadline)
        except (TypeError, ValueError, OverflowError):
            raise EntryError(f"beat_cron_starting_deadline = {deadline!r:.80}: must be seconds") from None
        return limit if window is None else min(window, limit)


def _own(value: Any) -> Any:
    """A copy of plain containers, so that a change in place is in all messages or in none.

    What is in them stays what it is: nobody knows what a copy of it would be.
    """
    if type(value) is dict:
        return {key: _own(each) for key, each in value.items()}
    if type(value) in (list, set):
        return type(value)(map(_own, value))
    if type(value) is tuple:
        own = tuple(map(_own, value))
        return value if all(map(is_, own, value)) else own
    return value


def _held_to(policies: Policies, entry: Entry) -> Entry:
    """``entry`` with what it says itself of count, jitter and the like."""
    given = policies.given
    jitter = given.get("jitter", timedelta(0))
    if jitter:
        check_jitter(cast(Nominal, entry.recurrence), jitter)
    return replace(
        entry,
        count=given.get("count"),
        jitter=jitter,
        remove_when_completed=given.get("remove_when_completed", False),
        asked=policies.document(),
    )


# --- what may be written ------------------------------------------------------------------------------------


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise EntryError(f"the name is a {type(name).__name__}; use text")
    if not name.isascii() or len(name) > _LONGEST_NAME:
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            raise EntryError("the name cannot be written as UTF-8; use other characters") from None
        if size > _LONGEST_NAME:
            raise EntryError(f"the name has {size} bytes; use at most {_LONGEST_NAME}")
    if not name or _CONTROL.search(name):
        raise EntryError("the name is empty or has control characters; use printable text")
    return name


def _fields(item: Any) -> dict[str, Any]:
    """A new dict of what an item says, an unknown key refused."""
    is_entry = isinstance(item, ScheduleEntry)
    if not is_entry and not isinstance(item, Mapping):
        raise EntryError(f"the entry is a {type(item).__name__}; use a dict with task and schedule")
    fields: dict[str, Any] = {key: value for key, value in dict(item).items() if key not in _LATER_KEYS}
    for key in fields.keys() - _KNOWN:
        if not is_entry:
            hint = suggestion(str(key), list(_KEYS))
            cure = f"did you mean {hint!r}?" if hint else f"use {', '.join(_KEYS)}"
            raise EntryError(f"there is no key {key!r}; {cure}")
        del fields[key]
    return fields


def _check(payload: Any) -> None:
    """Refuse what could never be sent; ``ScheduleEntry`` itself accepts anything."""
    if not isinstance(payload.task, str) or not payload.task:
        raise EntryError(f"task = {payload.task!r:.80}: must be the name of a task")
    if payload.schedule is None:
        raise EntryError("there is no schedule; use seconds, a timedelta, crontab or solar")
    if payload.args is not None and not isinstance(payload.args, Iterable):
        raise EntryError(f"args = {payload.args!r:.80}: must be a list or tuple")
    for field, value in (("kwargs", payload.kwargs), ("options", payload.options)):
        if not isinstance(value, Mapping):
            raise EntryError(f"{field} = {value!r:.80}: must be a dict")


def _check_future(entry: Entry, after: datetime) -> None:
    if isinstance(entry.recurrence, Nominal) and entry.recurrence.following(after, after) is None:
        raise NeverDue(
            f"nothing would ever be fired: schedule and end give no due later than {rfc3339(after)}; "
            "use a later instant"
        )
