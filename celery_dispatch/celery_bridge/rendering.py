"""What goes into a message beside what Celery puts there.

Headers ``dispatch_entry``, ``dispatch_due``, ``dispatch_node``, ``celery_beat_task`` and
``periodic_task_name``, and a task id that is the UUIDv5 of prefix, entry and due, so that a message which is
published again is recognisable.  Relative ``countdown`` and ``expires`` are turned into instants by the
pool's clock, so that a node whose own clock is wrong sends none that are.
"""

from __future__ import annotations

import copy
import numbers
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha1
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL

from celery.beat import ScheduleEntry

from celery_dispatch.celery_bridge.moments import rfc3339
from celery_dispatch.celery_bridge.payload import payload_of
from celery_dispatch.core.entry import Occurrence

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["TaskIds", "prepared", "task_id", "uuid_text"]

_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def task_id(key_prefix: str, entry: str, due: datetime) -> str:
    """The id of an occurrence's message, equal whoever sends it."""
    return TaskIds(key_prefix).of(entry, rfc3339(due))


class TaskIds:
    """The ids of one key prefix: ``uuid5`` of prefix, entry and due, at a fraction of its cost."""

    def __init__(self, key_prefix: str) -> None:
        self._begun = sha1(NAMESPACE_URL.bytes + f"{key_prefix}\n".encode(), usedforsecurity=False)

    def of(self, entry: str, due: str) -> str:
        """The id for a due as ``rfc3339`` writes it."""
        digest = self._begun.copy()
        digest.update(f"{entry}\n{due}".encode())
        return uuid_text(digest.hexdigest(), version=5)


def uuid_text(digits: str, *, version: int) -> str:
    """A UUID of RFC 9562 made of hexadecimal digits, of which the first 32 count."""
    variant = _VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def prepared(
    occurrence: Occurrence, app: Celery, *, key_prefix: str, node: str, now: datetime
) -> ScheduleEntry:
    """What stock beat would send for one fire; what the user wrote stays as it is."""
    payload, name = payload_of(occurrence.entry), occurrence.entry.name
    entry = payload.entry(name, app, last_run_at=now)
    entry.kwargs = dict(payload.kwargs or {})
    options = entry.options = _options(payload.options, now)
    options.setdefault("task_id", task_id(key_prefix, name, occurrence.due))
    headers = dict(options.get("headers") or {})
    headers["periodic_task_name"] = headers["dispatch_entry"] = name
    headers["dispatch_due"] = rfc3339(occurrence.due)
    headers["dispatch_node"] = node
    headers["celery_beat_task"] = True  # Celery sets it itself, but not in every 5.5
    options["headers"] = headers
    return entry


def _options(options: Mapping[str, Any] | None, now: datetime) -> dict[str, Any]:
    result: dict[str, Any] = dict(copy.deepcopy(options)) if options else {}
    if isinstance(result.get("countdown"), numbers.Real):
        result["eta"] = now + timedelta(seconds=float(result.pop("countdown")))
    if isinstance(result.get("expires"), numbers.Real):
        result["expires"] = now + timedelta(seconds=float(result["expires"]))
    result["retry"] = False  # a second try would be a second message
    return result
