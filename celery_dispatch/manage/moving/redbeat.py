"""The entries that RedBeat keeps in Redis.

``<prefix>:schedule`` is a sorted set of the keys of all entries; each key is a hash with the JSON texts
``definition`` and ``meta``.  Objects with a ``__type__`` stand for Python's: schedules, dates and times,
weekdays.  They are translated here, and RedBeat need not be installed.

RedBeat has no solar schedules, and writes no nth weekdays (``MO(+1)``): what it fired is every Monday, so
that is what is carried over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import redis

from celery_dispatch.celery_bridge.schedule_codec import CRON_FIELDS
from celery_dispatch.errors import EntryError
from celery_dispatch.manage.moving.found import Found, carried_datetime
from celery_dispatch.redis_store.codec import printable
from celery_dispatch.redis_store.driver_errors import translated

__all__ = ["found_in", "read_redbeat"]

_PAGE = 500  # entries per round trip
_FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY")
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_RULE_NUMBERS = {
    "bysetpos": "BYSETPOS",
    "bymonth": "BYMONTH",
    "bymonthday": "BYMONTHDAY",
    "byyearday": "BYYEARDAY",
    "byeaster": "BYEASTER",
    "byweekno": "BYWEEKNO",
    "byhour": "BYHOUR",
    "byminute": "BYMINUTE",
    "bysecond": "BYSECOND",
}


def read_redbeat(client: redis.Redis, prefix: str) -> Iterator[Found]:
    """Every entry under ``prefix`` (RedBeat's ``redbeat_key_prefix``), in no order; raises ``StoreError``."""
    members = client.zscan_iter(f"{prefix}:schedule", count=_PAGE)
    seen: set[str] = set()
    while True:
        with translated():
            page = [key for key, _ in islice(members, _PAGE)]
            if not page:
                return
            fresh = [key for key in page if key not in seen]
            pipeline: Any = client.pipeline(transaction=False)
            for key in fresh:
                pipeline.hmget(key, "definition", "meta")
            rows = pipeline.execute(raise_on_error=False)
        seen.update(fresh)
        for key, row in zip(fresh, rows):
            yield _found(key.removeprefix(prefix), row)


def _found(name: str, row: Any) -> Found:
    if isinstance(row, redis.ResponseError):  # a key of another type
        return Found(name=printable(name), refusal=f"its key cannot be read: {row}")
    with translated():
        if isinstance(row, Exception):
            raise row
    return found_in(name, *row)


def found_in(name: str, definition: str | None, meta: str | None) -> Found:
    """The entry that a hash with these two fields holds; ``name`` is its key without the prefix."""
    if definition is None:
        return Found(name=printable(name), refusal="its key is gone: RedBeat would drop it too")
    try:
        stored = _object(definition, "definition")
        name = str(stored.get("name") or name)
        state = _object(meta, "meta") if meta else {}
        notes: list[str] = []
        document = _document(stored, notes)
        last_run = _moment(state["last_run_at"]) if state.get("last_run_at") else None
        runs = state.get("total_run_count") or 0
    except EntryError as error:
        return Found(name=printable(name), refusal=str(error))
    except Exception as error:  # whatever else stands there where RedBeat would write something
        return Found(name=printable(name), refusal=f"it is nothing that RedBeat writes: {error!r:.200}")
    return Found(
        name=printable(name),
        definition=document,
        last_run=last_run,
        runs=runs if isinstance(runs, int) else 0,
        paused=not stored.get("enabled", True),
        notes=tuple(notes),
    )


def _object(text: str, field: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise EntryError(f"its {field} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise EntryError(f"its {field} is {value!r:.80}, and no JSON object")
    return value


def _document(stored: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    document: dict[str, Any] = {"task": stored.get("task"), "schedule": _schedule(stored.get("schedule"))}
    for field in ("args", "kwargs"):
        if stored.get(field):
            document[field] = _plain(stored[field], field, notes)
    options = dict(stored.get("options") or {})
    if _is(options.get("expires"), "datetime"):
        options["expires"] = _moment(options["expires"]).isoformat()
    if options:
        document["options"] = _plain(options, "options", notes)
    return document


def _plain(value: Any, where: str, notes: list[str]) -> Any:
    """``value`` with kombu's form of dates and times in place of RedBeat's."""
    if isinstance(value, list):
        return [_plain(item, f"{where}[{place}]", notes) for place, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if _is(value, "datetime"):
        notes.append(f"{where} is a date and time; it is sent as kombu writes one in JSON")
        return carried_datetime(_moment(value))
    if value.get("__type__") in ("interval", "crontab", "rrule", "weekday"):
        raise EntryError(f"{where} is a {value['__type__']}, which JSON cannot carry")
    return {key: _plain(item, f"{where}.{key}", notes) for key, item in value.items()}


def _is(value: object, kind: str) -> bool:
    return isinstance(value, dict) and value.get("__type__") == kind


# --- schedules ----------------------------------------------------------------------------------------------


def _schedule(value: Any) -> dict[str, Any]:
    kind = value.get("__type__") if isinstance(value, dict) else None
    reader = _SCHEDULES.get(kind)  # type: ignore[arg-type]
    if reader is None:
        raise EntryError(f"its schedule is {value!r:.80}; known are {', '.join(_SCHEDULES)}")
    return reader(value)


def _interval(value: Mapping[str, Any]) -> dict[str, Any]:
    every = value.get("every")
    whole = isinstance(every, float) and every.is_integer()
    return {
        "kind": "interval",
        "every": int(every) if whole else every,  # type: ignore[arg-type]
        "relative": bool(value.get("relative")),
    }


def _crontab(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "crontab", **{field: value.get(field, "*") for field in CRON_FIELDS}}


def _rrule(value: Mapping[str, Any]) -> dict[str, Any]:
    """As a rule of RFC 5545; the numbers of RedBeat are dateutil's."""
    parts = [f"FREQ={_frequency(value.get('freq'))}"]
    if value.get("interval") not in (None, 1):
        parts.append(f"INTERVAL={value['interval']}")
    if value.get("wkst") is not None:
        parts.append(f"WKST={_weekdays([value['wkst']])}")
    if value.get("count") is not None:
        parts.append(f"COUNT={value['count']}")
    for field, name in _RULE_NUMBERS.items():
        if value.get(field) is not None:
            parts.append(f"{name}={_numbers(value[field], field)}")
    if value.get("byweekday") is not None:
        parts.append(f"BYDAY={_weekdays(_several(value['byweekday']))}")
    if value.get("until") is not None:
        until = datetime.fromtimestamp(value["until"], tz=timezone.utc)
        parts.append(f"UNTIL={until:%Y%m%dT%H%M%SZ}")
    document: dict[str, Any] = {"kind": "rrule", "rule": ";".join(parts)}
    if value.get("dtstart") is not None:
        offset = timezone(timedelta(minutes=value.get("dtstart_tz") or 0))
        document["dtstart"] = datetime.fromtimestamp(value["dtstart"], tz=offset).isoformat()
    return document


_SCHEDULES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "interval": _interval,
    "crontab": _crontab,
    "rrule": _rrule,
}


def _frequency(value: Any) -> str:
    if isinstance(value, int) and 0 <= value < len(_FREQUENCIES):
        return _FREQUENCIES[value]
    raise EntryError(f"rrule freq = {value!r:.80}: no frequency of dateutil")


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _numbers(value: Any, field: str) -> str:
    numbers = _several(value)
    if not all(isinstance(number, int) for number in numbers):
        raise EntryError(f"rrule {field} = {value!r:.80}: no numbers")
    return ",".join(map(str, numbers))


def _weekdays(values: Sequence[Any]) -> str:
    found = []
    for value in values:
        number = value.get("wkday") if _is(value, "weekday") else value
        if not isinstance(number, int) or not 0 <= number < len(_WEEKDAYS):
            raise EntryError(f"rrule weekday = {value!r:.80}: no weekday of dateutil")
        found.append(_WEEKDAYS[number])
    return ",".join(found)


# --- dates and times ----------------------------------------------------------------------------------------


def _moment(value: Any) -> datetime:
    """RedBeat's date and time; its zone is a name, or its offset in seconds."""
    try:
        fields = {key: int(each) for key, each in value.items() if key not in ("__type__", "timezone")}
        return datetime(**fields, tzinfo=_zone(value.get("timezone", "UTC")))
    except (AttributeError, TypeError, ValueError, KeyError, OSError) as error:
        raise EntryError(f"{value!r:.80} is no date and time ({error})") from None


def _zone(value: Any) -> tzinfo:
    return ZoneInfo(value) if isinstance(value, str) else timezone(timedelta(seconds=value))
