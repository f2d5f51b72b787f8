"""Where entries are moved to: the schedules of an app's pool."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery_dispatch.celery_bridge.definitions import Definitions
from celery_dispatch.core.entry import Cursor, Entry
from celery_dispatch.core.ports import Damaged, Rows
from celery_dispatch.errors import BulkRefused
from celery_dispatch.manage.moving.importing import Creation
from celery_dispatch.redis_store.planting import Planting
from celery_dispatch.schedules import Paused, Schedules

__all__ = ["SchedulesTarget"]

_NOTE = "disabled where it was moved in from"


class SchedulesTarget:
    """Creates entries through ``schedules``; implements ``importing.Target``."""

    def __init__(
        self,
        schedules: Schedules,
        *,
        rows: Rows,
        definitions: Definitions,
        planting: Planting,
        author: str,
        allow_unknown_task: bool,
    ) -> None:
        self._schedules = schedules
        self._rows = rows
        self._definitions = definitions
        self._planting = planting
        self._author = author
        self._allow_unknown_task = allow_unknown_task

    def existing(self, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        for name, row in zip(names, self._rows.read(names)):
            if isinstance(row, Damaged):
                found[name] = {}
            elif row is not None and row.definition:
                found[name] = json.loads(row.definition)
        return found

    def entry(self, name: str, definition: Mapping[str, Any]) -> Entry:
        normal = self._schedules.checked(name, definition, allow_unknown_task=self._allow_unknown_task)
        return self._definitions.entry(name, normal)

    def create(self, creations: Sequence[Creation]) -> Mapping[str, str]:
        """One that was disabled begins with its pause, so that it never fires in between."""
        wanted = {creation.name: creation for creation in creations}

        def create(names: Sequence[str]) -> object:
            some = [wanted[name] for name in names]
            return self._schedules.create_many(
                {each.name: each.definition for each in some},
                last_due={each.name: each.due for each in some},
                begins_paused={
                    each.name: Paused(each.due, _NOTE, self._author) for each in some if each.paused
                },
                allow_unknown_task=self._allow_unknown_task,
            )

        return _refused(list(wanted), create)

    def pause(self, names: Sequence[str]) -> Mapping[str, str]:
        return _refused(names, lambda some: self._schedules.pause_many(some, note=_NOTE, author=self._author))

    def plant(self, cursors: Mapping[str, tuple[Cursor | None, Cursor]]) -> set[str]:
        return self._planting.plant(cursors)


def _refused(names: Sequence[str], act: Callable[[Sequence[str]], object]) -> dict[str, str]:
    """``act`` on them, without those that make it refuse all; why each of these cannot be.

    Raises ``StoreError``.
    """
    refused: dict[str, str] = {}
    left = names
    while left:
        try:
            act(left)
            break
        except BulkRefused as error:
            refused.update((name, str(wrong)) for name, wrong in error.errors.items())
            left = [name for name in left if name not in error.errors]
    return refused
