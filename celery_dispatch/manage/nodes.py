"""The nodes of a pool, with their states and shares."""

from __future__ import annotations

from datetime import datetime

from celery_dispatch.core.entry import Fence
from celery_dispatch.core.pool import ring_hosts
from celery_dispatch.core.ports import Member, MemberState, Pool, PoolState
from celery_dispatch.core.ring import Ring
from celery_dispatch.manage.reports import Lag, NodeReport, NodeState, PoolReport

__all__ = ["read_pool"]


def read_pool(pool: Pool, ring: Ring | None = None) -> PoolReport:
    """The nodes with their states and shares."""
    state = pool.read()
    fence, switch = _fences(state)
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
    )


def _fences(state: PoolState) -> tuple[Fence | None, Fence | None]:
    """The config in force now, and the one that a switch is written ahead for."""
    if state.fence is None or state.fence.since <= state.now:
        return state.fence, None
    return state.before, state.fence


def _node_state(member: Member, state: PoolState, fence: Fence | None) -> NodeState:
    if member.lease_end <= state.now:
        return NodeState.EXPIRED
    if member.identity != state.identity:
        return NodeState.FOREIGN
    if member.draining:
        return NodeState.DRAINING
    if fence is None or member.config != fence.config:
        return NodeState.STANDBY
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
        errors={str(k): str(v) for k, v in errors.items()} if isinstance(errors, dict) else {},
        error_count=_count(info.get("error_count")),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _instant(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
