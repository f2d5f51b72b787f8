"""The nodes of a pool, with their states and shares."""

from __future__ import annotations

from datetime import datetime

from celery_dispatch.core.ports import Member, MemberState, Pool, PoolState
from celery_dispatch.core.ring import Ring
from celery_dispatch.manage.reports import Lag, NodeReport, NodeState, PoolReport

__all__ = ["read_pool"]


def read_pool(pool: Pool, ring: Ring | None = None) -> PoolReport:
    """The nodes with their states and shares."""
    state = pool.read()
    nodes = {member.id: _node_state(member, state) for member in state.members}
    hosts = {member.id: member.host for member in state.members if nodes[member.id] is NodeState.STEADY}
    ranks = (ring or Ring()).ranks(hosts)
    shares = ranks.shares()
    return PoolReport(
        now=state.now,
        fence=state.fence,
        nodes=tuple(
            _node_report(member, nodes[member.id], shares.get(member.id, 0.0))
            for member in sorted(state.members, key=lambda member: (member.host, member.id))
        ),
        ranks=ranks,
    )


def _node_state(member: Member, state: PoolState) -> NodeState:
    if member.lease_end <= state.now:
        return NodeState.EXPIRED
    if state.fence is None or member.config != state.fence.config:
        return NodeState.STANDBY
    return NodeState.STEADY if member.state is MemberState.STEADY else NodeState.JOINING


def _node_report(member: Member, state: NodeState, share: float) -> NodeReport:
    """A member with its ``info``, of which every part may be missing or of another type."""
    info = member.info
    lag, errors = info.get("lag"), info.get("errors")
    return NodeReport(
        id=member.id,
        host=member.host,
        state=state,
        config=member.config,
        joined=member.joined,
        lease_end=member.lease_end,
        share=share,
        pid=_count(info.get("pid")) or None,
        version=_text(info.get("version")),
        started=_instant(info.get("started")),
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
