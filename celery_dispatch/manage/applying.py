"""Making the entries that were created at run time those of some files: first a plan, then its steps.

The plan is made of one reading.  A step that somebody overtook meanwhile is not carried out, and says so; the
others are.  Dying in between leaves each entry as it was or as it is wanted, and a second run does the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from celery_dispatch.errors import DispatchError, EntryError, StoreError, UnknownSchedule
from celery_dispatch.manage.controls import ControlError
from celery_dispatch.manage.differences import Difference, Step, differences
from celery_dispatch.schedules import Schedule, Schedules

__all__ = ["Asked", "Planned", "carried_out", "definitions", "planned"]

_PAGE = 1000
_SHOWN = 10  # refusals in an error
_EMPTY: Mapping[str, Any] = {"args": [], "kwargs": {}, "options": {}, "dispatch": {}}


@dataclass(frozen=True, slots=True)
class Asked:
    """The definitions of the files, as written; each is given ``labels``.

    ``prune``: what has these labels and stands in no file goes.
    """

    definitions: Mapping[str, Mapping[str, Any]]
    labels: Mapping[str, Any]
    prune: bool = False
    allow_unknown_task: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """One step; ``version`` is that of the entry as it was read, ``error`` says why it was not taken."""

    difference: Difference
    version: int | None = None
    error: str = ""


def planned(schedules: Schedules, asked: Asked) -> tuple[Planned, ...]:
    """What would be done, by name; writes nothing.

    Raises ``ControlError`` if anything in the files cannot be used: then nothing is to be done at all.
    """
    wanted = _normal(schedules, asked)
    there = _there(schedules, wanted, asked)
    pruned = {
        name
        for name, each in there.items()
        if asked.prune and name not in wanted and _has_labels(each, asked.labels)
    }
    stored = {name: each.definition or {} for name, each in there.items()}
    return tuple(
        Planned(each, there[each.name].version if each.name in there else None)
        for each in differences(stored, wanted, pruned=pruned)
    )


def _normal(schedules: Schedules, asked: Asked) -> dict[str, dict[str, Any]]:
    """Each definition as it would be stored."""
    wanted: dict[str, dict[str, Any]] = {}
    refused = []
    for name, definition in asked.definitions.items():
        try:
            labelled = _labelled(definition, asked.labels)
            wanted[name] = schedules.checked(name, labelled, allow_unknown_task=asked.allow_unknown_task)
        except EntryError as error:
            refused.append(f"{name!r}: {error}")
    if refused:
        raise _refused(refused)
    return wanted


def _labelled(definition: Mapping[str, Any], labels: Mapping[str, Any]) -> Mapping[str, Any]:
    if not labels:
        return definition
    policies = definition.get("dispatch") or {}
    own = policies.get("labels") or {} if isinstance(policies, Mapping) else {}
    if not isinstance(policies, Mapping) or not isinstance(own, Mapping):
        return definition  # it is refused as it is
    return {**definition, "dispatch": {**policies, "labels": {**own, **labels}}}


def _there(
    schedules: Schedules, wanted: Mapping[str, Mapping[str, Any]], asked: Asked
) -> dict[str, Schedule]:
    """The schedules that the files name, and with ``prune`` those that have the labels."""
    found: dict[str, Schedule] = {}
    for name in wanted:
        try:
            found[name] = schedules.get(name)
        except UnknownSchedule:
            continue
    configured = [name for name, each in found.items() if _is_config(each)]
    if configured:
        raise _refused([f"{name!r} is an entry of beat_schedule" for name in configured])
    if asked.prune:
        for each in _all(schedules, labels=asked.labels):
            if not _is_config(each):
                found[each.name] = each
    return found


def _refused(reasons: Sequence[str]) -> ControlError:
    more = f" … and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    listed = "; ".join(reasons[:_SHOWN])
    return ControlError(f"Nothing was written: {listed}{more}.", "Correct the files.")


def _is_config(schedule: Schedule) -> bool:
    return schedule.origin == "config"


def _has_labels(schedule: Schedule, labels: Mapping[str, Any]) -> bool:
    own = (schedule.definition or {}).get("dispatch", {}).get("labels", {})
    return all(key in own and own[key] == value for key, value in labels.items())


def _all(
    schedules: Schedules, *, labels: Mapping[str, Any] | None = None, pattern: str | None = None
) -> list[Schedule]:
    found: list[Schedule] = []
    after = None
    while True:
        page = schedules.list(labels=labels or None, pattern=pattern, limit=_PAGE, after=after)
        found += page.items
        after = page.next
        if after is None:
            return found


# --- doing it -----------------------------------------------------------------------------------------------


def carried_out(
    schedules: Schedules, plan: Sequence[Planned], *, allow_unknown_task: bool = False
) -> tuple[Planned, ...]:
    """Take each step; what is wrong with one change or removal does not stop the others.

    Raises ``BulkRefused`` if not all could be created, and ``StoreError``.
    """
    new = {
        step.difference.name: step.difference.after
        for step in plan
        if step.difference.step is Step.CREATE and step.difference.after is not None
    }
    if new:
        schedules.create_many(new, allow_unknown_task=allow_unknown_task)
    done = []
    for step in plan:
        try:
            _take(schedules, step, allow_unknown_task)
        except StoreError:
            raise
        except DispatchError as error:
            step = replace(step, error=str(error))
        done.append(step)
    return tuple(done)


def _take(schedules: Schedules, planned: Planned, allow_unknown_task: bool) -> None:
    difference = planned.difference
    name, after, version = difference.name, difference.after, planned.version
    if difference.step is Step.UPDATE and after is not None:
        fields = {field.path.partition(".")[0] for field in difference.fields}
        changes = {field: after.get(field, _EMPTY.get(field)) for field in fields}
        schedules.update(name, version=version, allow_unknown_task=allow_unknown_task, **changes)
    elif difference.step is Step.DELETE:
        schedules.delete(name, version=version)


# --- export -------------------------------------------------------------------------------------------------


def definitions(
    schedules: Schedules, *, labels: Mapping[str, Any], pattern: str | None, with_config: bool = False
) -> dict[str, Mapping[str, Any]]:
    """The definitions that there are; of the config only those that JSON can carry."""
    return {
        each.name: each.definition
        for each in _all(schedules, labels=labels, pattern=pattern)
        if each.definition is not None and (with_config or not _is_config(each))
    }
