"""``Outbox`` in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from celery_dispatch.core.entry import Occurrence
from celery_dispatch.core.ports import Command, Path, Publication, PublicationStatus
from celery_dispatch.errors import EntryError, StoreUnavailable
from celery_dispatch.testing.store import MemoryPort, MemoryStore

__all__ = ["MemoryOutbox"]


class MemoryOutbox(MemoryPort):
    """Implements the ``Outbox`` port: one LPUSH on ``queue``, which ``MemoryStore.messages`` reads.

    ``same_store`` and ``user_code``, the names of entries, decide what ``path`` answers.  ``failing`` maps
    names to the message of the ``EntryError`` that rendering them raises, ``unsent`` names those that render
    to nothing.  ``rendered`` and ``fired`` collect the occurrences that were rendered, and those whose
    messages are on the broker.  While ``full`` is true the broker
    takes no message; it is away while ``MemoryStore.broker_available`` is false.
    """

    def __init__(self, store: MemoryStore, *, queue: str = "celery", same_store: bool = True) -> None:
        super().__init__(store)
        self.queue = queue
        self.same_store = same_store
        self.user_code: set[str] = set()
        self.failing: dict[str, str] = {}
        self.unsent: set[str] = set()
        self.full = False
        self.rendered: list[Occurrence] = []
        self.fired: list[Occurrence] = []
        self._lost_confirms = 0

    def lose_confirms(self, count: int = 1) -> None:
        """Let the next ``count`` messages be published, and answer ``UNKNOWN`` for each."""
        self._lost_confirms = count

    def connect(self) -> None:
        if not self._reachable():
            raise StoreUnavailable("The broker in memory is not available.")

    def path(self, occurrence: Occurrence | None) -> Path:
        has_user_code = occurrence is not None and occurrence.entry.name in self.user_code
        return Path(self.same_store, has_user_code, "a test says so" if has_user_code else "")

    def render(self, occurrence: Occurrence, *, now: datetime) -> tuple[Command, ...]:
        name = occurrence.entry.name
        self.rendered.append(occurrence)
        if name in self.failing:
            raise EntryError(self.failing[name])
        if name in self.unsent:
            return ()
        message = json.dumps({"entry": name, "due": occurrence.due.isoformat()})
        return (Command("LPUSH", self.queue, message),)

    def publish(self, messages: Sequence[tuple[Command, ...]]) -> list[Publication]:
        return [self._publish(commands) for commands in messages]

    def sent(self, occurrence: Occurrence) -> None:
        self.fired.append(occurrence)

    def close(self) -> None:
        """Nothing is held open."""

    def _reachable(self) -> bool:
        same = self.store.available if self.same_store else True
        return same and self.available and self.store.broker_available

    def _publish(self, commands: Sequence[Command]) -> Publication:
        if not self._reachable():
            return Publication(PublicationStatus.UNKNOWN, "the broker in memory is not available")
        if self.full:
            return Publication(PublicationStatus.FULL, "the queue is full")
        refused = [command.key for command in commands if command.key in self.store.refused]
        if refused:
            return Publication(PublicationStatus.REFUSED, f"{', '.join(refused)}: refused")
        for command in commands:
            self.store.queues.setdefault(command.key, []).append(command.value)
        if self._lost_confirms:
            self._lost_confirms -= 1
            return Publication(PublicationStatus.UNKNOWN, "the confirmation was lost")
        return Publication(PublicationStatus.CONFIRMED)
