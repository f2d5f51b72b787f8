"""The door for people and programs: one object with what can be done to schedules."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any

from celery import Celery

from celery_dispatch.core.clock import whole_ms
from celery_dispatch.core.entry import Entry
from celery_dispatch.core.ports import Change
from celery_dispatch.core.rows import ALL, Row
from celery_dispatch.errors import ScheduleError
from celery_dispatch.schedules.bulk import Bulk, Plan
from celery_dispatch.schedules.deciding import (
    check_known,
    check_run_time,
    coming,
    created,
    defined,
    paused,
    resumed,
    unknown,
)
from celery_dispatch.schedules.editing import Decide, check_version, is_damaged
from celery_dispatch.schedules.parts import Parts, open_parts
from celery_dispatch.schedules.reading import Found
from celery_dispatch.schedules.sending import Backfill, RunNow
from celery_dispatch.schedules.values import Coming, Page, Paused, Schedule, State
from celery_dispatch.schedules.written import FIELDS

__all__ = ["Schedules"]


class Schedules:
    """The schedules of an app's pool, those of ``beat_schedule`` and those created at run time.

    A change takes effect on every beat within a second; when it returns, no beat that has not heard of it can
    fire by what was before.  Nothing is opened before the first call; ``close()``, or leave a ``with``, when
    done.  May be used from several threads.

    Every method raises ``StoreError`` where Redis cannot be asked, and those that change something
    ``ScheduleError`` where that cannot be done, and ``EntryError`` for a definition that cannot be used: with
    the field, its value and the cure, and before anything is written.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._opened: Parts | None = None

    def __enter__(self) -> Schedules:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        if self._opened is not None:
            self._opened.store.client.close()
            self._opened = None

    # --- looking --------------------------------------------------------------------------------------------

    def get(self, name: str) -> Schedule:
        """The schedule of that name.  Raises ``UnknownSchedule``."""
        found = self._parts.reading.schedules(self._parts.reading.find([name]))
        if not found:
            raise unknown(name)
        return found[0]

    def list(
        self,
        *,
        labels: Mapping[str, Any] | None = None,
        pattern: str | None = None,
        state: State | str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page:
        """Schedules by name: those that have all of ``labels``, are named like ``pattern`` (a glob), and are
        in ``state``; up to ``limit`` of them, from ``after`` on.

        Those of the config are listed as the app at hand has them.
        """
        if limit < 1:
            raise ValueError(f"limit = {limit}: must be at least 1")
        wanted = None if state is None else State(state)
        return self._parts.reading.page(
            labels=labels, pattern=pattern, state=wanted, limit=limit, after=after
        )

    @property
    def paused_all(self) -> Paused | None:
        """The pause of all schedules, if they are paused."""
        (row,) = self._parts.store.rows.read([ALL])
        if not isinstance(row, Row) or row.pause is None or not row.pause.is_on:
            return None
        return Paused(row.pause.since, row.pause.note, row.pause.author)

    def checked(
        self, name: str, definition: Mapping[str, Any], *, allow_unknown_task: bool = False
    ) -> dict[str, Any]:
        """The definition as ``create`` would store it, so that equal ones are equal; writes nothing.

        Raises ``EntryError`` for what ``create`` would refuse.
        """
        text = self._parts.written.text(name, definition, allow_unknown_task=allow_unknown_task)
        found: dict[str, Any] = json.loads(text)
        return found

    # --- changing -------------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        *,
        task: str,
        schedule: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        dispatch: Mapping[str, Any] | None = None,
        last_due: datetime | None = None,
        begins_paused: Paused | None = None,
        allow_unknown_task: bool = False,
    ) -> Schedule:
        """Create a schedule; it is first due after now, or after ``last_due`` where it moves in from
        elsewhere, and paused where that is given.

        ``last_due`` is aware, not in the future, and rounded up to milliseconds as dues are.  ``schedule`` is
        a number of seconds, a timedelta, a schedule object or its document; ``dispatch`` holds the policies.
        Raises ``NameTaken``; ``EntryError`` also for a task that the app does not have, unless
        ``allow_unknown_task``, and ``NeverDue`` for a schedule that begins now and is never due.
        """
        given = {"task": task, "schedule": schedule, "args": args, "kwargs": kwargs}
        item = {**given, "options": options, "dispatch": dispatch}
        begins = self._parts.store.now() if last_due is None else None
        text = self._parts.written.text(name, item, allow_unknown_task=allow_unknown_task, begins=begins)

        def decide(found: Found, now: datetime) -> Change:
            return created(found, now, text, last_due=last_due, begins_paused=begins_paused)

        self._parts.editing.edit(name, decide)
        return self.get(name)

    def update(
        self, name: str, *, version: int | None = None, allow_unknown_task: bool = False, **changes: Any
    ) -> Schedule:
        """Say something else of a schedule: ``task``, ``schedule``, ``args``, ``kwargs``, ``options``,
        ``dispatch``.

        What is not given stays; a task that stays may be unknown here.  It goes on after what was due last,
        from now on.  Raises ``StaleVersion`` where it is not at ``version`` any more, ``UnknownSchedule``,
        and ``ScheduleError`` for one of the config.
        """
        unknown = sorted(changes.keys() - set(FIELDS))
        if unknown or not changes:
            raise TypeError(f"update() takes {', '.join(FIELDS)}, not {', '.join(unknown) or 'nothing'}")

        def decide(found: Found, now: datetime) -> Change | None:
            check_run_time(found)
            check_version(found, version)
            before = json.loads(found.defined)
            item = {**before, **changes}
            allow = allow_unknown_task or item["task"] == before["task"]
            text = self._parts.written.text(name, item, allow_unknown_task=allow)
            return defined(found, now, text) if text != found.defined else None

        self._parts.editing.edit(name, decide)
        return self.get(name)

    def delete(self, name: str, *, version: int | None = None) -> None:
        """Delete a schedule; once this returns it is never fired again.

        Raises ``StaleVersion`` where it is not at ``version`` any more, ``UnknownSchedule``, and
        and ``ScheduleError`` for one of the config.
        """

        def decide(found: Found, now: datetime) -> Change:
            if not is_damaged(found):
                check_run_time(found)
            check_version(found, version)
            return defined(found, now, "")

        self._parts.editing.edit(name, decide)

    def pause(self, name: str, *, note: str = "", author: str = "") -> Schedule:
        """Pause a schedule, of the config too; a pause that is on is kept, with the note that is given now.

        What it is due for is passed over and counted as skipped.  Raises ``UnknownSchedule``.
        """

        self._parts.editing.edit(name, _pausing(note, author))
        return self.get(name)

    def resume(self, name: str) -> Schedule:
        """End the pause of a schedule; it is next due after now.  Raises ``UnknownSchedule``."""

        def decide(found: Found, now: datetime) -> Change | None:
            check_known(found)
            return resumed(found, now)

        self._parts.editing.edit(name, decide)
        return self.get(name)

    def pause_all(self, *, note: str = "", author: str = "") -> None:
        """Let no schedule fire anything, until ``resume_all``; their own pauses stay as they are.

        What was claimed before and is still on its way to a broker waits, and is sent after ``resume_all``.
        """
        self._parts.editing.edit(ALL, lambda found, now: paused(found, now, note=note, author=author))

    def resume_all(self) -> None:
        """Let all schedules fire again that are not paused themselves; they are next due after now.

        Raises ``ScheduleError`` where the pause cannot be read; ``pause_all`` writes it anew.
        """
        self._parts.editing.edit(ALL, resumed)

    def create_many(
        self,
        definitions: Mapping[str, Mapping[str, Any]],
        *,
        last_due: Mapping[str, datetime] | None = None,
        begins_paused: Mapping[str, Paused] | None = None,
        allow_unknown_task: bool = False,
    ) -> Bulk:
        """Create many schedules, each by name as an item of ``beat_schedule`` says it; see ``create``.

        One that exists with just this definition is left as it is, so that a call that was interrupted may be
        repeated.  Raises ``BulkRefused`` with all that cannot be created; none is then, unless the reason is
        that somebody else was faster with just these.
        """
        return self._parts.planning.creating(
            definitions,
            last_due=last_due or {},
            begins_paused=begins_paused or {},
            allow_unknown_task=allow_unknown_task,
        ).run()

    def pause_many(self, names: Iterable[str], *, note: str = "", author: str = "") -> None:
        """Pause many schedules; see ``pause``.

        Raises ``BulkRefused`` with all that cannot be paused; none is then, unless the reason is that
        somebody else was faster with just these.
        """
        self._parts.planning.change(names, _pausing(note, author))

    def plan(
        self,
        definitions: Mapping[str, Mapping[str, Any]],
        *,
        labels: Mapping[str, Any] | None = None,
        prune: bool = False,
        allow_unknown_task: bool = False,
    ) -> Plan:
        """What it takes to have the schedules of ``definitions``; look at its ``steps``, then ``run`` it.

        Each is given ``labels``.  Those that are missing would be created, those that differ updated; with
        ``prune`` the others that have the labels would be deleted.  A missing one that is to be removed when
        it is completed, and is never due any more, is over and not created again; with a ``count`` it would
        begin anew each time, which is refused.  Raises ``BulkRefused`` with all that cannot be written.
        """
        if prune and not labels:
            raise ValueError(f"labels = {labels}: without any, every other schedule would be deleted")
        return self._parts.planning.replacing(
            definitions, labels=labels or {}, prune=prune, allow_unknown_task=allow_unknown_task
        )

    def replace(
        self,
        definitions: Mapping[str, Mapping[str, Any]],
        *,
        labels: Mapping[str, Any],
        allow_unknown_task: bool = False,
    ) -> Bulk:
        """Make the schedules with these labels exactly those of ``definitions``, which are given the labels.

        It is the ``plan`` with ``prune``, carried out, and refuses what that does, as a ``count`` with
        ``remove_when_completed``.  Raises ``BulkRefused`` with all that cannot be written; none is then,
        unless the reason is that somebody else was faster with just these.
        """
        return self.plan(definitions, labels=labels, prune=True, allow_unknown_task=allow_unknown_task).run()

    # --- by hand --------------------------------------------------------------------------------------------

    def run_now(self, name: str) -> RunNow:
        """Send one occurrence now, through this process; works while the schedule is paused.

        It is one of its own: the cursor does not move, and what is due is fired as ever.  Raises
        ``UnknownSchedule``, and ``EntryError`` where it cannot be sent.
        """
        return self._parts.sender.run_now(self._entry(name))

    def backfill(self, name: str, *, start: datetime, end: datetime) -> Backfill:
        """What was due later than ``start`` and up to ``end``; look at its ``count``, then ``run`` it.

        Raises ``UnknownSchedule``, and ``ScheduleError`` for an ``end`` in the future.
        """
        if start.tzinfo is None or end.tzinfo is None:
            raise ScheduleError("start and end must have a time zone, such as timezone.utc")
        if end > self._parts.store.now():
            raise ScheduleError(
                f"end = {end.isoformat()}: lies in the future; what is due then comes by itself"
            )
        return Backfill(self._entry(name), self._parts.sender, start=whole_ms(start), end=end)

    def preview(
        self,
        schedule: str | Mapping[str, Any],
        *,
        count: int = 10,
        since: datetime | None = None,
        name: str = "preview",
    ) -> tuple[Coming, ...]:
        """The next occurrences of a schedule, or of a definition that does not exist yet, under ``name``.

        ``since`` is where they begin; by default where the schedule stands, or now.  Fewer than ``count`` are
        all that there are.  Raises ``UnknownSchedule`` and ``EntryError``.
        """
        store = self._parts.store
        if isinstance(schedule, str):
            found = self._found(schedule)
            return coming(
                self._parts.reading.entry(found), found.cursor, now=store.now(), since=since, count=count
            )
        entry = store.definitions.entry(name, dict(schedule))
        return coming(entry, None, now=store.now(), since=since, count=count)

    # --- parts ----------------------------------------------------------------------------------------------

    def _found(self, name: str) -> Found:
        found = self._parts.reading.find([name])[0]
        check_known(found)
        return found

    def _entry(self, name: str) -> Entry:
        return self._parts.reading.entry(self._found(name))

    @property
    def _parts(self) -> Parts:
        if self._opened is None:
            self._opened = open_parts(self._app)
        return self._opened


def _pausing(note: str, author: str) -> Decide:
    def decide(found: Found, now: datetime) -> Change:
        check_known(found)
        return paused(found, now, note=note, author=author)

    return decide
