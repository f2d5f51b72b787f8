"""The clock and the store that ports in memory share."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

from celery_dispatch.core.clock import whole_ms
from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Damaged, Intent, Member
from celery_dispatch.core.rows import Row
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
    (channel, message).  ``intents`` holds those that are open, by ``due_ms:name``, and ``rows`` what was said
    of entries at run time, by name.  ``listeners`` are called when the pool changes, ``followers`` when rows
    do.  Keys and channels in ``refused`` take no message.  ``server`` is what Redis calls its ``run_id``,
    ``seen_on`` the one that the pool was last seen on.  The pool's other attributes are named as its fields
    on Redis (``heartbeat.lua``).
    """

    def __init__(
        self, clock: ManualClock | None = None, *, start: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)
    ) -> None:
        self.clock = clock or ManualClock()
        self.available = self.broker_available = True
        self.server = "server-0"
        self.queues: dict[str, list[bytes | str]] = {}
        self.published: list[tuple[str, bytes | str]] = []
        self.refused: set[str] = set()
        self.listeners: list[Callable[[], None]] = []
        self.followers: list[Callable[[], None]] = []
        self._start = start - timedelta(seconds=self.clock.monotonic())
        self._names = 0
        self._loses_reply = False
        self._lock = threading.RLock()
        self.flush()

    def flush(self) -> None:
        """Lose all that was stored, as by FLUSHALL; the broker's queues stay."""
        self.members: dict[str, Member] = {}
        self.identity = ""
        self.identity_at: datetime | None = None
        self.fence: Fence | None = None
        self.before: Fence | None = None
        self.before_until: datetime | None = None
        self.reopened: datetime | None = None
        self.swept: datetime | None = None
        self.challenger = ""
        self.challenger_at: datetime | None = None
        self.epoch = ""
        self.beat_at: datetime | None = None
        self.lease = timedelta(0)
        self.no_trim_until: datetime | None = None
        self.seen_on = ""
        self.recovery = ""
        self.recovery_from: datetime | None = None
        self.recovery_until: datetime | None = None
        self.recovery_names: set[str] = set()
        self.cursors: dict[str, Cursor | Damaged] = {}
        self.intents: dict[str, Intent | Damaged] = {}
        self.rows: dict[str, Row | Damaged] = {}
        self.catalog = self.catalog_floor = 0
        self.gate = ""

    def restart(self) -> None:
        """Let the server be another one from now on, with all that was stored: the pool then recovers."""
        self.server = f"server-{self.new_name()}"

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
            yield whole_ms(now)
        if self._loses_reply:
            self._loses_reply = False
            raise StoreUnavailable("The reply of the store in memory was lost.")

    def new_name(self) -> str:
        """A name that was never used before."""
        self._names += 1
        return f"{self.now().timestamp():.3f}-{self._names}"

    def changed(self) -> None:
        """Begin a new epoch and wake the nodes."""
        self.epoch = self.new_name()
        for on_wake in list(self.listeners):
            on_wake()

    def rows_changed(self) -> None:
        """Tell the nodes that rows were written."""
        for on_change in list(self.followers):
            on_change()


class MemoryPort:
    """One node's way to a ``MemoryStore``; ``available = False`` cuts it."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.available = self.broker_available = True
