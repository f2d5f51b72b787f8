"""Many schedules in one call: a plan, checked before anything is written, then written in steps of 100.

A step is atomic, the whole is not: who dies half-way leaves the first steps done, and calls again.  What is
as it should be is left alone, so that the second call does the rest.

A plan is made of one reading.  Where somebody was faster with one of the names, that one is read again: if
its definition is still the one that the plan was made of, as after a pause, it is decided anew by itself;
else it is left as it is, and the caller is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from celery_dispatch.core.ports import Change, ChangeStatus
from celery_dispatch.core.rows import MOST_CHANGES
from celery_dispatch.errors import BulkRefused, EntryError, NeverDue, ScheduleError
from celery_dispatch.schedules.deciding import check_unchanged, created, defined, with_labels
from celery_dispatch.schedules.editing import Decide, Editing
from celery_dispatch.schedules.reading import Found, Reading, loaded
from celery_dispatch.schedules.values import Paused
from celery_dispatch.schedules.written import Written

__all__ = ["Bulk", "Plan", "Planned", "Planning", "Step"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Bulk:
    """What became of many schedules, by name; ``unchanged`` are also those that are over (``Step.OVER``)."""

    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


class Step(Enum):
    """What is to become of one schedule."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    KEEP = "unchanged"  #: it is as it should be
    OVER = "over"  #: it is never due any more and would be removed at once, so it is not created


@dataclass(frozen=True, slots=True)
class Planned:
    """One step of a plan: the definition as it is and as it is to be, ``None`` where there is none."""

    name: str
    step: Step
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


class Plan:
    """What is to become of many schedules: look at its ``steps``, then ``run`` it.

    Nothing is written before.
    """

    def __init__(
        self, steps: Sequence[Planned], changes: Sequence[Change], *, decide: Decide, editing: Editing
    ) -> None:
        self.steps = tuple(steps)
        self._changes = changes
        self._decide = decide
        self._editing = editing

    def run(self) -> Bulk:
        """Write what differs, and say what the steps were.

        Run again it writes what is not written yet, and says the same.
        Raises ``BulkRefused`` with those that somebody else was faster with; the others are written then.
        """
        _write(self._changes, self._decide, self._editing)
        names: dict[Step, tuple[str, ...]] = {
            step: tuple(one.name for one in self.steps if one.step is step) for step in Step
        }
        return Bulk(
            created=names[Step.CREATE],
            updated=names[Step.UPDATE],
            deleted=names[Step.DELETE],
            unchanged=tuple(one.name for one in self.steps if one.step in (Step.KEEP, Step.OVER)),
        )


class Planning:
    """Makes plans of what is stored and of what is wanted."""

    def __init__(
        self, *, reading: Reading, editing: Editing, written: Written, now: Callable[[], datetime]
    ) -> None:
        self._reading = reading
        self._editing = editing
        self._written = written
        self._now = now

    def creating(
        self,
        definitions: Mapping[str, Mapping[str, Any]],
        *,
        last_due: Mapping[str, datetime],
        begins_paused: Mapping[str, Paused],
        allow_unknown_task: bool,
    ) -> Plan:
        """Create all of them; one that exists with just this definition is left alone.

        Raises ``BulkRefused`` with all that cannot be created.
        """
        now = self._now()

        def text(name: str) -> str:
            return self._written.text(
                name,
                definitions[name],
                allow_unknown_task=allow_unknown_task,
                begins=None if name in last_due else now,
            )

        texts = collect(definitions, text)

        def decide(found: Found, now: datetime) -> Change | None:
            name = found.name
            if found.defined == texts[name]:
                return None
            return created(
                found, now, texts[name], last_due=last_due.get(name), begins_paused=begins_paused.get(name)
            )

        return self._plan(self._reading.find_all(texts), texts, decide, now)

    def replacing(
        self,
        definitions: Mapping[str, Mapping[str, Any]],
        *,
        labels: Mapping[str, Any],
        prune: bool,
        allow_unknown_task: bool,
    ) -> Plan:
        """Create those that are missing and update those that differ, each given ``labels``.

        ``prune``: what has the labels and is none of them is deleted.  Raises ``BulkRefused`` with all that
        cannot be written.
        """
        now = self._now()
        over: dict[str, NeverDue] = {}

        def text(name: str) -> str:
            item = with_labels(definitions[name], labels)
            _check_repeatable(item)
            try:
                return self._written.text(name, item, allow_unknown_task=allow_unknown_task, begins=now)
            except NeverDue as error:  # which matters only to one that is new
                over[name] = error
                return self._written.text(name, item, allow_unknown_task=allow_unknown_task)

        texts = collect(definitions, text)
        found = self._reading.find_all(texts)
        if prune:
            found += [one for one in self._reading.labelled(labels) if one.name not in texts]
        read = {one.name: one for one in found}
        wanted = {name: texts.get(name, "") for name in read}

        def decide(found: Found, now: datetime) -> Change | None:
            name = found.name
            if found.defined == wanted[name]:
                return None
            check_unchanged(found, read[name])
            if found.defined:
                return defined(found, now, wanted[name])
            if name in over:
                if _goes_when_completed(wanted[name]):
                    return None
                raise over[name]
            return created(found, now, wanted[name])

        return self._plan(found, wanted, decide, now)

    def _plan(self, found: Iterable[Found], wanted: Mapping[str, str], decide: Decide, now: datetime) -> Plan:
        by_name = {one.name: one for one in found}
        decided = collect(by_name, lambda name: decide(by_name[name], now))
        steps = [_planned(by_name[name], wanted[name], change) for name, change in decided.items()]
        changes = [change for change in decided.values() if change is not None]
        return Plan(steps, changes, decide=decide, editing=self._editing)

    def change(self, names: Iterable[str], decide: Decide) -> None:
        """Carry out what ``decide`` says of each name.

        Raises ``BulkRefused`` before anything is written, or afterwards for those that others were faster
        with.
        """
        found = {one.name: one for one in self._reading.find_all(names)}
        now = self._now()
        decided = collect(found, lambda name: decide(found[name], now))
        _write([change for change in decided.values() if change is not None], decide, self._editing)


def collect(names: Iterable[str], make: Callable[[str], _T]) -> dict[str, _T]:
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


def _write(changes: Sequence[Change], decide: Decide, editing: Editing) -> None:
    again: list[str] = []
    for start in range(0, len(changes), MOST_CHANGES):
        part = changes[start : start + MOST_CHANGES]
        results = editing.write(part, begun=start > 0)
        again += [one.name for one, result in zip(part, results) if result.status is not ChangeStatus.DONE]
    begun = len(changes) > 1
    collect(again, lambda name: editing.edit(name, decide, begun=begun))


def _planned(found: Found, wanted: str, change: Change | None) -> Planned:
    before, after = loaded(found.defined), loaded(wanted)
    if change is None:
        step = Step.KEEP if found.defined == wanted else Step.OVER
    elif after is None:
        step = Step.DELETE
    else:
        step = Step.CREATE if before is None else Step.UPDATE
    return Planned(found.name, step, before, after)


def _check_repeatable(item: Mapping[str, Any]) -> None:
    """Refuse what would begin anew each time that it is found missing."""
    asked = item.get("dispatch")
    if not isinstance(asked, Mapping):
        return
    count = asked.get("count")
    if count is not None and asked.get("remove_when_completed"):
        raise EntryError(
            f"dispatch option count = {count!r:.80} together with remove_when_completed: once it is "
            "completed and removed, the next time would begin it anew; leave one of them out"
        )


def _goes_when_completed(text: str) -> bool:
    asked = (loaded(text) or {}).get("dispatch")
    return isinstance(asked, Mapping) and bool(asked.get("remove_when_completed"))
