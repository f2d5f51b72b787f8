"""One node of the pool: the tour of the system.

::

    catalog ─► timeline (heap of next due) ─► rank on the ring ─► ledger.claim ─► broker
                   ▲                               ▲                  │
                   └────── next due ◄──────────────┼──────────────────┘
                       heartbeat ─► pool ─► view ──┘

``turn()`` is one pass over this picture, and the only thing that the loop calls:

1. *Follow* the newest view: note the entries whose rank changed.
2. *Fire* what is due (``firing``): decide, render, claim and push in batches; reckon the next dues
   afterwards.
3. *Load* a slice of the entries that are newly ours: read their cursors, anchor the new ones, arm them.
4. *Sweep* a page of cursors whose entries left the config, on one node.

What can fail, and what it costs:

* Dying anywhere costs nothing: nothing is kept here that the ledger does not say, and whoever has the next
  rank carries on.
* ``StoreUnavailable`` in a claim leaves the outcome unknown.  Its items are asked after before anything
  else is done with them; if the claim had gone through, the cursor says so.
* ``FencedError``: the config in force changed.  Nothing of the batch was written; the pool is read anew.
* A cursor that is *behind* what this node knows, or gone: Redis lost writes.  The node puts back what it
  knows, as far as nobody has gone on from there, and never takes over a lower cursor.
* An entry that fails is tried again with backoff, under its catch-up policy; the others do not notice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta

from celery_dispatch.core.catchup import Patience
from celery_dispatch.core.clock import PoolClock
from celery_dispatch.core.entry import Catalog, Cursor
from celery_dispatch.core.firing import Firing, is_behind
from celery_dispatch.core.pool import Membership, View
from celery_dispatch.core.ports import Claim, ClaimStatus, Damaged, Ledger, MemberState, Outbox, Stored
from celery_dispatch.core.recurrence import Polled
from celery_dispatch.core.report import NodeReport
from celery_dispatch.core.ring import OTHER, OWNER, SLOTS, slot_of
from celery_dispatch.core.sweep import GRACE, Sweeper
from celery_dispatch.core.timeline import Item, Timeline
from celery_dispatch.errors import FencedError, StoreError

__all__ = ["Node"]

logger = logging.getLogger(__name__)

_LONGEST_WAIT = 1.0  # seconds; the loop turns at least this often
_OUTAGE_WAIT = 0.25  # seconds between tries while the store does not answer
_FENCED_WAIT = 0.05  # seconds for the pool to be read anew
_DAMAGED_WAIT = 10.0  # seconds between looks at a cursor that cannot be read
_ANCHOR_WINDOW = timedelta(seconds=60)  # how long after a switch a name without a cursor counts as new
_SLICE = 500  # entries whose cursors are read in one turn
_SLICE_SECONDS = 0.05


class Node:
    """Fires its share of a catalog; ``turn()`` belongs to one thread.

    ``look_again`` asks for a heartbeat now: the pool may have changed, or this node has something to say.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        membership: Membership,
        clock: PoolClock,
        ledger: Ledger,
        outbox: Outbox,
        report: NodeReport,
        patience: Patience,
        batch_size: int,
        look_again: Callable[[], None],
    ) -> None:
        self._catalog = catalog
        self._membership = membership
        self._node = membership.identity.node
        self._clock = clock
        self._ledger = ledger
        self._outbox = outbox
        self._report = report
        self._look_again = look_again
        self._timeline = Timeline()
        self._firing = Firing(
            node=self._node,
            timeline=self._timeline,
            ledger=ledger,
            outbox=outbox,
            clock=clock,
            report=report,
            patience=patience,
            batch_size=batch_size,
        )
        self._sweeper = Sweeper(node=self._node, catalog=catalog, ledger=ledger, clock=clock)
        self._by_slot: dict[int, list[str]] = {}
        for name in catalog.entries:
            self._by_slot.setdefault(slot_of(name), []).append(name)
        self._order = {name: order for order, name in enumerate(catalog.entries, start=1)}
        self._view: View | None = None
        self._mine = bytes([OTHER]) * SLOTS
        self._pending: dict[str, bool] = {}  # name → whether its cursor must be read even if it is held
        self._damaged: set[str] = set()
        self._damaged_at = 0.0
        self._resume_at = 0.0
        for name, reason in catalog.broken.items():
            report.error(name, reason)

    def turn(self) -> float:
        """One pass; the seconds until the next is needed, at most one.

        Raises ``StoreRefused`` if Redis refused this node before it ever was in the pool.
        """
        self._membership.turned()
        view = self._membership.view
        if view is None:
            if self._membership.refused is not None:
                raise self._membership.refused
            return _LONGEST_WAIT
        pause = self._resume_at - self._clock.monotonic()
        if pause > 0:
            return min(pause, _LONGEST_WAIT)
        try:
            self._outbox.connect()
            self._follow(view)
            if view.in_force:
                self._firing.fire()
            self._load(view)
            if view.mine[0] == OWNER and self._membership.state is MemberState.STEADY:
                self._sweeper.turn(view.fence)
            self._recovered()
        except FencedError:
            self._look_again()
            self._resume_at = self._clock.monotonic() + _FENCED_WAIT
        except StoreError as error:
            self._outage(error)
        return self._rest()

    # --- the view -------------------------------------------------------------------------------------------

    def _follow(self, view: View) -> None:
        """Note what a new view changes; the work is done in slices by ``_load``."""
        if view is self._view:
            return
        before, self._view = self._view, view
        renewed = before is None or before.fence != view.fence
        self._firing.fence = view.fence
        for slot, names in self._by_slot.items():
            if renewed or view.mine[slot] != self._mine[slot]:
                for name in names:
                    self._pending[name] = renewed or self._pending.get(name, False)
        self._mine = view.mine
        if renewed and not view.in_force:
            logger.warning(
                "Node %s stands by: the pool runs config %s, and this node has %s. "
                "It takes over when no live node runs that one any more.",
                self._node,
                view.fence.config,
                self._membership.identity.config,
            )
        elif renewed:
            logger.info("Node %s runs the config in force, %s", self._node, view.fence.config)

    # --- loading --------------------------------------------------------------------------------------------

    def _load(self, view: View) -> None:
        """Bring a slice of the noted entries in line with the view."""
        self._retry_damaged()
        joining = view.in_force and self._membership.state is MemberState.JOINING
        if not self._pending and not joining:
            return
        unread = self._re_rank_some(view)
        if unread:
            self._hold_all(view, unread, self._ledger.read(unread))
        if not self._pending:
            self._loaded(view)
        self._report.loading = len(self._pending)

    def _re_rank_some(self, view: View) -> list[str]:
        """Drop or re-rank what needs no reading; the names whose cursors must be read, a slice at most."""
        until = self._clock.monotonic() + _SLICE_SECONDS
        done, unread = [], []
        for name, must_read in self._pending.items():
            rank, item = view.mine[slot_of(name)], self._timeline.get(name)
            if rank == OTHER:
                self._timeline.drop(name)
                self._damaged.discard(name)
                self._report.well(name)
                done.append(name)
            elif item is not None and not must_read:
                self._firing.re_rank(item, rank)
                done.append(name)
            else:
                unread.append(name)
            if len(unread) == _SLICE or self._clock.monotonic() > until:
                break
        for name in done:
            del self._pending[name]
        return unread

    def _hold_all(self, view: View, names: list[str], stored: Iterable[Stored]) -> None:
        """Hold the entries whose cursors were read, after anchoring those that have none."""
        claims = []
        for name, cursor in zip(names, stored):
            claim = self._opening(view, name, cursor)
            if claim is not None:
                claims.append(claim)
            else:
                self._hold(view, name, cursor)
        if not claims:
            return
        reply = self._ledger.claim(view.fence, claims)
        for claim, result in zip(claims, reply.results):
            if result.status is ClaimStatus.EARLY:  # the clock went back: what this node knows is ahead of it
                self._resume_at = self._clock.monotonic() + _OUTAGE_WAIT
            else:
                self._hold(view, claim.name, result.stored)

    def _opening(self, view: View, name: str, stored: Stored) -> Claim | None:
        """The claim that an entry needs before it can be held: an anchor, or a cursor that Redis lost."""
        item = self._timeline.get(name)
        if item is not None and is_behind(stored, item.cursor):
            return Claim(name, stored if isinstance(stored, Cursor) else None, item.cursor)
        if stored is None:
            return Claim(name, None, self._anchor(name, view))
        if isinstance(stored, Damaged) or not stored.is_tombstone:
            return None
        if view.fence.since - stored.effective_from <= GRACE:
            return None
        return Claim(name, stored, replace(self._anchor(name, view), revision=stored.revision + 1))

    def _anchor(self, name: str, view: View) -> Cursor:
        """Where an entry without a cursor begins: when its config came into force.

        If that was long ago the name is not new, and its cursor was removed or lost.  What was fired since is
        then unknown, and it begins now rather than fire all of that again.
        """
        since, now = view.fence.since, self._clock.now()
        anchor = Cursor.anchor(self._catalog.entries[name].definition, since, self._node)
        if now - since <= _ANCHOR_WINDOW:
            return anchor
        logger.warning("Entry %r has no cursor any more; it begins anew, now", name)
        return replace(anchor, due=now.replace(microsecond=now.microsecond // 1000 * 1000))

    def _hold(self, view: View, name: str, stored: Stored) -> None:
        if isinstance(stored, Damaged):
            self._pending.pop(name, None)
            self._damaged.add(name)
            self._report.error(name, f"its cursor is damaged ({stored.reason}): {stored.raw[:200]!r}")
        if not isinstance(stored, Cursor):
            return  # still pending unless it is damaged: look again
        item = self._timeline.get(name)
        if item is None:
            entry = self._catalog.entries[name]
            polled = isinstance(entry.recurrence, Polled)
            item = Item(entry, stored, OTHER, stored.due, self._order[name], polled)
            self._report.well(name)
        elif is_behind(stored, item.cursor):
            return  # somebody put back less than this node knows: look again
        item.cursor, item.rank = stored, view.mine[slot_of(name)]
        self._firing.reckon(item)
        self._pending.pop(name, None)

    def _retry_damaged(self) -> None:
        if self._damaged and self._clock.monotonic() >= self._damaged_at:
            self._damaged_at = self._clock.monotonic() + _DAMAGED_WAIT
            self._pending.update(dict.fromkeys(self._damaged, True))
            self._damaged.clear()

    def _loaded(self, view: View) -> None:
        """Everything that the view gives this node is on its timeline."""
        ranks = [item.rank for item in self._timeline]
        self._report.owned = ranks.count(OWNER)
        self._report.standby = len(ranks) - self._report.owned
        if view.in_force and self._membership.state is MemberState.JOINING:
            self._membership.ready()
            self._look_again()

    # --- outages --------------------------------------------------------------------------------------------

    def _outage(self, error: StoreError) -> None:
        if self._report.outage is None:
            logger.error("Node %s fires nothing for now: %s", self._node, error)
        self._report.outage = str(error)
        self._resume_at = self._clock.monotonic() + _OUTAGE_WAIT

    def _recovered(self) -> None:
        if self._report.outage is not None:
            self._report.outage = None
            logger.warning("Node %s fires again", self._node)

    def _rest(self) -> float:
        pause = self._resume_at - self._clock.monotonic()
        if pause > 0:
            return min(pause, _LONGEST_WAIT)
        if self._pending:
            return 0.0
        alarm = self._timeline.next_alarm()
        if alarm is None:
            return _LONGEST_WAIT
        wait: timedelta = alarm - self._clock.now()
        return min(max(wait.total_seconds(), 0.0), _LONGEST_WAIT)
