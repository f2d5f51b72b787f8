"""Whether the nodes of this host live, and whether they are ready: answers for probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from celery_dispatch.celery_bridge.broker import masked
from celery_dispatch.config import Config
from celery_dispatch.core.ports import Member, MemberState, Pool, PoolState
from celery_dispatch.liveness import Turn, directory_for, read_turns
from celery_dispatch.manage.nodes import in_force, is_late, last_heartbeat
from celery_dispatch.manage.words import relative

__all__ = ["Health", "directory_of", "live", "ready"]


@dataclass(frozen=True, slots=True)
class Health:
    """The answer to a probe: ``why`` is one line, ``nodes`` are the nodes of this host."""

    healthy: bool
    why: str
    nodes: tuple[str, ...]


def directory_of(app: Celery) -> Path:
    """Where this app's nodes on this host leave their signs of life; asks nobody."""
    config = Config.from_app(app)
    return directory_for(masked(config.redis_url), config.key_prefix, app.main or "")


def live(directory: Path, *, monotonic_now: float | None = None) -> Health:
    """Whether the loop of every node of this host turns; an outage of Redis changes nothing."""
    turns = read_turns(directory, monotonic_now=monotonic_now)
    if not turns:
        return _nobody(directory)
    stale = [turn for turn in turns if turn.is_stale]
    if stale:
        listed = ", ".join(f"{turn.node} (pid {turn.pid}) {turn.age:.0f} s ago" for turn in stale)
        return Health(False, f"The loop hangs; it last turned: {listed}.", _ids(turns))
    parts = ", ".join(f"{turn.node} turned {turn.age:.1f} s ago" for turn in turns)
    return Health(True, f"The loop turns: {parts}.", _ids(turns))


def ready(directory: Path, pool: Pool) -> Health:
    """Whether every node of this host is in the pool: loaded, standing by for another config, or draining.

    A node that stands by is ready: a rolling update that waited for it would wait for ever.  One that has
    no broker, or whose heartbeats Redis does not take, is not; nor is one that was drained, if no other node
    is left.
    """
    turns = read_turns(directory)
    if not turns:
        return _nobody(directory)
    state = pool.read()
    members = {member.id: member for member in state.members}
    missing: list[str] = []
    for turn in turns:
        why = _missing(turn.node, members.get(turn.node), state)
        if why is not None:
            missing.append(why)
    if missing:
        return Health(False, f"Not ready: {'; '.join(missing)}.", _ids(turns))
    return Health(True, f"In the pool of {len(members)}: {', '.join(_ids(turns))}.", _ids(turns))


def _missing(node: str, member: Member | None, state: PoolState) -> str | None:
    """Why a node is not ready, if it is not."""
    if member is None:
        return f"{node} is not in the pool"
    if member.lease_end <= state.now:
        return f"the lease of {node} has run out"
    last = last_heartbeat(member)
    if last is not None and is_late(member, state.now):
        return f"{node} is late with its heartbeat (the last one {relative(last, state.now)}): see its log"
    if member.state is MemberState.CUT_OFF:
        return f"{node} cannot reach the broker"
    if member.draining and not _others_fire(state):
        return f"{node} is drained and no other node is left: celery -A <app> dispatch undrain {node}"
    fence = in_force(state)
    is_in_force = fence is not None and member.config == fence.config
    waits = member.draining or member.identity != state.identity or not is_in_force
    return None if waits or member.state is MemberState.STEADY else f"{node} is still joining"


def _others_fire(state: PoolState) -> bool:
    """Whether a node of the pool lives, renews its lease and is not drained."""
    alive = [member for member in state.members if member.lease_end > state.now]
    return any(
        member.identity == state.identity and not member.draining and not is_late(member, state.now)
        for member in alive
    )


def _nobody(directory: Path) -> Health:
    why = (
        f"No node of this app runs here: there is no liveness file in {directory}. Start a beat with the "
        "dispatch scheduler, and run this as the same user, with the same app, key prefix and TMPDIR."
    )
    return Health(False, why, ())


def _ids(turns: Sequence[Turn]) -> tuple[str, ...]:
    return tuple(turn.node for turn in turns)
