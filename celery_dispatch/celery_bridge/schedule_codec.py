"""Schedules as JSON, and back: Celery's own, those of this package, and classes that were given a codec.

=============  =============================================================================================
``schedule``   ``{"kind": "interval", "every": 10, "relative": false}``; ``every`` in seconds
``crontab``    ``{"kind": "crontab", "minute": "*/5", "hour": [8, 20], "day_of_week": "mon-fri", …}``; fields
               as in Celery: a pattern, a number or a list of numbers, ``"*"`` if left out
``solar``      ``{"kind": "solar", "event": "sunset", "lat": 48.85, "lon": 2.35}``
``cron``       ``{"kind": "cron", "expression": "0/10 * * * * *"}``, also ``gap`` and ``fold``
``at``         ``{"kind": "at", "moment": "2026-03-01T08:00:00.000Z"}``
``rrule``      ``{"kind": "rrule", "rule": "FREQ=MONTHLY;BYDAY=-1FR", "dtstart": "2026-01-05T09:00:00"}``,
               also ``gap`` and ``fold``
others         ``{"kind": …}`` with what the codec of ``dispatch_schedule_codecs[kind]`` writes
=============  =============================================================================================

All but ``solar`` and ``at`` may have a zone of their own, ``"timezone": "Europe/Paris"``; without one they
are due in the zone of the app that asks.  Nothing in a document is imported or called by name.

What JSON cannot carry is refused, never left out: subclasses, other classes, a clock of the user's (nowfun).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from celery import Celery
from celery.exceptions import ImproperlyConfigured
from celery.schedules import BaseSchedule, ParseException, crontab, schedule, solar

from celery_dispatch.celery_bridge.codecs import ScheduleCodec
from celery_dispatch.celery_bridge.kinds.at import at
from celery_dispatch.celery_bridge.kinds.cron import cron
from celery_dispatch.celery_bridge.kinds.own import OwnSchedule
from celery_dispatch.celery_bridge.kinds.rrule import rrule
from celery_dispatch.celery_bridge.moments import named_zone
from celery_dispatch.celery_bridge.plain import plain
from celery_dispatch.config import suggestion
from celery_dispatch.errors import EntryError

__all__ = ["CRON_FIELDS", "ZoneClock", "from_json", "to_json"]

#: The fields of a crontab, in the order in which people write them.
CRON_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")

_CRON_CURE = "use a pattern such as '*/5' or 'mon-fri', a number or a list of numbers"
_EXACT = timedelta(days=36_500)  # up to here a float of seconds keeps its microseconds
_FIELDS = {
    "interval": ("every", "relative", "timezone"),
    "crontab": (*CRON_FIELDS, "timezone"),
    "solar": ("event", "lat", "lon"),
}
_OWN: Mapping[str, type[OwnSchedule]] = {kind.kind: kind for kind in (cron, at, rrule)}
_NONE: Mapping[str, ScheduleCodec] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ZoneClock:
    """The ``nowfun`` of a schedule with a zone of its own: the time now in that zone."""

    zone: ZoneInfo

    def __call__(self) -> datetime:
        return datetime.now(self.zone)


# --- to JSON ------------------------------------------------------------------------------------------------


def to_json(value: Any, *, codecs: Mapping[str, ScheduleCodec] = _NONE) -> dict[str, object]:
    """``value`` as a document of JSON's own types; ``EntryError`` where JSON cannot carry it.

    ``from_json`` makes an equal schedule of it, due at the same instants.
    """
    kind = type(value)
    if isinstance(value, OwnSchedule) and _OWN.get(value.kind) is kind:
        return {"kind": value.kind, **value.document()}
    for name, codec in codecs.items():
        if kind is codec.schedule:
            return _custom(name, codec, value)
    if kind is schedule:
        return {"kind": "interval", "every": _seconds(value), "relative": bool(value.relative), **_own(value)}
    if kind is crontab:
        fields = {name: _cron_field(value, name) for name in CRON_FIELDS}
        return {"kind": "crontab", **fields, **_own(value)}
    if kind is solar:
        if value.nowfun is not None:
            raise _clock_of_its_own(value)
        return {"kind": "solar", "event": value.event, "lat": _plain(value.lat), "lon": _plain(value.lon)}
    raise EntryError(
        f"a {kind.__qualname__} cannot be written as JSON; use one of {', '.join((*_FIELDS, *_OWN))}, or "
        "give the class a codec in dispatch_schedule_codecs"
    )


def _custom(kind: str, codec: ScheduleCodec, value: Any) -> dict[str, object]:
    with _its_codec(kind):
        document: object = codec.to_json(value)
    if not isinstance(document, Mapping) or "kind" in document:
        raise EntryError(f"the codec of {kind!r} wrote {document!r:.80}; let it write a dict without a kind")
    return {"kind": kind, **{str(name): plain(each, str(name)) for name, each in document.items()}}


def _seconds(value: Any) -> float:
    every: object = value.run_every
    if not isinstance(every, timedelta):
        raise EntryError(f"interval every = {every!r:.80}: use a number of seconds or a timedelta")
    if not every.microseconds:
        return every // timedelta(seconds=1)
    if abs(every) > _EXACT:
        raise EntryError(f"interval every = {every}: too long for its microseconds; use whole seconds")
    return every.total_seconds()


def _cron_field(value: Any, name: str) -> object:
    """A field as it was written; a collection as a sorted list, for what was given may be used up by now."""
    written = getattr(value, f"_orig_{name}")
    if isinstance(written, str):
        return str(written)
    if isinstance(written, int):
        return int(written)
    numbers = getattr(value, name)
    if any(int(number) != number for number in numbers):
        raise EntryError(f"crontab {name} = {numbers!r:.80}: {_CRON_CURE}")
    return sorted(map(int, numbers))


def _plain(degrees: Any) -> float:
    return degrees if type(degrees) is int else float(degrees)


def _own(value: Any) -> dict[str, object]:
    """The zone of a schedule that has one of its own."""
    if value.nowfun is None:
        return {}
    if not isinstance(value.nowfun, ZoneClock):
        raise _clock_of_its_own(value)
    return {"timezone": value.nowfun.zone.key}


def _clock_of_its_own(value: Any) -> EntryError:
    return EntryError(
        f"{value!r:.80} has a clock of its own, nowfun = {value.nowfun!r:.80}; leave nowfun out"
    )


# --- from JSON ----------------------------------------------------------------------------------------------


def from_json(
    document: object, *, app: Celery | None = None, codecs: Mapping[str, ScheduleCodec] = _NONE
) -> BaseSchedule:
    """The schedule of ``app`` that ``document`` describes; ``EntryError`` naming the field that is wrong.

    Whether an interval can be scheduled (above zero, and such) is for ``recurrence_of`` to say.
    """
    if not isinstance(document, Mapping):
        raise EntryError(f"a schedule is an object with a kind, not {document!r:.80}")
    kind = document.get("kind")
    if isinstance(kind, str) and kind in codecs:
        return _from_custom(kind, codecs[kind], document)
    if not isinstance(kind, str) or kind not in (*_FIELDS, *_OWN):
        raise EntryError(f"schedule kind = {kind!r:.80}: {_cure(kind, (*_FIELDS, *_OWN, *codecs))}")
    known = _OWN[kind].fields if kind in _OWN else _FIELDS[kind]
    for name in document:
        if name != "kind" and name not in known:
            raise EntryError(f"a schedule of kind {kind} has no field {name!r:.80}; {_cure(name, known)}")
    if kind in _OWN:
        return _OWN[kind].from_document({name: each for name, each in document.items() if name != "kind"})
    if "timezone" not in document:
        return _MAKERS[kind](document, {"app": app})
    zone = named_zone(document["timezone"])
    made = _MAKERS[kind](document, {"app": app, "nowfun": ZoneClock(zone)})
    vars(made)["tz"] = zone  # celery 5.7 reads a crontab's fields in this zone, whatever its clock says
    return made


def _from_custom(kind: str, codec: ScheduleCodec, document: Mapping[str, Any]) -> BaseSchedule:
    with _its_codec(kind):
        made: BaseSchedule = codec.from_json(
            {name: each for name, each in document.items() if name != "kind"}
        )
    if type(made) is not codec.schedule:
        raise EntryError(
            f"the codec of {kind!r} made a {type(made).__name__}, not a {codec.schedule.__name__}"
        )
    return made


@contextmanager
def _its_codec(kind: str) -> Iterator[None]:
    """Whatever a user's codec raises, as an ``EntryError``."""
    try:
        yield
    except EntryError:
        raise
    except Exception as error:
        raise EntryError(f"the codec of {kind!r} failed: {error!r}") from error


def _interval(document: Mapping[str, Any], own: Mapping[str, Any]) -> BaseSchedule:
    every, relative = _number(document, "every"), document.get("relative", False)
    if not isinstance(relative, bool):
        raise EntryError(f"interval relative = {relative!r:.80}: use true or false")
    try:
        return schedule(timedelta(seconds=every), relative, **own)
    except OverflowError:
        raise EntryError(f"interval every = {every!r:.80}: more seconds than there are; use fewer") from None


def _crontab(document: Mapping[str, Any], own: Mapping[str, Any]) -> BaseSchedule:
    fields = {name: document[name] for name in CRON_FIELDS if name in document}
    for name, value in fields.items():
        if not _is_cron_field(value):
            raise EntryError(f"crontab {name} = {value!r:.80}: {_CRON_CURE}")
    with _celerys_words(f"crontab {fields!r:.200}"):
        try:
            return crontab(**fields, **own)
        except Exception:  # which of them it is, Celery does not say
            for name, value in fields.items():
                with _celerys_words(f"crontab {name} = {value!r:.80}"):
                    crontab(**{name: value})
            raise


def _solar(document: Mapping[str, Any], own: Mapping[str, Any]) -> BaseSchedule:
    event: Any = document.get("event")
    lat, lon = _number(document, "lat"), _number(document, "lon")
    with _celerys_words(f"solar event = {event!r:.80}, lat = {lat!r}, lon = {lon!r}"):
        return solar(event, lat, lon, **own)


_MAKERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], BaseSchedule]] = {
    "interval": _interval,
    "crontab": _crontab,
    "solar": _solar,
}


@contextmanager
def _celerys_words(what: str) -> Iterator[None]:
    """What Celery says against ``what``, as an ``EntryError``."""
    try:
        yield
    except (ParseException, ValueError, TypeError, KeyError, ImproperlyConfigured) as error:
        raise EntryError(f"{what}: {' '.join(str(error).split())}") from error


def _is_cron_field(value: object) -> bool:
    if isinstance(value, list):
        return all(type(number) is int for number in value)
    return isinstance(value, str) or type(value) is int


def _number(document: Mapping[str, Any], name: str) -> float:
    value = document.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf:
        return value
    raise EntryError(f"{document['kind']} {name} = {value!r:.80}: use a number")


def _cure(given: object, known: Iterable[str]) -> str:
    hint = suggestion(str(given)[:80], list(known))
    return f"did you mean {hint!r}?" if hint else f"use {', '.join(known)}"
