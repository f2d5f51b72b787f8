"""The nodes of a pool, with their states and shares."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

from celery_dispatch.core.entry import Fence
from celery_dispatch.core.pool import ring_hosts
from celery_dispatch.core.ports import Member, MemberState, Pool, PoolState
from celery_dispatch.core.ring import Ring
from celery_dispatch.manage.reports import Lag, NodeReport, NodeState, PoolReport
from celery_dispatch.redis_store.codec import printable

__all__ = ["in_force", "is_late", "last_heartbeat", "read_pool"]

_TOLERANCE = timedelta(seconds=1)  # by which a heartbeat may be late, if half an interval is less
_LONGEST = 10 * 86_400  # seconds; no setting is longer
_LARGEST = 2**53


def read_pool(pool: Pool, ring: Ring | None = None) -> PoolReport:
    """The nodes with their states and shares."""
    asked = time.monotonic()
    state = pool.read()
    fence = in_force(state)
    switch = state.fence if state.fence != fence else None
    nodes = {member.id: _node_state(member, state, fence) for member in state.members}
    live = tuple(member for member in state.members if member.lease_end > state.now)
    hosts = ring_hosts(live, fence.config, identity=state.identity) if fence is not None else {}
    ranks = (ring or Ring()).ranks(hosts)
    shares = ranks.shares()
    return PoolReport(
        now=state.now,
        fence=fence,
        nodes=tuple(
            _node_report(
                member,
                nodes[member.id],
                share=shares.get(member.id, 0.0),
                in_force=member.identity == state.identity
                and fence is not None
                and member.config == fence.config,
            )
            for member in sorted(state.members, key=lambda member: (member.host, member.id))
        ),
        ranks=ranks,
        switch=switch,
        challenger=state.challenger,
        identity=state.identity,
        recovery=state.recovery,
        asked=asked,
    )


def in_force(state: PoolState) -> Fence | None:
    """The config that is fired now; where none was before one that is written ahead, nodes fire that one."""
    ahead = state.fence is not None and state.fence.since > state.now
    return state.before if ahead and state.before is not None else state.fence


def last_heartbeat(member: Member) -> datetime | None:
    """When its lease was last renewed, by Redis's clock; ``None`` if it does not say how long a lease is."""
    lease = _seconds(member.info.get("lease"))
    return member.lease_end - lease if lease is not None else None


def is_late(member: Member, now: datetime) -> bool:
    """Whether a heartbeat is missing that should have come by ``now``: refused by Redis, or never sent."""
    last, interval = last_heartbeat(member), _seconds(member.info.get("heartbeat"))
    return last is not None and interval is not None and now - last > interval + max(_TOLERANCE, interval / 2)


def _node_state(member: Member, state: PoolState, fence: Fence | None) -> NodeState:
    if member.lease_end <= state.now:
        return NodeState.EXPIRED
    if member.identity != state.identity:
        return NodeState.FOREIGN
    if member.draining:
        return NodeState.DRAINING
    if fence is None or member.config != fence.config:
        return NodeState.STANDBY
    if is_late(member, state.now):
        return NodeState.LATE
    return _STATES[member.state]


_STATES = {
    MemberState.STEADY: NodeState.STEADY,
    MemberState.JOINING: NodeState.JOINING,
    MemberState.CUT_OFF: NodeState.CUT_OFF,
}


def _node_report(member: Member, state: NodeState, *, share: float, in_force: bool) -> NodeReport:
    """A member with its ``info``, of which every part may be missing or of another type."""
    info = member.info
    lag, errors = info.get("lag"), info.get("errors")
    return NodeReport(
        id=member.id,
        host=member.host,
        state=state,
        config=member.config,
        identity=member.identity,
        in_force=in_force,
        joined=member.joined,
        lease_end=member.lease_end,
        last_heartbeat=last_heartbeat(member),
        share=share,
        name=_text(info.get("name")),
        pid=_count(info.get("pid")) or None,
        version=_text(info.get("version")),
        started=_instant(info.get("started")),
        recovered=_instant(info.get("recovered")),
        entries=_count(info.get("entries")),
        standby=_count(info.get("standby")),
        fired=_count(info.get("fired")),
        skipped=_count(info.get("skipped")),
        lag=Lag(_number(lag.get("p50")), _number(lag.get("max"))) if isinstance(lag, dict) else Lag(),
        loading=_count(info.get("loading")),
        outage=_text(info.get("outage")),
        errors={printable(name): _text(str(text)) or "" for name, text in errors.items()}
        if isinstance(errors, dict)
        else {},
        error_count=_count(info.get("error_count")),
    )


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if 0 <= value <= _LARGEST else 0


def _number(value: object) -> float | None:
    """A number that a span of time may have; JSON has larger ones, and Python's reader takes NaN."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return float(value) if abs(value) <= _LARGEST / 1000 else None


def _seconds(value: object) -> timedelta | None:
    number = _number(value)
    return timedelta(seconds=number) if number is not None and 0 < number <= _LONGEST else None


def _text(value: object) -> str | None:
    return printable(" ".join(value.split())) or None if isinstance(value, str) else None


def _instant(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        return moment.astimezone(timezone.utc) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
