"""Making the entries that were created at run time those of some files, and those entries as a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_dispatch.errors import BulkRefused, DispatchError, ScheduleError
from celery_dispatch.manage.controls import ControlError
from celery_dispatch.schedules import Plan, Schedule, Schedules

__all__ = ["Asked", "carried_out", "definitions", "planned"]

_PAGE = 1000
_SHOWN = 10  # refusals in an error


@dataclass(frozen=True, slots=True)
class Asked:
    """The definitions of the files, as written; each is given ``labels``.

    ``prune``: what has these labels and stands in no file goes.
    """

    definitions: Mapping[str, Mapping[str, Any]]
    labels: Mapping[str, Any]
    prune: bool = False
    allow_unknown_task: bool = False


def planned(schedules: Schedules, asked: Asked) -> Plan:
    """What would be done; writes nothing.

    Raises ``ControlError`` if anything in the files cannot be used: then nothing is to be done at all.
    """
    try:
        return schedules.plan(
            asked.definitions,
            labels=asked.labels,
            prune=asked.prune,
            allow_unknown_task=asked.allow_unknown_task,
        )
    except BulkRefused as refused:
        reasons = [_reason(name, error) for name, error in refused.errors.items()]
        more = f" … and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        raise ControlError(
            f"Nothing was written: {'; '.join(reasons[:_SHOWN])}{more}.", "Correct the files."
        ) from None


def _reason(name: str, error: DispatchError) -> str:
    said = str(error).rstrip(".")
    return said if isinstance(error, ScheduleError) else f"{name!r}: {said}"  # a ScheduleError names it


def carried_out(plan: Plan) -> dict[str, str]:
    """Do it; why each step that was not taken could not be.  Raises ``StoreError``."""
    try:
        plan.run()
    except BulkRefused as refused:
        return {name: str(error) for name, error in refused.errors.items()}
    return {}


def definitions(
    schedules: Schedules, *, labels: Mapping[str, Any], pattern: str | None, with_config: bool = False
) -> dict[str, Mapping[str, Any]]:
    """The definitions that there are; of the config only those that JSON can carry."""
    return {
        each.name: each.definition
        for each in _all(schedules, labels=labels, pattern=pattern)
        if each.definition is not None and (with_config or each.origin != "config")
    }


def _all(schedules: Schedules, *, labels: Mapping[str, Any], pattern: str | None) -> list[Schedule]:
    found: list[Schedule] = []
    after = None
    while True:
        page = schedules.list(labels=labels or None, pattern=pattern, limit=_PAGE, after=after)
        found += page.items
        after = page.next
        if after is None:
            return found
