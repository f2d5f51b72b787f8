"""What a person changes in a pool: its nodes and its identity; prints nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from celery_dispatch.core.ports import Pool, PoolState
from celery_dispatch.errors import DispatchError, StoreRefused
from celery_dispatch.manage.nodes import read_pool
from celery_dispatch.manage.reports import NodeReport, NodeState
from celery_dispatch.manage.words import counted, listed

__all__ = ["Adoption", "ControlError", "Drained", "adopt", "drain", "read_adoption"]

_TAKING_OVER = frozenset({NodeState.STEADY, NodeState.JOINING, NodeState.LATE})


class ControlError(DispatchError):
    """What was asked for cannot be done; ``cure`` says what can."""

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(what)
        self.cure = cure


@dataclass(frozen=True, slots=True)
class Drained:
    """A node that was told to drain, or not to any more; ``after`` says what happens next."""

    node: str
    draining: bool
    after: str


@dataclass(frozen=True, slots=True)
class Adoption:
    """The identity of a pool before and after; equal if nothing had to be done."""

    before: str
    identity: str

    @property
    def is_change(self) -> bool:
        return self.before != self.identity


# --- nodes --------------------------------------------------------------------------------------------------


def drain(pool: Pool, asked: str, draining: bool, *, force: bool = False) -> Drained:
    """Take the live node that ``asked`` names off the ring, or put it back.

    ``asked`` is its id, the beginning of it that no other node shares, or the name in its settings.  Raises
    ``ControlError`` if there is no such node, or more than one, or no other is left to fire.
    """
    alive = read_pool(pool).alive
    node = _found(alive, asked)
    try:
        known = pool.drain(node.id, draining, force=force)
    except StoreRefused as error:
        if error.__cause__ is not None:  # the server's own refusal
            raise
        raise ControlError(str(error), "See who fires: celery -A <app> dispatch nodes.") from error
    if not known:
        raise _nobody(asked, ())
    return Drained(node.id, draining, _drained(node, alive) if draining else _put_back(node))


def _found(alive: Sequence[NodeReport], asked: str) -> NodeReport:
    """By id, by the beginning of an id, by name; the first of these that fits any node must fit one only."""
    for fitting in (
        [node for node in alive if node.id == asked],
        [node for node in alive if node.id.startswith(asked)] if asked else [],
        [node for node in alive if node.name == asked],
    ):
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise ControlError(
                f"{asked!r} is {counted(len(fitting), 'node')}: {listed([node.id for node in fitting], 10)}.",
                "Give the whole id of one.",
            )
    raise _nobody(asked, alive)


def _nobody(asked: str, alive: Sequence[NodeReport]) -> ControlError:
    there = f"Alive: {listed([node.id for node in alive], 10)}." if alive else "No node is alive."
    return ControlError(f"No live node is called {asked!r}.", there)


def _drained(node: NodeReport, alive: Sequence[NodeReport]) -> str:
    if node.state is NodeState.DRAINING:
        return f"Node {node.id} was drained before; nothing was changed."
    if node.state in (NodeState.STANDBY, NodeState.FOREIGN):
        return (
            f"Node {node.id} stands by and fires nothing; from its next heartbeat on it has no vote either."
        )
    owned = counted(node.entries, "entry")
    others = [other for other in alive if other.id != node.id]
    heirs = [other.id for other in others if other.in_force and other.state in _TAKING_OVER]
    if heirs:
        return (
            f"Node {node.id} leaves the ring with its next heartbeat, and {_taking(heirs)} over the {owned} "
            "that it owns. It stays alive and fires nothing: stop it whenever you like, or put it back: "
            f"celery -A <app> dispatch undrain {node.id}."
        )
    switch = any(other.state is NodeState.STANDBY for other in others)
    return (
        f"Node {node.id} leaves the ring with its next heartbeat, and nobody takes over the {owned} that it "
        "owns: nothing is fired until it is put back (celery -A <app> dispatch undrain "
        f"{node.id}){', ' if switch else ' or '}another node starts"
        f"{', or the config of a node that stands by comes into force' if switch else ''}."
    )


def _taking(heirs: Sequence[str]) -> str:
    return f"node {heirs[0]} takes" if len(heirs) == 1 else "the others take"


def _put_back(node: NodeReport) -> str:
    return (
        f"Node {node.id} is on the ring again with its next heartbeat, if it runs the config in force, "
        "and takes its share back."
    )


# --- identity -----------------------------------------------------------------------------------------------


def read_adoption(pool: Pool, identity: str) -> Adoption:
    """What adopting would change; raises ``ControlError`` where there is no pool yet."""
    state = pool.read()
    if not state.identity:
        raise ControlError(
            "There is no pool yet, so nothing to adopt.",
            "Start a beat: the first one's app and broker are the pool's.",
        )
    return Adoption(state.identity, identity)


def adopt(pool: Pool, identity: str, *, force: bool = False) -> Adoption:
    """Make the pool that of ``identity``; its own nodes take over, those of the old one stand by.

    Raises ``ControlError`` if none of its own is alive, unless ``force``.
    """
    adoption = read_adoption(pool, identity)
    if adoption.is_change and not force and not _has_node(pool.read(), identity):
        raise ControlError(
            f"No beat of {identity} is alive: nothing would be fired.",
            "Start its beats first, they stand by; or use --force.",
        )
    pool.adopt(identity)
    return adoption


def _has_node(state: PoolState, identity: str) -> bool:
    return any(member.identity == identity and member.lease_end > state.now for member in state.members)
