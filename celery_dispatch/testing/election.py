"""Which config is in force, in memory; ``lua/pool.lua`` and ``lua/heartbeat.lua`` say why each step is so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from celery_dispatch.core.entry import Fence
from celery_dispatch.core.ports import Member
from celery_dispatch.testing.store import MemoryStore

__all__ = ["CLOCK_TOLERANCE", "Election", "eldest"]

_MS = timedelta(milliseconds=1)
CLOCK_TOLERANCE = timedelta(seconds=1)


def eldest(members: Iterable[Member]) -> Member:
    """The longest-lived of them; by id, where two are."""
    return min(members, key=lambda member: (member.joined, member.id))


class Election:
    """One look at the votes of a store's members at ``now``."""

    def __init__(self, store: MemoryStore, now: datetime, lease: timedelta) -> None:
        self._store = store
        self._now = now
        self._lease = lease

    def own(self) -> list[Member]:
        """The members of the pool's identity."""
        return [member for member in self._store.members.values() if member.identity == self._store.identity]

    def succeed(self) -> bool:
        """The leader comes into force if no live node runs the config in force; whether it did."""
        fence, leader = self._store.fence, self._leader()
        if leader is None or (fence and any(member.config == fence.config for member in self.own())):
            return False
        self.put_in_force(leader, self._now)
        return True

    def challenge(self, interval: timedelta, handover: timedelta) -> bool:
        """Another config comes into force once it has led for two heartbeats; whether it did."""
        store, now, leader = self._store, self._now, self._leader()
        if leader is None or store.fence is None:
            return False
        if leader == store.fence.config:
            store.challenger, store.challenger_at = "", None
            return False
        if leader != store.challenger or store.challenger_at is None or store.challenger_at > now:
            store.challenger, store.challenger_at = leader, now
        if now - store.challenger_at < 2 * interval or not self._is_over(store.fence):
            return False
        self.put_in_force(leader, now + interval + handover)
        return True

    def take_for(self, identity: str) -> None:
        """Make the pool that of ``identity``, under a fence of its own."""
        store = self._store
        store.identity, store.identity_at = identity, self._now
        in_force = store.fence.config if store.fence else None
        config = in_force if store.recovery else self._leader() or in_force
        if config is not None:
            self.put_in_force(config, self._now)
        store.before = store.before_until = None

    def put_in_force(self, config: str, since: datetime) -> None:
        """Make ``config`` the one in force; a switch that never took place is not the one before it."""
        store, fence = self._store, self._store.fence
        if fence is None or fence.since <= self._now:
            store.before = fence
        store.fence = Fence(config, max(since, fence.since + _MS) if fence else since)
        store.before_until = store.fence.since + self._lease if store.before else None
        store.reopened = None
        store.challenger, store.challenger_at = "", None

    def _is_over(self, fence: Fence) -> bool:
        """Whether the last switch is done with, its sweep included; or never began."""
        store, now = self._store, self._now
        if now < fence.since or store.before_until is None:
            return True
        sweep = timedelta(0) if store.swept == fence.since else 2 * self._lease
        return store.before_until + sweep <= now

    def _leader(self) -> str | None:
        """The config that most of the voters run; ``None`` where there is nobody."""
        own = self.own()
        voters = [member for member in own if not member.draining and self._has_lived(member)] or own
        votes = Counter(member.config for member in voters)
        if not votes:
            return None
        most = max(votes.values())
        fence = self._store.fence
        if fence and votes[fence.config] == most:
            return fence.config
        return eldest(member for member in voters if votes[member.config] == most).config

    def lived_before_step(self, member: Member) -> bool:
        """Whether it joined in the future, that is, before the clock went back."""
        return member.joined - self._now > CLOCK_TOLERANCE

    def _has_lived(self, member: Member) -> bool:
        return self._now - member.joined >= self._lease or self.lived_before_step(member)
