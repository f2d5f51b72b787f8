"""``Pool`` and ``Listener`` in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from celery_dispatch.core.entry import Fence
from celery_dispatch.core.ports import Heartbeat, Member, PoolState, Pulse
from celery_dispatch.testing.store import MemoryPort

__all__ = ["MemoryListener", "MemoryPool"]

_MS = timedelta(milliseconds=1)
_CLOCK_TOLERANCE = timedelta(seconds=1)


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
