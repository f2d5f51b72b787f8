"""The entries in the schedule file of a stock beat, with the time of each one's last run.

The file is a shelf of Celery's ``PersistentScheduler``: pickles.  Unpickling runs code that the file names,
so this is done for a file that a person names to a command, and for nothing else.  Only name files that
your own beat wrote.  The file is opened for reading only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from celery.beat import PersistentScheduler, ScheduleEntry

from celery_dispatch.celery_bridge.schedule_codec import to_json
from celery_dispatch.errors import DispatchError, EntryError
from celery_dispatch.manage.controls import ControlError
from celery_dispatch.manage.moving.found import Found

__all__ = ["read_stock"]

_CURE = (
    "Stop the old beat first (it locks the file), and name the file as its --schedule does, without the "
    "suffix that the system may have added."
)


def read_stock(path: str) -> Iterator[Found]:
    """Every entry of the file, by name; raises ``ControlError`` if it is no schedule file of a beat."""
    shelf: Any = PersistentScheduler.persistence
    try:
        with shelf.open(path, flag="r") as store:
            entries = store["entries"]
        if not isinstance(entries, Mapping):
            raise TypeError(f"its entries are a {type(entries).__name__}")
    except Exception as error:  # whatever unpickling raises
        raise ControlError(
            f"{path} cannot be read as the schedule file of a beat: {error!r}.", _CURE
        ) from error
    for name in sorted(entries, key=str):
        yield _found(str(name), entries[name])


def _found(name: str, entry: Any) -> Found:
    if not isinstance(entry, ScheduleEntry):
        return Found(name=name, refusal=f"it is a {type(entry).__name__}, and no entry of a beat")
    definition, refusal = None, ""
    try:
        definition = _document(entry)
    except DispatchError as error:
        refusal = str(error)
    except Exception as error:  # a schedule of the user's, or a pickle of another version
        refusal = f"it cannot be read: {error!r:.200}"
    return Found(
        name=name,
        definition=definition,
        last_run=_aware(entry.last_run_at),
        runs=entry.total_run_count,
        refusal=refusal,
    )


def _document(entry: Any) -> dict[str, Any]:
    document: dict[str, Any] = {"task": entry.task, "schedule": to_json(entry.schedule)}
    empties: dict[str, Any] = {"args": [], "kwargs": {}, "options": {}}
    for field, empty in empties.items():
        value: Any = getattr(entry, field) or empty
        try:
            carried = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise EntryError(f"{field} cannot be carried in JSON: {error}") from None
        if carried != empty:
            document[field] = carried
    return document


def _aware(moment: Any) -> datetime | None:
    """As Celery reads it: without a zone it is UTC."""
    if not isinstance(moment, datetime):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
