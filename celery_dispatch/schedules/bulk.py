"""Many schedules in one call: checked before anything is written, then written 200 in one step.

A step is atomic, the whole is not: who dies half-way leaves the first steps done, and calls again.  Where
somebody was faster with one of the names, that one is decided anew by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from celery_dispatch.core.ports import Change, ChangeStatus
from celery_dispatch.errors import BulkRefused, EntryError, ScheduleError
from celery_dispatch.redis_store.rows import MOST_CHANGES
from celery_dispatch.schedules.editing import Decide, Editing
from celery_dispatch.schedules.reading import Found, Reading

__all__ = ["Bulk", "collect", "write_many"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Bulk:
    """What became of many schedules, by name."""

    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


def collect(names: Sequence[str], make: Callable[[str], _T]) -> dict[str, _T]:
    """What ``make`` gives for each name; raises ``BulkRefused`` with all that cannot be."""
    made: dict[str, _T] = {}
    errors: dict[str, ScheduleError | EntryError] = {}
    for name in names:
        try:
            made[name] = make(name)
        except (ScheduleError, EntryError) as error:
            errors[name] = error
    if errors:
        raise BulkRefused(errors)
    return made


def write_many(
    names: Sequence[str], decide: Decide, *, reading: Reading, editing: Editing, now: datetime
) -> tuple[str, ...]:
    """Carry out what ``decide`` says of each name; those that it wanted changed.

    Raises ``BulkRefused`` before anything is written, or afterwards for those that others were faster with.
    """
    found: dict[str, Found] = {}
    for some in _slices(names):
        found.update((one.name, one) for one in reading.find(some))
    decided: Mapping[str, Change | None] = collect(names, lambda name: decide(found[name], now))
    changes = [change for change in decided.values() if change is not None]
    again: list[str] = []
    for start in range(0, len(changes), MOST_CHANGES):
        part = changes[start : start + MOST_CHANGES]
        results = editing.write(part)
        again += [one.name for one, result in zip(part, results) if result.status is not ChangeStatus.DONE]
    if again:
        collect(again, lambda name: editing.edit(name, decide))
    return tuple(change.name for change in changes)


def _slices(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), 1_000):
        yield names[start : start + 1_000]
