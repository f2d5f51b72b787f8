"""Moving out: entries as a Python module that stock beat's ``beat_schedule`` reads.

What stock beat cannot do is left out with a comment that says so: kinds of schedule that Celery has not, a
time zone of an entry's own, and the policies of this package.  A policy that only this package obeys leaves
the entry in, since it is still due at the same instants; one that bounds when it is due does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery_dispatch.celery_bridge.schedule_codec import CRON_FIELDS

__all__ = ["as_beat_schedule"]

_HEAD = '''"""Entries of celery-dispatch for stock beat: app.conf.beat_schedule = beat_schedule."""

from datetime import timedelta

from celery.schedules import crontab, schedule, solar

beat_schedule = {
'''
_HARMLESS = frozenset(
    {"catch_up", "catch_up_window", "description", "labels"}
)  # when it is due stays the same


def as_beat_schedule(definitions: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of the module, by name."""
    items = (_item(name, definitions[name]) for name in sorted(definitions))
    return "".join((_HEAD, *items, "}\n"))


def _item(name: str, definition: Mapping[str, Any]) -> str:
    document = definition["schedule"]
    bounds = sorted(set(definition.get("dispatch", {})) - _HARMLESS)
    maker = _MAKERS.get(document.get("kind"))
    if maker is None:
        return _left_out(name, f"Celery has no schedule of the kind {document.get('kind')!r}")
    if "timezone" in document:
        return _left_out(name, f"its time zone is its own, {document['timezone']!r}")
    if bounds:
        return _left_out(name, f"stock beat knows no {', '.join(bounds)}")
    fields = [("task", repr(definition["task"])), ("schedule", maker(document))]
    fields += [(key, repr(definition[key])) for key in ("args", "kwargs", "options") if definition.get(key)]
    inner = "".join(f"        {key!r}: {value},\n" for key, value in fields)
    return f"    {name!r}: {{\n{inner}    }},\n"


def _left_out(name: str, why: str) -> str:
    return f"    # {name!a} is left out: {why}.\n"


def _interval(document: Mapping[str, Any]) -> str:
    span = f"timedelta(seconds={document['every']!r})"
    return f"schedule({span}, relative=True)" if document.get("relative") else span


def _crontab(document: Mapping[str, Any]) -> str:
    fields = ((field, document[field]) for field in CRON_FIELDS if document.get(field, "*") != "*")
    return f"crontab({', '.join(f'{field}={value!r}' for field, value in fields)})"


def _solar(document: Mapping[str, Any]) -> str:
    return f"solar({document['event']!r}, {document['lat']!r}, {document['lon']!r})"


_MAKERS: Mapping[object, Callable[[Mapping[str, Any]], str]] = {
    "interval": _interval,
    "crontab": _crontab,
    "solar": _solar,
}
