"""``Pool`` and ``Listener`` in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from celery_dispatch.core.entry import Fence
from celery_dispatch.core.ports import Heartbeat, Member, MemberState, PoolState, Pulse
from celery_dispatch.errors import StoreRefused
from celery_dispatch.testing.election import CLOCK_TOLERANCE, Election, eldest
from celery_dispatch.testing.store import MemoryPort, MemoryStore

__all__ = ["MemoryListener", "MemoryPool"]


class MemoryPool(MemoryPort):
    """Implements the ``Pool`` port."""

    def heartbeat(self, beat: Heartbeat, *, known_epoch: str | None) -> Pulse:
        store = self.store
        with store.operation(self) as now:
            if _Heartbeat(store, beat, now).settle():
                store.changed()
            before = _claimable_before(store, now)
            return Pulse(
                now=store.now(),
                epoch=store.epoch,
                fence=store.fence,
                before=before,
                reopened=store.reopened if before else None,
                identity=store.identity,
                recovery=store.recovery,
                members=_members(store) if store.epoch != known_epoch else None,
            )

    def leave(self, node: str) -> None:
        store = self.store
        with store.operation(self) as now:
            if store.members.pop(node, None) is not None:
                store.recovery_names.discard(node)
                if not store.recovery:
                    Election(store, now, store.lease).succeed()
                store.changed()

    def drain(self, node: str, draining: bool, *, force: bool = False) -> bool:
        store = self.store
        with store.operation(self) as now:
            chosen = store.members.get(node)
            if chosen is None or chosen.lease_end <= now:
                return False
            if chosen.draining == draining:
                return True
            others = (member for member in store.members.values() if member.lease_end > now)
            if draining and not force and not any(_may_replace(member, chosen) for member in others):
                raise StoreRefused(
                    f"Node {node!r} is the last one on the ring that runs config {chosen.config}: start "
                    "another node, or use --force."
                )
            store.members[node] = replace(chosen, draining=draining)
            store.changed()
            return True

    def adopt(self, identity: str) -> None:
        store = self.store
        with store.operation(self) as now:
            if not store.epoch:
                raise StoreRefused("There is no pool in memory, so there is nothing to adopt.")
            if store.identity != identity:
                Election(store, now, store.lease).take_for(identity)
                store.changed()

    def read(self) -> PoolState:
        store = self.store
        with store.operation(self) as now:
            return PoolState(
                now=store.now(),
                epoch=store.epoch,
                fence=store.fence,
                before=_claimable_before(store, now),
                challenger=store.challenger,
                identity=store.identity,
                recovery=store.recovery,
                members=_members(store),
            )


def _members(store: MemoryStore) -> tuple[Member, ...]:
    return tuple(member for _, member in sorted(store.members.items()))


def _claimable_before(store: MemoryStore, now: datetime) -> Fence | None:
    return store.before if store.before_until is not None and store.before_until > now else None


def _may_replace(member: Member, chosen: Member) -> bool:
    return (
        member.id != chosen.id
        and not member.draining
        and member.state is not MemberState.CUT_OFF
        and (member.config, member.identity) == (chosen.config, chosen.identity)
    )


class _Heartbeat:
    """One heartbeat, step by step as in ``heartbeat.lua``; each step says whether it changed the pool."""

    def __init__(self, store: MemoryStore, beat: Heartbeat, now: datetime) -> None:
        self._store = store
        self._beat = beat
        self._now = now
        self._election = Election(store, now, beat.lease)

    def settle(self) -> bool:
        """Carry it out; whether a new epoch begins."""
        store = self._store
        if store.fence is not None and self._beat.swept == store.fence.since:
            store.swept = store.fence.since
        changed = not store.identity and bool(self._beat.identity)
        store.identity = store.identity or self._beat.identity
        self._look_at_clock()
        changed |= self._begin_recovery()
        self._keep_open()
        changed |= self._renew()
        changed |= self._recover()
        may_trim = not store.recovery and (store.no_trim_until is None or store.no_trim_until <= self._now)
        if may_trim:
            changed |= self._trim()
        changed |= self._settle_identity(may_trim)
        if not store.recovery:
            election = self._election
            changed |= election.succeed() or election.challenge(self._beat.interval, self._beat.handover)
        return changed or not store.epoch

    def _look_at_clock(self) -> None:
        """After a silence of the whole pool, or a step of the clock, the leases say nothing."""
        store, limit = self._store, self._now + self._beat.lease
        last = store.beat_at or self._now
        went_back = last - self._now > CLOCK_TOLERANCE
        if went_back:
            if store.before_until is not None and store.fence is not None:
                longest = max(self._now, store.fence.since) + self._beat.lease
                store.before_until = min(store.before_until, longest)
            store.reopened = store.reopened and min(store.reopened, self._now)
            for node, member in store.members.items():
                store.members[node] = replace(member, lease_end=min(member.lease_end, limit))
        if went_back or self._now - last > self._beat.lease:
            store.no_trim_until = limit

    def _begin_recovery(self) -> bool:
        store, now = self._store, self._now
        gone = not store.epoch
        elsewhere = store.seen_on not in ("", store.server)
        store.seen_on = store.server
        if not (gone or elsewhere or (self._beat.suspicious and not store.recovery)):
            return False
        alive = (m.id for m in store.members.values() if store.beat_at is None or m.lease_end > store.beat_at)
        store.recovery_names.update(alive)
        store.recovery = store.new_name()
        store.recovery_from = now + 2 * self._beat.interval if gone else now
        store.recovery_until = now + self._beat.lease
        store.challenger, store.challenger_at = "", None
        return True

    def _keep_open(self) -> None:
        """Time in which nobody could claim what was due before the switch does not count for it."""
        store, now, last = self._store, self._now, self._store.beat_at
        if store.fence is None or last is None or store.before_until is None or store.before_until <= last:
            return
        idle = now - max(last, store.fence.since)
        silent = now - last > 2 * self._beat.interval
        if idle > timedelta(0) and (store.recovery or silent or self._are_cut_off()):
            store.before_until, store.reopened = store.before_until + idle, now

    def _are_cut_off(self) -> bool:
        return {m.state for m in self._election.own()} == {MemberState.CUT_OFF}

    def _renew(self) -> bool:
        store, beat = self._store, self._beat
        before = store.members.get(beat.node)
        after = store.members[beat.node] = Member(
            id=beat.node,
            host=beat.host,
            config=beat.config,
            identity=beat.identity,
            state=beat.state,
            draining=before.draining if before else beat.draining,
            joined=self._joined(before),
            lease_end=self._now + beat.lease,
            info=dict(beat.info),
        )
        store.beat_at, store.lease = self._now, beat.lease
        return before is None or _role(before) != _role(after)

    def _joined(self, before: Member | None) -> datetime:
        if before is None:
            return self._now
        return self._now - self._beat.lease if self._election.lived_before_step(before) else before.joined

    def _recover(self) -> bool:
        """This node's part in the recovery under way."""
        store, beat, now = self._store, self._beat, self._now
        if not store.recovery:
            return False
        if beat.merged == store.recovery:
            store.recovery_names.discard(beat.node)
        else:
            store.recovery_names.add(beat.node)
        store.recovery_from = min(store.recovery_from or now, now + 2 * beat.interval)
        store.recovery_until = min(store.recovery_until or now, now + beat.lease)
        recalled = self._recall()
        if now < store.recovery_until and (store.recovery_names or now < store.recovery_from):
            return recalled
        store.recovery, store.recovery_names = "", set()
        store.recovery_from = store.recovery_until = None
        return True

    def _recall(self) -> bool:
        """Take config and identity from what the node remembers, where they were lost."""
        store, beat, remembered = self._store, self._beat, self._beat.remembered
        if remembered is None:
            return False
        if store.fence is not None and remembered.since < store.fence.since:
            return False
        if store.fence is not None and remembered.since == store.fence.since:
            over = remembered == store.fence and not beat.remembered_before
            over = over and _claimable_before(store, self._now) is not None
            store.before_until = self._now if over else store.before_until
            return over
        store.identity, store.identity_at = beat.identity, self._now
        self._election.put_in_force(remembered.config, remembered.since)
        store.before, store.before_until = beat.remembered_before, None
        if store.before is not None and store.fence is not None:
            store.before_until, store.reopened = max(store.fence.since, self._now) + beat.lease, self._now
        return True

    def _trim(self) -> bool:
        expired = [node for node, member in self._store.members.items() if member.lease_end <= self._now]
        for node in expired:
            del self._store.members[node]
        return bool(expired)

    def _settle_identity(self, may_trim: bool) -> bool:
        store, now = self._store, self._now
        if self._beat.identity == store.identity:
            store.identity_at = now
            return False
        store.identity_at = min(store.identity_at or now, now)
        if not may_trim or now - store.identity_at <= self._beat.lease or self._election.own():
            return False
        self._election.take_for(eldest(store.members.values()).identity)
        return True


def _role(member: Member) -> tuple[object, ...]:
    return member.host, member.config, member.identity, member.state


class MemoryListener(MemoryPort):
    """Implements the ``Listener`` port; wakes on the thread that changed something."""

    _on_wake: Callable[[], None] | None = None
    _on_change: Callable[[], None] | None = None

    def start(self, on_wake: Callable[[], None], on_change: Callable[[], None]) -> None:
        if self._on_wake is None:
            self._on_wake, self._on_change = on_wake, on_change
            self.store.listeners.append(self._wake)
            self.store.followers.append(self._change)
            on_wake()
            on_change()

    def stop(self) -> None:
        if self._wake in self.store.listeners:
            self.store.listeners.remove(self._wake)
            self.store.followers.remove(self._change)

    def _wake(self) -> None:
        if self._on_wake is not None and self.available:
            self._on_wake()

    def _change(self) -> None:
        if self._on_change is not None and self.available:
            self._on_change()
