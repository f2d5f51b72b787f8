"""What the options of ``add``, ``edit`` and ``preview`` say, as parts of a definition."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from celery_dispatch.celery_bridge.schedule_codec import CRON_FIELDS
from celery_dispatch.config import suggestion
from celery_dispatch.manage.controls import ControlError
from celery_dispatch.schedules.written import FIELDS

__all__ = ["BY_WALL_CLOCK", "Asked", "changed", "labels_of"]

_PARTS = ("args", "kwargs", "options", "dispatch")

#: Kinds that are due in a time zone.
BY_WALL_CLOCK = ("crontab", "cron", "rrule")


@dataclass(frozen=True, slots=True)
class Asked:
    """The options as they were given, ``None`` for those that were not."""

    task: str | None = None
    every: float | None = None
    crontab: str | None = None
    cron: str | None = None
    at: str | None = None
    rrule: str | None = None
    schedule: str | None = None
    timezone: str | None = None
    args: str | None = None
    kwargs: str | None = None
    sets: tuple[str, ...] = ()
    unsets: tuple[str, ...] = ()

    @property
    def changes_nothing(self) -> bool:
        return self == Asked()


def changed(definition: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """``definition`` with what is asked for; raises ``ControlError`` where that cannot be read."""
    wanted: dict[str, Any] = copy.deepcopy(dict(definition))
    if asked.task is not None:
        wanted["task"] = asked.task
    schedule = _schedule(asked)
    if schedule is not None:
        wanted["schedule"] = schedule if asked.schedule is not None else _kept(wanted, schedule)
    if asked.timezone is not None:
        _set(wanted, "schedule.timezone", asked.timezone)
    if asked.args is not None:
        wanted["args"] = _json(asked.args, "--args", list)
    if asked.kwargs is not None:
        wanted["kwargs"] = _json(asked.kwargs, "--kwargs", dict)
    for path, value in _pairs(asked.sets, "--set"):
        _set(wanted, path, _value(value))
    for path in asked.unsets:
        _unset(wanted, path)
    for field in sorted(wanted.keys() - set(FIELDS)):
        hint = suggestion(field, list(FIELDS))
        cure = f"Did you mean {hint}?" if hint else f"Its fields are {', '.join(FIELDS)}."
        raise ControlError(f"An entry has no field {field!r}.", cure)
    return wanted


def labels_of(pairs: Iterable[str]) -> dict[str, Any]:
    """The labels of ``KEY=VALUE`` pairs."""
    return {key: _value(value) for key, value in _pairs(pairs, "--label")}


# --- the schedule -------------------------------------------------------------------------------------------


def _schedule(asked: Asked) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = []
    if asked.every is not None:
        found.append({"kind": "interval", "every": asked.every})
    if asked.crontab is not None:
        found.append(_crontab(asked.crontab))
    if asked.cron is not None:
        found.append({"kind": "cron", "expression": asked.cron})
    if asked.at is not None:
        found.append({"kind": "at", "moment": asked.at})
    if asked.rrule is not None:
        found.append({"kind": "rrule", "rule": asked.rrule})
    if asked.schedule is not None:
        found.append(_json(asked.schedule, "--schedule", dict))
    if len(found) > 1:
        raise ControlError("More than one schedule is given.", "Give one.")
    return found[0] if found else None


def _kept(definition: Mapping[str, Any], schedule: dict[str, Any]) -> dict[str, Any]:
    """``schedule`` with what is not given of the one before: all of the same kind, else its zone."""
    before = definition.get("schedule")
    if not isinstance(before, Mapping):
        return schedule
    if before.get("kind") == schedule["kind"]:
        return {**before, **schedule}
    zone = before.get("timezone")
    return {**schedule, "timezone": zone} if zone and schedule["kind"] in BY_WALL_CLOCK else schedule


def _crontab(text: str) -> dict[str, Any]:
    fields = text.split()
    if len(fields) != 5:
        raise ControlError(
            f"--crontab {text!r:.80} has {len(fields)} fields, and not five.",
            "Write minute, hour, day of month, month, day of week; or use --cron.",
        )
    return {"kind": "crontab", **dict(zip(CRON_FIELDS, fields))}


# --- values -------------------------------------------------------------------------------------------------


def _json(text: str, option: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ControlError(f"{option} {text!r:.80} is no JSON: {error}.", "Write JSON, in quotes.") from None
    if not isinstance(value, kind):
        form = "an array such as [1, 2]" if kind is list else 'an object such as {"key": 1}'
        raise ControlError(f"{option} {text!r:.80} is not {form}.", "Write that form.")
    return value


def _pairs(given: Iterable[str], option: str) -> Iterable[tuple[str, str]]:
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise ControlError(f"{option} {each!r:.80} is no KEY=VALUE.", "Write it with an equals sign.")
        yield key, value


def _value(text: str) -> Any:
    """JSON where it is some, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _set(wanted: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    place: Any = wanted
    for key in parents:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise ControlError(f"{path}: {key} holds {place!r:.80}, and nothing below it.", "Set it whole.")
    place[last] = value


def _unset(wanted: dict[str, Any], path: str) -> None:
    *parents, last = path.split(".")
    place: Any = wanted
    for key in parents:
        place = place.get(key) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place:
        raise ControlError(
            f"--unset {path}: it has no such field.", "See what it has: celery -A <app> dispatch show NAME."
        )
    del place[last]
    if parents and not place and parents[0] in _PARTS:  # what is empty is left out
        _unset(wanted, ".".join(parents))
