"""Schedule classes of the user's as data: the codecs of ``dispatch_schedule_codecs``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from celery.schedules import BaseSchedule

__all__ = ["BUILT_IN", "ScheduleCodec", "wrong_codec"]

#: The kinds that documents have without any codec.
BUILT_IN = ("interval", "crontab", "solar", "cron", "at", "rrule")

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class ScheduleCodec:
    """How schedules of one class are written as JSON, and made again.

    ``to_json`` takes a schedule and gives a dict of JSON's own types; ``from_json`` takes that dict and gives
    an equal schedule of exactly this class.  A document holds the dict and, as ``kind``, the name under which
    the codec stands in ``dispatch_schedule_codecs``.
    """

    schedule: type[BaseSchedule]
    to_json: Callable[[Any], Mapping[str, object]]
    from_json: Callable[[dict[str, Any]], BaseSchedule]


def wrong_codec(kind: object, codec: Any) -> str | None:
    """Why ``codec`` cannot stand under the name ``kind``, if so."""
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        return f"{kind!r:.80} is no name for a kind; use lower-case letters, digits, - and _"
    if kind in BUILT_IN:
        return f"{kind!r} is a kind already; use another name"
    if not isinstance(codec, ScheduleCodec):
        return f"{kind!r} has a {type(codec).__name__}; give it a ScheduleCodec"
    schedule: Any = codec.schedule
    if not isinstance(schedule, type) or not callable(getattr(schedule, "is_due", None)):
        return f"{kind!r} is for {schedule!r:.80}, which is no schedule class; use one with is_due()"
    if not all(map(callable, (codec.to_json, codec.from_json))):
        return f"{kind!r} has a to_json or from_json that cannot be called; use functions"
    return None
