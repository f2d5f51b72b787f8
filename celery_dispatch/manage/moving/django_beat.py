"""The entries that django-celery-beat keeps in the user's database, read through the user's Django.

A ``PeriodicTask`` points to one of four schedules and has, beside Celery's own options, switches of its own:

================================  ===========================================================================
there                             here
================================  ===========================================================================
``enabled`` off                   paused
``start_time``                    ``start``, unless it began already
``expires``                       ``end``, and the ``expires`` of each message
``expire_seconds``                the ``expires`` of each message
``one_off``                       ``count`` 1
``clocked``                       ``at``
``description``                   ``description``
never sent                        counted from ``date_changed``, as there
================================  ===========================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from celery_dispatch.celery_bridge.schedule_codec import CRON_FIELDS
from celery_dispatch.errors import EntryError
from celery_dispatch.manage.controls import ControlError
from celery_dispatch.manage.moving.found import Found

__all__ = ["found_in", "read_django_beat"]

_ROUTING = ("queue", "exchange", "routing_key", "priority")
_ITS_OWN = "periodic_task_name"  # a header that django-celery-beat adds when it sends, as this package does
_CURE = (
    "Run this where Django's settings are (DJANGO_SETTINGS_MODULE), with django_celery_beat in "
    "INSTALLED_APPS and its migrations applied."
)


def read_django_beat() -> Iterator[Found]:
    """Every periodic task of the database, by name; raises ``ControlError`` where it cannot be read."""
    try:
        import django
        from django.conf import settings

        django.setup()  # once more does nothing
        from django_celery_beat.models import PeriodicTask

        zoned = bool(getattr(settings, "DJANGO_CELERY_BEAT_TZ_AWARE", True))
        tasks = PeriodicTask.objects.select_related("interval", "crontab", "solar", "clocked")
        rows = tasks.order_by("name").iterator(chunk_size=500)
        for row in rows:
            yield found_in(row, zoned=zoned)
    except Exception as error:  # Django is not there, not set up, or its database is not
        raise ControlError(f"The tables of django-celery-beat cannot be read: {error!r}.", _CURE) from error


def found_in(row: Any, *, zoned: bool = True) -> Found:
    """The entry that one ``PeriodicTask`` is; ``zoned``: crontabs are due in the zone of their own row."""
    notes: list[str] = []
    try:
        if row.one_off and row.total_run_count > 0:
            raise EntryError("it is one-off and has run")
        document = _document(row, notes, zoned=zoned)
    except EntryError as error:
        return Found(name=row.name, refusal=str(error))
    except Exception as error:  # a value that django-celery-beat's own forms would not have let through
        return Found(name=row.name, refusal=f"it cannot be read: {error!r:.200}")
    return Found(
        name=row.name,
        definition=document,
        last_run=_aware(row.last_run_at),
        since=_aware(row.date_changed),
        runs=row.total_run_count,
        paused=not row.enabled,
        notes=tuple(notes),
    )


def _document(row: Any, notes: list[str], *, zoned: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"task": row.task, "schedule": _schedule(row, zoned=zoned)}
    for field, empty in (("args", []), ("kwargs", {})):
        value = _json(getattr(row, field), field, empty)
        if value:
            document[field] = value
    parts = {"options": _options(row), "dispatch": _policies(row, notes)}
    return document | {part: value for part, value in parts.items() if value}


def _json(text: str | None, field: str, empty: Any) -> Any:
    try:
        value = json.loads(text) if text else empty
    except ValueError as error:
        raise EntryError(f"{field} = {text!r:.80} is no JSON: {error}") from None
    if not isinstance(value, type(empty)):
        raise EntryError(f"{field} = {text!r:.80}: not a JSON {'object' if empty == {} else 'array'}")
    return value


def _options(row: Any) -> dict[str, Any]:
    options = {name: getattr(row, name) for name in _ROUTING if getattr(row, name) not in (None, "")}
    if row.expires is not None:
        options["expires"] = _instant(row.expires)
    elif row.expire_seconds:
        options["expires"] = row.expire_seconds
    headers = _json(row.headers, "headers", {})
    headers.pop(_ITS_OWN, None)
    return {**options, **({"headers": headers} if headers else {})}


def _policies(row: Any, notes: list[str]) -> dict[str, Any]:
    policies: dict[str, Any] = {}
    if row.start_time is not None and not (row.last_run_at and row.start_time <= row.last_run_at):
        policies["start"] = _instant(row.start_time)
    if row.expires is not None:
        policies["end"] = _instant(row.expires - timedelta(milliseconds=1))  # there not included, here it is
    if row.one_off and row.clocked is None:
        policies["count"] = 1
        if not row.enabled:
            notes.append("it is one-off and disabled: if it has run before, remove it here")
    if row.description:
        policies["description"] = row.description
    return policies


# --- schedules ----------------------------------------------------------------------------------------------


def _schedule(row: Any, *, zoned: bool) -> dict[str, Any]:
    if row.interval is not None:
        span = timedelta(**{row.interval.period: row.interval.every})
        return {"kind": "interval", "every": _number(span), "relative": False}
    if row.crontab is not None:
        fields = {field: getattr(row.crontab, field) for field in CRON_FIELDS}
        return {
            "kind": "crontab",
            **fields,
            **({"timezone": str(row.crontab.timezone)} if zoned else {}),
        }
    if row.solar is not None:
        lat, lon = float(row.solar.latitude), float(row.solar.longitude)
        return {"kind": "solar", "event": row.solar.event, "lat": lat, "lon": lon}
    if row.clocked is not None:
        return {"kind": "at", "moment": _instant(row.clocked.clocked_time)}
    raise EntryError("it has no schedule")


def _number(span: timedelta) -> float:
    return span.total_seconds() if span.microseconds else span // timedelta(seconds=1)


def _instant(moment: datetime) -> str:
    return _aware(moment).isoformat()  # type: ignore[union-attr]  # it is not None


def _aware(moment: datetime | None) -> datetime | None:
    """Without ``USE_TZ`` Django gives instants of its own zone, without saying which."""
    if moment is None or moment.tzinfo is not None:
        return moment
    from django.utils.timezone import get_default_timezone

    return moment.replace(tzinfo=get_default_timezone()).astimezone(timezone.utc)
