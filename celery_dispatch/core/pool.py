"""This node's place in the pool, and what the pool means for it.

::

              first heartbeat            loaded its entries
    (absent) ─────────────────► joining ───────────────────► steady ◄────► cut off
        ▲                          │                            │      broker gone, back
        └──── leave, or a lease without a renewal ──────────────┘

* **Joining** nodes are alive and load what will be theirs; the others go on firing it.  A node reckons
  itself on the ring before the others do, so nobody lets go before somebody has taken over.
* Only **steady** nodes that run the config in force and do not drain are on the ring.  (Where none is steady,
  all of them are.)
* When nodes only left the ring, their standbys go first: the view names who is **gone** from a ring that is
  still the old one, and a new one, which takes longer to compute the larger it is, comes with the next pulse.
* A node that cannot reach the broker is **cut off** and leaves the ring while another can.
* The lease is renewed only while the node's loop turns.  A loop that hangs for half a lease loses its place
  like a process that died, and has it back, under the same id, when it turns again.

A view gives a node one of four **roles**.  The config switches at an instant T that is written ahead:

============  =============================  =========================================================
role          when                           it fires
============  =============================  =========================================================
in force      its config is the one of T     what is due from T on; what was due before T and stayed
                                             open, where its definition is the same
outgoing      its config was in force        what was due before T, until a lease after T
              before T
standing by   another config is in force     nothing, and holds nothing
foreign       the pool is another app's      nothing, and holds nothing
============  =============================  =========================================================

While the pool recovers nobody fires: each node merges what it knows into the ledger and says so.

What if a heartbeat is never sent, or its answer is lost?  The old view stays in use.  That is safe, because
the ring is only a hint and every claim is checked, and it costs at most a handover delay per occurrence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from celery_dispatch.core.clock import PoolClock
from celery_dispatch.core.entry import Fence
from celery_dispatch.core.ports import Heartbeat, Member, MemberState, Pool, Pulse
from celery_dispatch.core.ring import Ranks, Ring
from celery_dispatch.errors import StoreError, StoreRefused

__all__ = ["Identity", "Membership", "Role", "Timing", "View", "ring_hosts"]

logger = logging.getLogger(__name__)

_CUT_OFF_AFTER = 1.0  # seconds without a broker, while the pool answers


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is: its id, its host, the fingerprint of its config, and its app and broker."""

    node: str
    host: str
    config: str
    app: str


@dataclass(frozen=True, slots=True)
class Timing:
    """The pool's three durations, from the settings."""

    interval: timedelta
    lease: timedelta
    handover: timedelta


class Role(Enum):
    """What the pool lets this node do; see the table in this module's docstring."""

    IN_FORCE = "in_force"
    OUTGOING = "outgoing"
    STANDING_BY = "standing_by"
    FOREIGN = "foreign"

    @property
    def fires(self) -> bool:
        return self in (Role.IN_FORCE, Role.OUTGOING)


@dataclass(frozen=True)
class View:
    """The pool as read at one epoch.

    ``fence`` is what the pool has in force (``None``: nothing yet), ``own`` the one that this node claims
    under (``None``: it fires nothing).  What is due from ``until`` on belongs to the next config, and the
    intents of what was due before ``due_from`` to live nodes of the one before: they alone may be able to
    make its messages.  What was due under ``before`` may still be claimed; until ``reopened`` nobody could.
    ``mine`` is this node's rank in each of the ``SLOTS`` slots; all ``OTHER`` where it fires nothing.
    ``gone`` are the nodes that have left the ring since ``ranks`` were computed.
    """

    fence: Fence | None
    own: Fence | None
    until: datetime | None
    due_from: datetime | None
    role: Role
    recovery: str
    identity: str
    members: tuple[Member, ...]
    ranks: Ranks
    mine: bytes
    gone: frozenset[str] = frozenset()
    before: Fence | None = None
    reopened: datetime | None = None

    @property
    def in_force(self) -> bool:
        return self.role is Role.IN_FORCE

    @property
    def deserted(self) -> bool:
        """Whether this node's config has nobody on the ring: all of its nodes are drained."""
        return self.own is not None and not self.ranks.nodes


def ring_hosts(
    members: tuple[Member, ...], config: str, *, identity: str, joining: str = ""
) -> dict[str, str]:
    """The nodes on the ring with their hosts.

    Those are the steady ones that run ``config`` for the app ``identity`` and do not drain; if there is none,
    all such that are not steady; and ``joining``, a node that reckons itself on the ring while it loads.
    """
    running = [
        member
        for member in members
        if member.config == config and member.identity == identity and not member.draining
    ]
    steady = {member.id: member.host for member in running if member.state is MemberState.STEADY}
    if not steady:
        return {member.id: member.host for member in running}
    loading = [member for member in running if member.id == joining and member.state is MemberState.JOINING]
    return steady | {member.id: member.host for member in loading}


class Membership:
    """Renews this node's lease and turns each new epoch into a ``View``.

    ``beat()`` and ``leave()`` belong to one thread; everything else may be used from another.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        pool: Pool,
        clock: PoolClock,
        timing: Timing,
        info: Callable[[], Mapping[str, object]],
    ) -> None:
        self.identity = identity
        self.view: View | None = None
        self.refused: StoreRefused | None = None
        self.unsettled = False  # whether the ring is to be computed with the next pulse
        self._pool = pool
        self._clock = clock
        self._timing = timing
        self._info = info
        self._loaded = False
        self._cut_off_at: float | None = None
        self._merged = ""
        self._suspicious = False
        self._ring = Ring()
        self._hosts: Mapping[str, str] = {}
        self._mine = b""
        self._ranks: Ranks | None = None
        self._epoch: str | None = None
        self._last: tuple[object, ...] = ()
        self._members: tuple[Member, ...] = ()
        self._remembered: Fence | None = None
        self._remembered_before: Fence | None = None
        self._swept: datetime | None = None
        self._last_turn = clock.monotonic()

    @property
    def state(self) -> MemberState:
        since = self._cut_off_at
        if since is not None and self._clock.monotonic() - since > _CUT_OFF_AFTER:
            return MemberState.CUT_OFF
        return MemberState.STEADY if self._loaded else MemberState.JOINING

    # --- what the loop says ---------------------------------------------------------------------------------

    def turned(self) -> None:
        """The loop has come round once more."""
        self._last_turn = self._clock.monotonic()

    def ready(self) -> None:
        """The loop holds what the ring gives it; said to the pool with the next heartbeat."""
        self._loaded = True

    def cut_off(self, without_broker: bool) -> None:
        """Whether the loop cannot reach the broker."""
        if not without_broker:
            self._cut_off_at = None
        elif self._cut_off_at is None:
            self._cut_off_at = self._clock.monotonic()

    def merged(self, recovery: str) -> None:
        """The ledger has all that this node knows; said with the next heartbeat."""
        self._merged = recovery

    def swept(self, since: datetime) -> None:
        """The cursors are in line with the config in force since then; said with the next heartbeat."""
        self._swept = since

    def suspect(self) -> None:
        """The ledger has lost what this node knows; said with the next heartbeat."""
        self._suspicious = True

    # --- what the keeper does -------------------------------------------------------------------------------

    def beat(self) -> bool | None:
        """Renew the lease and say whether the view changed; ``None`` if not, for the loop does not turn.

        Raises ``StoreError``.
        """
        if self._clock.monotonic() - self._last_turn > self._timing.lease.total_seconds() / 2:
            logger.warning("The lease of node %s is not renewed: its loop does not turn", self.identity.node)
            return None
        suspicious, self._suspicious = self._suspicious, False
        sent = self._clock.monotonic()
        try:
            pulse = self._pool.heartbeat(self._heartbeat(suspicious), known_epoch=self._epoch)
        except StoreError as error:
            self._suspicious = self._suspicious or suspicious
            self._cut_off_at = None  # without the pool there is nothing to be learnt about the broker
            if isinstance(error, StoreRefused):
                self.refused = error
            raise
        self._clock.sample(pulse.now, sent=sent, received=self._clock.monotonic())
        self.refused = None
        return self._take(pulse)

    def leave(self) -> None:
        """Say goodbye.  Raises ``StoreError``; a lost goodbye costs the others one lease."""
        self._pool.leave(self.identity.node)

    def _heartbeat(self, suspicious: bool) -> Heartbeat:
        return Heartbeat(
            node=self.identity.node,
            host=self.identity.host,
            config=self.identity.config,
            identity=self.identity.app,
            state=self.state,
            lease=self._timing.lease,
            interval=self._timing.interval,
            handover=self._timing.handover,
            info=self._info(),
            remembered=self._remembered,
            remembered_before=self._remembered_before,
            swept=self._swept,
            draining=self._is_drained(),
            merged=self._merged,
            suspicious=suspicious,
        )

    def _is_drained(self) -> bool:
        return any(member.draining for member in self._members if member.id == self.identity.node)

    def _take(self, pulse: Pulse) -> bool:
        """Whether the pulse brings a new view."""
        configs = (pulse.fence, pulse.before, pulse.reopened)
        said = (pulse.epoch, *configs, pulse.identity, pulse.recovery)
        if pulse.members is None and said == self._last and not self.unsettled:
            return False
        if pulse.members is not None:
            self._members = pulse.members
        self.view = self._look(pulse)
        self._loaded = self._loaded or not self.view.role.fires  # there is nothing to load
        self._remember(pulse, self.view.role)
        self._last, self._epoch = said, pulse.epoch
        return True

    def _remember(self, pulse: Pulse, role: Role) -> None:
        """Keep the newest config in force through a recovery, where Redis may know an older one or none."""
        known = self._remembered
        if role is Role.FOREIGN:
            self._remembered = self._remembered_before = None
        elif not (pulse.recovery and known and (pulse.fence is None or pulse.fence.since < known.since)):
            self._remembered, self._remembered_before = pulse.fence, pulse.before

    def _look(self, pulse: Pulse) -> View:
        role = self._role(pulse)
        own = {Role.IN_FORCE: pulse.fence, Role.OUTGOING: pulse.before}.get(role)
        hosts = {}
        if own is not None:
            hosts = ring_hosts(self._members, own.config, identity=pulse.identity, joining=self.identity.node)
        ranks = self._reckon(hosts, own)
        return View(
            fence=pulse.fence,
            own=own,
            until=pulse.fence.since if role is Role.OUTGOING and pulse.fence else None,
            due_from=own.since if own and role is Role.IN_FORCE and self._has_outgoing(pulse) else None,
            role=role,
            recovery=pulse.recovery,
            identity=pulse.identity,
            members=self._members,
            ranks=ranks,
            mine=self._mine,
            gone=frozenset(self._hosts.keys() - hosts.keys()),
            before=pulse.before,
            reopened=pulse.reopened,
        )

    def _reckon(self, hosts: Mapping[str, str], own: Fence | None) -> Ranks:
        """The ranks on the ring of ``hosts``; those of the last one, once, where nodes have only left it."""
        only_left = self.view is not None and self.view.own == own and hosts.keys() < self._hosts.keys()
        self.unsettled = only_left and not self.unsettled
        if self._ranks is None or (hosts != self._hosts and not self.unsettled):
            self._hosts, self._ranks = hosts, self._ring.ranks(hosts)
            self._mine = self._ranks.of(self.identity.node)
        return self._ranks

    def _has_outgoing(self, pulse: Pulse) -> bool:
        """Whether nodes are left that run the config before the one in force."""
        before, known = pulse.before, self._members
        return before is not None and any(
            member.config == before.config and member.identity == pulse.identity for member in known
        )

    def _role(self, pulse: Pulse) -> Role:
        if pulse.identity and pulse.identity != self.identity.app:
            return Role.FOREIGN
        if pulse.fence is not None and pulse.fence.config == self.identity.config:
            return Role.IN_FORCE
        if pulse.before is not None and pulse.before.config == self.identity.config:
            return Role.OUTGOING
        return Role.STANDING_BY
