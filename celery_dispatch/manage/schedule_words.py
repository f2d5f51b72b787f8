"""A schedule's document in the words in which people write it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from celery_dispatch.celery_bridge.schedule_codec import CRON_FIELDS
from celery_dispatch.manage.words import duration

__all__ = ["schedule_words"]


def schedule_words(document: object) -> str:
    """``every 10 s``, ``cron */5 * * * * in Europe/Paris``; as JSON where there are no words for it."""
    if not isinstance(document, Mapping):
        return json.dumps(document)
    say = _SAYINGS.get(document.get("kind"))
    try:
        said = say(document) if say is not None else json.dumps(document)
    except (KeyError, TypeError, ValueError, OverflowError):  # a damaged row
        said = json.dumps(document)
    zone = document.get("timezone")
    return f"{said} in {zone}" if say is not None and zone else said


def _interval(document: Mapping[str, Any]) -> str:
    return f"every {duration(timedelta(seconds=document['every']))}" + (
        ", relative" if document.get("relative") else ""
    )


def _crontab(document: Mapping[str, Any]) -> str:
    return "cron " + " ".join(_field(document.get(name, "*")) for name in CRON_FIELDS)


def _field(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


_SAYINGS: Mapping[object, Callable[[Mapping[str, Any]], str]] = {
    "interval": _interval,
    "crontab": _crontab,
    "cron": lambda document: f"cron {document['expression']}",
    "at": lambda document: f"at {document['moment']}",
    "rrule": lambda document: f"rrule {document['rule']} from {document['dtstart']}",
    "solar": lambda document: f"{document['event']} at {document['lat']}, {document['lon']}",
}
