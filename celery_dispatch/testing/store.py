"""The clock and the store that ports in memory share."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Damaged, Member
from celery_dispatch.errors import StoreUnavailable

__all__ = ["ManualClock", "MemoryPort", "MemoryStore"]


class ManualClock:
    """A local clock that stands still until ``advance`` is called."""

    def __init__(self, start: float = 0.0) -> None:
        self._seconds = start

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return self._seconds

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` (not negative) pass."""
        if seconds < 0:
            raise ValueError("a monotonic clock does not go back; see MemoryStore.step")
        self._seconds += seconds


class MemoryStore:
    """What the nodes of one pool share; its attributes may be read, and changed to set a scene.

    ``clock`` carries the server's time, which begins at ``start`` (aware UTC, whole milliseconds).
    ``queues`` holds the messages of each queue, the oldest first, and ``published`` those of channels, as
    (channel, message).  Keys and channels in ``refused`` take no message.
    """

    def __init__(
        self, clock: ManualClock | None = None, *, start: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)
    ) -> None:
        self.clock = clock or ManualClock()
        self.available = True
        self.members: dict[str, Member] = {}
        self.fence: Fence | None = None
        self.epoch = ""
        self.beat_at: datetime | None = None
        self.no_trim_until: datetime | None = None
        self.cursors: dict[str, Cursor | Damaged] = {}
        self.queues: dict[str, list[bytes | str]] = {}
        self.published: list[tuple[str, bytes | str]] = []
        self.refused: set[str] = set()
        self.listeners: list[Callable[[], None]] = []
        self._start = start - timedelta(seconds=self.clock.monotonic())
        self._epochs = 0
        self._loses_reply = False
        self._lock = threading.RLock()

    def now(self) -> datetime:
        """The server's time."""
        return self._start + timedelta(seconds=self.clock.monotonic())

    def step(self, seconds: float) -> None:
        """Put the server's clock forward, or back; no time passes."""
        self._start += timedelta(seconds=seconds)

    def lose_next_reply(self) -> None:
        """Let the next call of any port be carried out, and raise ``StoreUnavailable``."""
        self._loses_reply = True

    def messages(self, queue: str = "celery") -> list[tuple[str, datetime]]:
        """The (entry, due) of each message that a ``MemoryOutbox`` put on ``queue``, the oldest first."""
        decoded = [json.loads(message) for message in self.queues.get(queue, [])]
        return [(message["entry"], datetime.fromisoformat(message["due"])) for message in decoded]

    @contextmanager
    def operation(self, port: MemoryPort) -> Iterator[datetime]:
        """One atomic step of ``port``; gives the server's time in whole milliseconds."""
        if not (self.available and port.available):
            raise StoreUnavailable("The store in memory is not available.")
        with self._lock:
            now = self.now()
            yield now.replace(microsecond=now.microsecond // 1000 * 1000)
        if self._loses_reply:
            self._loses_reply = False
            raise StoreUnavailable("The reply of the store in memory was lost.")

    def changed(self, now: datetime) -> None:
        """Begin a new epoch and wake the nodes."""
        self._epochs += 1
        self.epoch = f"{now.timestamp():.3f}-{self._epochs}"
        for on_wake in list(self.listeners):
            on_wake()


class MemoryPort:
    """One node's way to a ``MemoryStore``; ``available = False`` cuts it."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.available = True
