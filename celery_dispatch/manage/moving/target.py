"""Where entries are moved to: the schedules of an app's pool."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from celery_dispatch.celery_bridge.definitions import Definitions
from celery_dispatch.core.entry import Cursor, Entry
from celery_dispatch.core.ports import Damaged, Rows
from celery_dispatch.errors import DispatchError, StoreError
from celery_dispatch.manage.moving.importing import Creation
from celery_dispatch.redis_store.planting import Planting
from celery_dispatch.schedules import Paused, Schedules

__all__ = ["SchedulesTarget"]

_Item = TypeVar("_Item")

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
        return self._refused(creations, lambda creation: creation.name, self._create)

    def _create(self, creation: Creation) -> object:
        return self._schedules.create(
            creation.name,
            **creation.definition,
            last_due=creation.due,
            begins_paused=Paused(creation.due, _NOTE, self._author) if creation.paused else None,
            allow_unknown_task=self._allow_unknown_task,
        )

    def pause(self, names: Sequence[str]) -> Mapping[str, str]:
        return self._refused(
            names, str, lambda name: self._schedules.pause(name, note=_NOTE, author=self._author)
        )

    @staticmethod
    def _refused(
        items: Sequence[_Item], name_of: Callable[[_Item], str], act: Callable[[_Item], object]
    ) -> dict[str, str]:
        """``act`` on each; those with which something is wrong.  Raises ``StoreError``."""
        refused = {}
        for item in items:
            try:
                act(item)
            except StoreError:
                raise
            except DispatchError as error:
                refused[name_of(item)] = str(error)
        return refused

    def plant(self, cursors: Mapping[str, tuple[Cursor | None, Cursor]]) -> set[str]:
        return self._planting.plant(cursors)
