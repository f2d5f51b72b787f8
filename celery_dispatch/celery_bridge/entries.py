"""The entries of an app, read from ``beat_schedule`` as stock beat reads it.

One bad entry is one bad entry: it is logged with its name and the reason, kept by name, and the others go on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery.beat import ScheduleEntry
from celery.schedules import crontab

from celery_dispatch.celery_bridge.fingerprint import definition_of, fingerprint_of
from celery_dispatch.celery_bridge.recurrences import Recurrences
from celery_dispatch.config import Config, InvalidValue, parse_catch_up, parse_window, suggestion
from celery_dispatch.core.entry import Catalog, CatchUp, Entry
from celery_dispatch.errors import ConfigError, EntryError

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["EntryOptions", "catalog_of", "entry_options"]

logger = logging.getLogger(__name__)

_CLEANUP = "celery.backend_cleanup"
_LONGEST_NAME = 500  # bytes
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_KEYS = (
    "task", "schedule", "args", "kwargs", "options", "relative", "last_run_at", "total_run_count", "dispatch"
)  # fmt: skip
_LATER_KEYS = {"name", "app"}  # what the vars() of a ScheduleEntry have besides


def catalog_of(app: Celery, config: Config) -> Catalog:
    """The entries of ``app`` with the fingerprint of its config; those that cannot be used are in ``broken``.

    Each entry's payload is a ``celery.beat.ScheduleEntry`` of its own; the user's dicts are not changed.
    """
    builder = _Builder(app, config)
    entries: dict[str, Entry] = {}
    broken: dict[str, str] = {}
    for name, item in _items(app, broken):
        shown = name if isinstance(name, str) and name.isprintable() else repr(name)
        try:
            entries[shown] = builder.entry(name, item)
        except Exception as error:  # user code: schedule classes, __reduce__, nowfun
            broken[shown] = str(error) if isinstance(error, EntryError) else repr(error)
    for name, reason in broken.items():
        logger.error("Entry %s is left out: %s", name, reason)
    definitions = {name: entry.definition for name, entry in entries.items()}
    definitions.update(dict.fromkeys(broken, ""))
    return Catalog(fingerprint_of(definitions, app, config), entries, broken)


def _items(app: Celery, broken: dict[str, str]) -> Iterable[tuple[object, Any]]:
    """Name and item of each entry; the backend's clean-up among them exactly when stock beat installs it."""
    given: Any = app.conf.beat_schedule or {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"beat_schedule is a {type(given).__name__}; use a dict of name and entry")
    yield from given.items()
    if not app.conf.result_expires or _CLEANUP in given:
        return
    try:
        expires_itself = app.backend.supports_autoexpire
    except Exception as error:
        broken[_CLEANUP] = f"the result backend cannot be loaded: {error!r}"
        return
    if not expires_itself:
        options = {"expires": 12 * 3600}
        yield _CLEANUP, {"task": _CLEANUP, "schedule": crontab("0", "4", "*"), "options": options}


# --- one entry ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EntryOptions:
    """What one entry asks of this package; ``given`` holds only what it says itself."""

    catch_up: CatchUp
    catch_up_window: timedelta | None
    given: Mapping[str, object]


def entry_options(value: object, config: Config) -> EntryOptions:
    """What an entry's ``dispatch`` key says, the rest from ``config``; ``EntryError`` if it is wrong."""
    parsers = {"catch_up": parse_catch_up, "catch_up_window": parse_window}
    if not isinstance(value, Mapping):
        raise EntryError(f"dispatch = {value!r:.80}: must be a dict such as {{'catch_up': 'all'}}")
    parsed: dict[str, Any] = {}
    for key, given in value.items():
        if key not in parsers:
            raise EntryError(f"dispatch option {key!r} does not exist; {_cure(key, list(parsers))}")
        try:
            parsed[key] = parsers[key](given)
        except InvalidValue as wrong:
            raise EntryError(f"dispatch option {key} = {given!r:.80}: {wrong}") from wrong
    stated = {key: getattr(given, "value", given) for key, given in parsed.items()}
    everything = {"catch_up": config.catch_up, "catch_up_window": config.catch_up_window, **parsed}
    return EntryOptions(everything["catch_up"], everything["catch_up_window"], stated)


class _Builder:
    """Makes the entries of one app; equal schedules share one recurrence."""

    def __init__(self, app: Celery, config: Config) -> None:
        self._app = app
        self._config = config
        self._recurrences = Recurrences(app)
        self._defaults = entry_options({}, config)
        self._now = app.now()

    def entry(self, name: object, item: Any) -> Entry:
        """One entry; raises ``EntryError``, or whatever the user's own code raises."""
        known = _checked_name(name)
        fields = _fields(item)
        asked = fields.pop("dispatch", None)
        options = self._defaults if asked is None else entry_options(asked, self._config)
        fields["last_run_at"] = fields.get("last_run_at") or self._now
        try:
            payload: Any = ScheduleEntry(**{**fields, "name": known, "app": self._app})
        except Exception as error:
            raise EntryError(
                f"schedule {fields.get('schedule')!r:.80} cannot be used ({error!r}); "
                "use seconds, a timedelta, crontab, solar or a class with is_due()"
            ) from error
        _check(payload)
        definition = definition_of(
            task=payload.task,
            schedule=payload.schedule,
            args=payload.args,
            kwargs=payload.kwargs,
            options=payload.options,
            dispatch=options.given,
            zone=self._app.timezone,
        )
        return Entry(
            name=known,
            recurrence=self._recurrences.of(payload.schedule),
            definition=definition,
            catch_up=options.catch_up,
            catch_up_window=self._window(payload.schedule, options.catch_up_window),
            payload=payload,
        )

    def _window(self, schedule: object, window: timedelta | None) -> timedelta | None:
        """The window, for a crontab no longer than ``beat_cron_starting_deadline``."""
        deadline: Any = self._app.conf.beat_cron_starting_deadline
        if deadline is None or not isinstance(schedule, crontab):
            return window
        try:
            limit = timedelta(seconds=deadline)
        except (TypeError, ValueError, OverflowError):
            raise EntryError(f"beat_cron_starting_deadline = {deadline!r:.80}: must be seconds") from None
        return limit if window is None else min(window, limit)


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
    for key in fields.keys() - set(_KEYS):
        if not is_entry:
            raise EntryError(f"there is no key {key!r}; {_cure(key, list(_KEYS))}")
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


def _cure(key: object, known: list[str]) -> str:
    hint = suggestion(str(key), known)
    return f"did you mean {hint!r}?" if hint else f"use {', '.join(known)}"
