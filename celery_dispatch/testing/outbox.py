"""``Outbox`` in memory."""

from __future__ import annotations

import json
from datetime import datetime

from celery_dispatch.core.entry import Occurrence
from celery_dispatch.core.ports import Command
from celery_dispatch.errors import EntryError, StoreUnavailable
from celery_dispatch.testing.store import MemoryPort, MemoryStore

__all__ = ["MemoryOutbox"]


class MemoryOutbox(MemoryPort):
    """Implements the ``Outbox`` port: one LPUSH on ``queue``, which ``MemoryStore.messages`` reads.

    ``failing`` maps names of entries to the message of the ``EntryError`` that rendering them raises;
    ``fired`` collects the occurrences whose claims were won, in their order.
    """

    def __init__(self, store: MemoryStore, *, queue: str = "celery") -> None:
        super().__init__(store)
        self.queue = queue
        self.failing: dict[str, str] = {}
        self.fired: list[Occurrence] = []

    def connect(self) -> None:
        if not (self.store.available and self.available):
            raise StoreUnavailable("The broker in memory is not available.")

    def render(self, occurrence: Occurrence, *, now: datetime) -> tuple[Command, ...]:
        name = occurrence.entry.name
        if name in self.failing:
            raise EntryError(self.failing[name])
        message = json.dumps({"entry": name, "due": occurrence.due.isoformat()})
        return (Command("LPUSH", self.queue, message),)

    def sent(self, occurrence: Occurrence) -> None:
        self.fired.append(occurrence)

    def close(self) -> None:
        """Nothing is held open."""
