"""This node's place in the pool, and what the pool means for it.

::

              first heartbeat            loaded its entries
    (absent) ─────────────────► joining ───────────────────► steady
        ▲                          │                            │
        └──── leave, or a lease without a renewal ──────────────┘

* **Joining** nodes are alive and load what will be theirs; the others go on firing it.  A node reckons
  itself on the ring before the others do, so nobody lets go before somebody has taken over.
* Only **steady** nodes that run the config in force are on the ring.  (Where none is steady yet, all are.)
* A node whose config is not in force **stands by**: it is alive and holds nothing.
* The lease is renewed only while the node's loop turns.  A loop that hangs for half a lease loses its place
  like a process that died, and has it back, under the same id, when it turns again.

What if a heartbeat is never sent, or its answer is lost?  The old view stays in use.  That is safe, because
the ring is only a hint and every claim is checked, and it costs at most a handover delay per occurrence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from celery_dispatch.core.clock import PoolClock
from celery_dispatch.core.entry import Fence
from celery_dispatch.core.ports import Heartbeat, Member, MemberState, Pool, Pulse
from celery_dispatch.core.ring import Ranks, Ring
from celery_dispatch.errors import StoreRefused

__all__ = ["Identity", "Membership", "View", "ring_hosts"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is: its id, its host, and the fingerprint of the config that it runs."""

    node: str
    host: str
    config: str


@dataclass(frozen=True)
class View:
    """The pool as read at one epoch.

    ``mine`` is this node's rank in each of the ``SLOTS`` slots; all ``OTHER`` while it stands by.
    """

    fence: Fence
    members: tuple[Member, ...]
    ranks: Ranks
    mine: bytes
    in_force: bool


def ring_hosts(members: tuple[Member, ...], config: str, *, joining: str = "") -> dict[str, str]:
    """The nodes on the ring with their hosts: the steady ones that run ``config``, and ``joining``."""
    running = [member for member in members if member.config == config]
    steady = {member.id: member.host for member in running if member.state is MemberState.STEADY}
    if not steady:
        return {member.id: member.host for member in running}
    return steady | {member.id: member.host for member in running if member.id == joining}


class Membership:
    """Renews this node's lease and turns each new epoch into a ``View``.

    ``beat()`` and ``leave()`` belong to one thread; ``view``, ``refused``, ``turned()`` and ``ready()`` may
    be used from another.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        pool: Pool,
        clock: PoolClock,
        lease: timedelta,
        info: Callable[[], Mapping[str, object]],
    ) -> None:
        self.identity = identity
        self.view: View | None = None
        self.refused: StoreRefused | None = None
        self._pool = pool
        self._clock = clock
        self._lease = lease
        self._info = info
        self._state = MemberState.JOINING
        self._ring = Ring()
        self._hosts: dict[str, str] = {}
        self._ranks: Ranks | None = None
        self._epoch: str | None = None
        self._last_turn = clock.monotonic()

    @property
    def state(self) -> MemberState:
        return self._state

    def turned(self) -> None:
        """The loop has come round once more."""
        self._last_turn = self._clock.monotonic()

    def ready(self) -> None:
        """The loop holds what the ring gives it; said to the pool with the next heartbeat."""
        self._state = MemberState.STEADY

    def beat(self) -> bool | None:
        """Renew the lease and say whether the view changed; ``None`` if not, for the loop does not turn.

        Raises ``StoreError``.
        """
        if self._clock.monotonic() - self._last_turn > self._lease.total_seconds() / 2:
            logger.warning("The lease of node %s is not renewed: its loop does not turn", self.identity.node)
            return None
        sent = self._clock.monotonic()
        try:
            pulse = self._pool.heartbeat(self._heartbeat(), known_epoch=self._epoch)
        except StoreRefused as error:
            self.refused = error
            raise
        self._clock.sample(pulse.now, sent=sent, received=self._clock.monotonic())
        self.refused = None
        if pulse.members is None:
            return False
        self.view = self._look(pulse, pulse.members)
        self._epoch = pulse.epoch
        return True

    def leave(self) -> None:
        """Say goodbye.  Raises ``StoreError``; a lost goodbye costs the others one lease."""
        self._pool.leave(self.identity.node)

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(
            node=self.identity.node,
            host=self.identity.host,
            config=self.identity.config,
            state=self._state,
            lease=self._lease,
            info=self._info(),
        )

    def _look(self, pulse: Pulse, members: tuple[Member, ...]) -> View:
        me = self.identity.node
        in_force = pulse.fence.config == self.identity.config
        hosts = ring_hosts(members, pulse.fence.config, joining=me)
        if self._ranks is None or hosts != self._hosts:
            self._hosts, self._ranks = hosts, self._ring.ranks(hosts)
        if not in_force:
            self._state = MemberState.JOINING  # it holds nothing, and will have to load
        return View(pulse.fence, members, self._ranks, self._ranks.of(me), in_force)
