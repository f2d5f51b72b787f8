"""Instants as people write them: aware datetimes, or text with an offset."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from celery_dispatch.errors import EntryError

__all__ = ["instant", "named_zone", "rfc3339"]

_EARLIEST = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LATEST = datetime(9000, 1, 1, tzinfo=timezone.utc)
_CURE = "use an aware datetime, or text such as '2026-03-01T09:00:00+01:00'"


def instant(value: object, what: str) -> datetime:
    """``value`` in UTC, cut to whole milliseconds; ``EntryError`` that begins with ``what`` if it is none."""
    moment = _read(value)
    if moment is None or moment.tzinfo is None:
        lacks = "lacks a time zone" if moment is not None else "is no instant"
        raise EntryError(f"{what} = {value!r:.80}: {lacks}; {_CURE}")
    try:
        moment = moment.astimezone(timezone.utc)
    except OverflowError:
        moment = _LATEST
    if not _EARLIEST <= moment < _LATEST:
        raise EntryError(f"{what} = {value!r:.80}: is not between 1970 and 9000; use an instant that is")
    return moment - timedelta(microseconds=moment.microsecond % 1000)


def _read(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith(("Z", "z")) else value)
    except ValueError:
        return None


def rfc3339(moment: datetime) -> str:
    """``2026-11-21T02:18:02.000Z``: ``moment`` in UTC with milliseconds."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def named_zone(name: object) -> ZoneInfo:
    """The time zone of this name; ``EntryError`` if there is none."""
    try:
        if isinstance(name, str):
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such zone, no such path, a directory of zones
        pass
    raise EntryError(f"timezone = {name!r:.80}: no such time zone; use a name such as 'Europe/Paris'")
