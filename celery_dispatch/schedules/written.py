"""From what a caller says of a schedule to the text that is stored; everything is checked here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from celery_dispatch.config import suggestion
from celery_dispatch.errors import EntryError
from celery_dispatch.schedules.store import Store

__all__ = ["FIELDS", "Written"]

#: What a definition consists of.
FIELDS = ("task", "schedule", "args", "kwargs", "options", "dispatch")

_OF_CELERY = "celery."
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


class Written:
    """Writes definitions as one text each, so that equal ones are equal."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def text(
        self,
        name: str,
        item: Mapping[str, Any],
        *,
        allow_unknown_task: bool = False,
        begins: datetime | None = None,
    ) -> str:
        """The definition as it is stored; what is ``None`` was not said.

        Raises ``EntryError`` with field, value and cure, also for one that ``begins`` now and is never due.
        """
        said = {key: value for key, value in item.items() if value is not None}
        document = self._store.definitions.document(name, said, after=begins)
        if not allow_unknown_task:
            self._check_task(str(document["task"]))
        return _encode(document)

    def _check_task(self, task: str) -> None:
        """An app that has tasks of its own knows which there are."""
        tasks: Any = self._store.app.tasks
        if task in tasks:
            return
        own = [known for known in tasks if not known.startswith(_OF_CELERY)]
        if not own:
            return
        hint = suggestion(task, own)
        cure = f"did you mean {hint!r}?" if hint else "check the name"
        raise EntryError(f"task = {task!r}: this app has no such task; {cure}, or allow an unknown task")
