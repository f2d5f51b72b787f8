"""Every port in memory, and a clock that only moves when told: for your own tests and for simulations.

One ``MemoryStore`` stands for the Redis of a pool; each node has ports of its own onto it.  They keep the
same contracts as those on Redis (``celery_dispatch.core.ports``), which one test suite checks on both::

    clock = ManualClock()
    store = MemoryStore(clock)
    pool, ledger = MemoryPool(store), MemoryLedger(store)

    pulse = pool.heartbeat(Heartbeat("a", "host", "v1", MemberState.STEADY, timedelta(seconds=10), {}),
                           known_epoch=None)
    ledger.claim(pulse.fence, [Claim("report", None, Cursor.anchor("d1", pulse.fence.since, "a"))])
    clock.advance(60)

What can go wrong on a network can be had at will: ``store.available = False`` takes Redis down,
``pool.available = False`` cuts one node's port off, and ``store.lose_next_reply()`` carries the next call out
and then raises ``StoreUnavailable``.  ``store.step(seconds)`` puts the server's clock forward or back.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from celery_dispatch.core.entry import Cursor, Fence, Occurrence
from celery_dispatch.core.ports import (
    Claim,
    ClaimReply,
    ClaimResult,
    ClaimStatus,
    Command,
    Damaged,
    Heartbeat,
    Member,
    PoolState,
    Pulse,
    Stored,
)
from celery_dispatch.errors import EntryError, FencedError, StoreUnavailable
from celery_dispatch.redis_store.codec import encode_cursor

__all__ = ["ManualClock", "MemoryLedger", "MemoryListener", "MemoryOutbox", "MemoryPool", "MemoryStore"]

_MS = timedelta(milliseconds=1)
_CLOCK_TOLERANCE = timedelta(seconds=1)


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


# --- pool ---------------------------------------------------------------------------------------------------


class MemoryPool(MemoryPort):
    """Implements the ``Pool`` port."""

    def heartbeat(self, beat: Heartbeat, *, known_epoch: str | None) -> Pulse:
        store = self.store
        with store.operation(self) as now:
            changed = self._trim(beat, now)
            changed = self._renew(beat, now) or changed
            if store.fence is None:
                store.fence, changed = Fence(beat.config, now), True
            if changed:
                self._settle(now)
            members = self._members() if store.epoch != known_epoch else None
            return Pulse(store.now(), store.epoch, store.fence, members)

    def leave(self, node: str) -> None:
        with self.store.operation(self) as now:
            if self.store.members.pop(node, None) is not None:
                self._settle(now)

    def read(self) -> PoolState:
        store = self.store
        with store.operation(self):
            return PoolState(store.now(), store.epoch, store.fence, self._members())

    def _members(self) -> tuple[Member, ...]:
        return tuple(member for _, member in sorted(self.store.members.items()))

    def _trim(self, beat: Heartbeat, now: datetime) -> bool:
        """Drop the members whose leases ran out, unless the leases say nothing; whether there were any."""
        store, limit = self.store, now + beat.lease
        last = store.beat_at or now
        went_back = last - now > _CLOCK_TOLERANCE
        if went_back:
            for node, member in store.members.items():
                store.members[node] = replace(member, lease_end=min(member.lease_end, limit))
        if went_back or now - last > beat.lease:
            store.no_trim_until = limit
        if store.no_trim_until is not None and store.no_trim_until > now:
            return False
        expired = [
            node for node, member in store.members.items() if member.lease_end <= now and node != beat.node
        ]
        for node in expired:
            del store.members[node]
        return bool(expired)

    def _renew(self, beat: Heartbeat, now: datetime) -> bool:
        """Take or renew the lease; whether that changes the pool."""
        before = self.store.members.get(beat.node)
        self.store.beat_at = now
        after = self.store.members[beat.node] = Member(
            id=beat.node,
            host=beat.host,
            config=beat.config,
            state=beat.state,
            joined=before.joined if before else now,
            lease_end=now + beat.lease,
            info=dict(beat.info),
        )
        return before is None or _role(before) != _role(after)

    def _settle(self, now: datetime) -> None:
        """After a change: the config in force, and a new epoch."""
        store = self.store
        configs = {member.config for member in store.members.values()}
        if store.fence and configs and store.fence.config not in configs:
            eldest = min(store.members.values(), key=lambda member: (member.joined, member.id))
            store.fence = Fence(eldest.config, max(now, store.fence.since + _MS))
        store.changed(now)


def _role(member: Member) -> tuple[object, ...]:
    return member.host, member.config, member.state


class MemoryListener(MemoryPort):
    """Implements the ``Listener`` port; wakes on the thread that changed the pool."""

    _on_wake: Callable[[], None] | None = None

    def start(self, on_wake: Callable[[], None]) -> None:
        if self._on_wake is None:
            self._on_wake = on_wake
            self.store.listeners.append(self._wake)
            on_wake()

    def stop(self) -> None:
        if self._wake in self.store.listeners:
            self.store.listeners.remove(self._wake)

    def _wake(self) -> None:
        if self._on_wake is not None and self.available:
            self._on_wake()


# --- ledger -------------------------------------------------------------------------------------------------


class MemoryLedger(MemoryPort):
    """Implements the ``Ledger`` port; carries commands out on the store's ``queues`` and ``published``."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._serials: dict[str, int] = {}

    def read(self, names: Sequence[str]) -> list[Stored]:
        with self.store.operation(self):
            return [self.store.cursors.get(name) for name in names]

    def claim(self, fence: Fence, claims: Sequence[Claim]) -> ClaimReply:
        if len({claim.name for claim in claims}) != len(claims):
            raise ValueError("an entry is claimed twice in one batch")
        for claim in claims:
            encode_cursor(claim.wanted)  # what Redis could not hold is refused here as well
        with self.store.operation(self) as now:
            if self.store.fence != fence:
                raise FencedError(f"The config in force is {self.store.fence}, not {fence}.")
            results = tuple(self._claim(claim, now) for claim in claims)
            return ClaimReply(self.store.now(), results)

    def scan(self, position: int, count: int) -> tuple[int, list[tuple[str, Cursor | Damaged]]]:
        with self.store.operation(self):
            cursors = self.store.cursors
            for name in cursors:
                self._serials.setdefault(name, len(self._serials) + 1)
            names = sorted(cursors, key=self._serials.__getitem__)
            left = [name for name in names if self._serials[name] > position]
            page = left[:count]
            position = self._serials[page[-1]] if left[count:] else 0
            return position, [(name, cursors[name]) for name in page]

    def _claim(self, claim: Claim, now: datetime) -> ClaimResult:
        stored = self.store.cursors.get(claim.name)
        if stored == claim.wanted:
            return ClaimResult(ClaimStatus.WON, claim.wanted)
        if stored != claim.expected:
            return ClaimResult(ClaimStatus.LOST, stored)
        if _is_early(claim, now):
            return ClaimResult(ClaimStatus.EARLY, stored)
        pushed, errors = self._push(claim.commands)
        if claim.commands and not pushed:
            return ClaimResult(ClaimStatus.FAILED, stored, errors or "none of its commands sends a message")
        if claim.wanted is None:
            del self.store.cursors[claim.name]
        else:
            self.store.cursors[claim.name] = claim.wanted
        return ClaimResult(ClaimStatus.WON, claim.wanted, errors)

    def _push(self, commands: Sequence[Command]) -> tuple[bool, str]:
        """Whether a message was pushed, and the errors; none is if a queue takes no message."""
        refused = [command for command in commands if command.key in self.store.refused]
        errors = "; ".join(f"{command.op} {command.key}: refused" for command in refused)
        if any(command.op == "LPUSH" for command in refused):
            return False, errors
        pushed = False
        for command in commands:
            if command in refused or command.op == "PEXPIRE":
                continue
            pushed = True
            if command.op == "LPUSH":
                self.store.queues.setdefault(command.key, []).append(command.value)
            else:
                self.store.published.append((command.key, command.value))
        return pushed, errors


def _is_early(claim: Claim, now: datetime) -> bool:
    """Whether the claim is of an occurrence that is not due yet; an anchor is of none."""
    if claim.wanted is None:
        return False
    moves = claim.expected is not None and claim.wanted.due > claim.expected.due
    return bool(moves or claim.commands) and claim.wanted.due > now


# --- outbox -------------------------------------------------------------------------------------------------


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
