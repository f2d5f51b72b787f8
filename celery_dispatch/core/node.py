"""One node of the pool: the tour of the system.

::

    catalog ─► timeline (heap of next due) ─► rank on the ring ─► ledger.claim ─► broker
                   ▲                               ▲                  │
                   └────── next due ◄──────────────┼──────────────────┘
                       heartbeat ─► pool ─► view ──┘

``turn()`` is one pass over this picture, and the only thing that the loop calls:

1. *Follow* the newest view: note the entries whose rank changed, and take over at once those of a node that
   left which are at hand.
2. *Merge*, while the pool recovers: put back what the ledger has lost of what this node knows, say so, and
   do nothing else (``recovery``).
3. *Hear* what people changed meanwhile (``following``), and note which entries that concerns.
4. *Deliver* what was claimed and is not known to be on the broker, by this node or one that is gone
   (``delivery``).
5. *Fire* what is due (``firing``): decide, render, claim and push in batches; reckon the next dues
   afterwards.
6. *Load* a slice of the entries that are newly ours: read their cursors, anchor the new ones, arm them
   (``loading``).
7. *Sweep* a page of cursors whose entries left the config, on one node.

What can fail, and what it costs:

* Dying anywhere costs nothing: nothing is kept here that the ledger does not say, and whoever has the next
  rank carries on.
* ``StoreUnavailable`` in a claim leaves the outcome unknown.  Its items are asked after before anything
  else is done with them; if the claim had gone through, the cursor says so.
* ``FencedError``: the config in force changed, or the pool recovers, or all entries were paused.  Nothing of
  the batch was written; pool and rows are read anew.
* A cursor that stands under a *row* which this node does not know: the entry was changed.  It rests until
  that row was read (``rows``).
* A cursor that is *behind* what this node knows, or gone: Redis lost writes.  The pool is asked to recover.
  A node never takes over a lower cursor.
* The broker cannot be reached: nothing is claimed, and the node leaves the ring while another can reach it.
* An entry that fails is tried again with backoff, under its catch-up policy; the others do not notice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from celery_dispatch.core.alarms import Alarms
from celery_dispatch.core.catalog import LiveCatalog
from celery_dispatch.core.catchup import Patience
from celery_dispatch.core.clock import PoolClock, whole_ms
from celery_dispatch.core.delivery import Delivery
from celery_dispatch.core.entry import Catalog, Entry, Fence
from celery_dispatch.core.firing import Firing
from celery_dispatch.core.following import Following
from celery_dispatch.core.loading import Loading
from celery_dispatch.core.pool import Membership, Role, Timing, View
from celery_dispatch.core.ports import Intents, Ledger, MemberState, Outbox, Rows
from celery_dispatch.core.recovery import Recovery
from celery_dispatch.core.report import ErrorKind, NodeReport
from celery_dispatch.core.ring import OWNER
from celery_dispatch.core.sweep import Sweeper
from celery_dispatch.core.timeline import Timeline
from celery_dispatch.errors import FencedError, StoreError

__all__ = ["Node"]

logger = logging.getLogger(__name__)

_LONGEST_WAIT = 1.0  # seconds; the loop turns at least this often
_OUTAGE_WAIT = 0.25  # seconds between tries while the store does not answer
_GATHER = 2  # times as long as a pass took until the next: a pass of one costs as much as one of ten
_LONGEST_GATHER = 0.003  # seconds
_FENCED_WAIT = 0.05  # seconds for the pool to be read anew


class Node:
    """Fires its share of a catalog; ``turn()`` belongs to one thread.

    ``catalog`` is what its config defines; ``make`` turns the name and definition of what was created at run
    time into an entry.  ``look_again`` asks for a heartbeat now: the pool may have changed, or this node has
    something to say.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        make: Callable[[str, str], Entry],
        membership: Membership,
        clock: PoolClock,
        ledger: Ledger,
        rows: Rows,
        intents: Intents,
        outbox: Outbox,
        report: NodeReport,
        timing: Timing,
        batch_size: int,
        at_most_once: bool,
        new_token: Callable[[int], str],
        look_again: Callable[[], None],
    ) -> None:
        self._membership = membership
        self._node = membership.identity.node
        self._interval = timing.interval
        self._clock = clock
        self._ledger = ledger
        self._outbox = outbox
        self._report = report
        self._look_again = look_again
        patience = Patience(timing.handover, timing.lease + timing.handover)
        self._timeline = Timeline()
        self._catalog = live = LiveCatalog(catalog, make)
        self._following = Following(catalog=live, rows=rows, clock=clock, report=report)
        self._alarms = Alarms(timeline=self._timeline, clock=clock, report=report, patience=patience)
        self._delivery = Delivery(
            node=self._node,
            catalog=live,
            intents=intents,
            outbox=outbox,
            clock=clock,
            report=report,
            lease=timing.lease,
            batch_size=batch_size,
            at_most_once=at_most_once,
            new_token=new_token,
        )
        self._firing = Firing(
            node=self._node,
            catalog=live,
            timeline=self._timeline,
            alarms=self._alarms,
            ledger=ledger,
            outbox=outbox,
            delivery=self._delivery,
            clock=clock,
            report=report,
            patience=patience,
            batch_size=batch_size,
        )
        self._loading = Loading(
            node=self._node,
            catalog=live,
            following=self._following,
            timeline=self._timeline,
            alarms=self._alarms,
            ledger=ledger,
            clock=clock,
            report=report,
            interval=timing.interval,
        )
        self._recovery = Recovery(
            node=self._node,
            timeline=self._timeline,
            ledger=ledger,
            following=self._following,
            delivery=self._delivery,
        )
        self._sweeper = Sweeper(
            node=self._node,
            catalog=live,
            following=self._following,
            ledger=ledger,
            rows=rows,
            clock=clock,
            lease=timing.lease,
            new_token=new_token,
        )
        self._view: View | None = None
        self._merged = ""  # the last recovery that this node was done with
        self._resume_at = 0.0
        self._turned_at = clock.monotonic()
        self._was_away = False  # for a while it could not claim, or slept
        self._back_at: datetime | None = None
        self._gathers = 0.0  # seconds; something was just fired, and what comes next may go together
        for name, reason in catalog.broken.items():
            report.error(name, reason)

    def rows_changed(self) -> None:
        """Rows may have been written: look with the next turn.  May be called from any thread."""
        self._following.look()

    def turn(self) -> float:
        """One pass; the seconds until the next is needed, at most one.

        Raises ``StoreRefused`` if Redis refused this node before it ever was in the pool.
        """
        now = self._clock.monotonic()
        self._was_away |= now - self._turned_at > 2 * self._interval.total_seconds()
        self._turned_at = now
        self._membership.turned()
        self._report.turned(now)
        view = self._membership.view
        if view is None:
            if self._membership.refused is not None:
                raise self._membership.refused
            return _LONGEST_WAIT
        pause = self._resume_at - now
        if pause > 0:
            return min(pause, _LONGEST_WAIT)
        try:
            self._follow(view)
            if view.recovery:
                self._recover(view)
            else:
                self._work(view)
                self._recovered(view)
        except FencedError:
            self._report.count_error(ErrorKind.FENCED)
            self._following.look()
            self._look_again()
            self._resume_at = self._clock.monotonic() + _FENCED_WAIT
        except StoreError as error:
            self._outage(error)
        return self._rest()

    def _work(self, view: View) -> None:
        """One pass while all is well with the pool."""
        self._reach_broker()
        if self._was_away and view.own is not None:
            self._come_back(view, view.own)
        if view.role is not Role.FOREIGN:
            self._loading.changed(self._following.turn())
        if view.own is not None and self._following.sound:
            self._fire(view)
        if self._loading.turn(view) and self._following.sound:
            self._loaded(view)
        if self._firing.suspicious or self._loading.suspicious or self._following.suspicious:
            self._suspect()
        elif view.mine[0] == OWNER and self._membership.state is MemberState.STEADY:
            self._sweep(view)

    def _fire(self, view: View) -> None:
        if not self._catalog.is_halted:  # what was claimed before waits
            self._delivery.recover(due_from=view.due_from, due_until=view.until)
        fired, began = self._report.fired, self._clock.monotonic()
        self._firing.fire()
        if self._firing.early:
            self._firing.early = False
            self._look_again()
        took = self._clock.monotonic() - began
        self._gathers = min(_GATHER * took, _LONGEST_GATHER) if self._report.fired > fired else 0.0
        self._loading.look_at(self._alarms.take_stale())

    def _loaded(self, view: View) -> None:
        """Everything that the view gives this node is on its timeline."""
        if self._loading.ranks_changed:
            self._loading.ranks_changed = False
            self._report.owned = sum(item.rank == OWNER for item in self._timeline)
            self._report.standby = len(self._timeline) - self._report.owned
        if view.role.fires and self._membership.state is MemberState.JOINING:
            self._membership.ready()
            self._look_again()

    def _sweep(self, view: View) -> None:
        """Bring cursors in line with the config in force, and say so when all are: a vote may wait for it."""
        if not view.in_force or view.before is not None:
            return
        if self._sweeper.turn(self._alarms.fence, self._merged):
            self._membership.swept(self._alarms.fence.since)
            self._look_again()

    def _suspect(self) -> None:
        """Redis has lost what this node knows: let the pool recover before anything is claimed."""
        self._firing.suspicious = self._loading.suspicious = self._following.suspicious = False
        logger.warning("Redis has lost what node %s knows; the pool has to recover", self._node)
        self._membership.suspect()
        self._look_again()
        self._resume_at = self._clock.monotonic() + _FENCED_WAIT

    def _recover(self, view: View) -> None:
        """Merge what this node knows, and say so; then wait for the others."""
        if self._merged == view.recovery:
            return
        fence = view.own or view.fence or Fence("", whole_ms(self._clock.now()))
        if self._recovery.turn(view.recovery, fence):
            self._merged = view.recovery
            self._membership.merged(view.recovery)
            self._look_again()

    def _reach_broker(self) -> None:
        try:
            self._outbox.connect()
        except StoreError as error:
            self._report.broker_outage = str(error)
            self._membership.cut_off(True)
            raise
        self._report.broker_outage = None
        self._membership.cut_off(False)

    # --- the view -------------------------------------------------------------------------------------------

    def _follow(self, view: View) -> None:
        """Note what a new view changes."""
        if view is self._view:
            return
        before, self._view = self._view, view
        if view.own is not None:
            self._alarms.under(view.own, until=view.until, opened=self._opened(view, view.own))
            if before is not None and before.recovery and not view.recovery:
                self._following.look()  # cursors may stand under older rows again
        self._loading.note(before, view)
        if view.own is not None and not view.recovery:  # else nothing is let go before it was merged
            self._loading.inherit(view)
            self._loading.re_rank(view)
        self._delivery.look()
        self._say(before, view)

    def _come_back(self, view: View, own: Fence) -> None:
        """Others may have been away as well, and those of the config before have something to catch up."""
        self._was_away, self._back_at = False, self._clock.now()
        self._alarms.under(own, until=view.until, opened=self._opened(view, own))

    def _opened(self, view: View, own: Fence) -> datetime:
        """Since when the nodes of the config before can claim, as far as is known."""
        if not view.in_force:
            return own.since
        heard_of = view.reopened and view.reopened + self._interval  # by all of them, with a heartbeat
        return max(own.since, self._back_at or own.since, heard_of or own.since)

    def _say(self, before: View | None, view: View) -> None:
        """Log what changed for this node."""
        me = self._membership.identity
        if view.recovery and (before is None or before.recovery != view.recovery):
            self._say_that_it_recovers(view)
        if before is not None and before.recovery and not view.recovery:
            logger.log(logging.WARNING if before.own else logging.INFO, "The pool has recovered")
        if view.deserted and not (before and before.deserted):
            logger.error(
                "Nothing is fired: every node of config %s is drained. Run: celery -A <app> dispatch "
                "undrain %s",
                me.config, me.node,
            )  # fmt: skip
        if before is not None and (before.role, before.own) == (view.role, view.own):
            return
        if view.role is Role.FOREIGN:
            logger.warning(
                "Node %s stands by: the pool belongs to %s, and this node to %s. Give this app its own "
                "dispatch_key_prefix; or, if it is to take the pool over, run: celery -A <app> dispatch "
                "adopt",
                self._node, view.identity, me.app,
            )  # fmt: skip
        elif view.fence is None:
            return
        elif view.role is Role.STANDING_BY:
            logger.warning(
                "Node %s stands by with config %s: the pool has %s in force. "
                "It takes over when most nodes run its config.",
                self._node, me.config, view.fence.config,
            )  # fmt: skip
        elif view.role is Role.OUTGOING and view.until is not None:
            logger.warning(
                "Node %s runs config %s, which gives way to %s at %s",
                self._node, me.config, view.fence.config, view.until.isoformat(),
            )  # fmt: skip
        elif view.own is not None:
            logger.info("Node %s runs the config in force, %s", self._node, view.own.config)

    def _say_that_it_recovers(self, view: View) -> None:
        if view.fence is None and not len(self._timeline):
            logger.info("The pool is new, or Redis was emptied: nobody fires for two heartbeats")
            return
        self._report.recovery(self._clock.now())
        logger.warning("The pool recovers: nobody fires until every node has said what it knows")

    # --- outages --------------------------------------------------------------------------------------------

    def _outage(self, error: StoreError) -> None:
        if self._report.outage is None:
            logger.error("Node %s fires nothing for now: %s", self._node, error)
        self._report.count_error(ErrorKind.BROKER if self._report.broker_outage else ErrorKind.STORE)
        self._report.outage = str(error)
        self._resume_at = self._clock.monotonic() + _OUTAGE_WAIT
        self._was_away = True

    def _recovered(self, view: View) -> None:
        """The outage is over, if claims are carried out again: there may have been none to make."""
        if self._report.outage is None:
            return
        if view.own is not None:
            self._ledger.claim(view.own, [])
        self._report.outage = None
        logger.warning("Node %s %s again", self._node, "fires" if view.own is not None else "stands by")

    def _rest(self) -> float:
        """Seconds until the next turn is needed."""
        pause = self._resume_at - self._clock.monotonic()
        if pause > 0:
            return min(pause, _LONGEST_WAIT)
        if self._view is not None and self._view.recovery:
            return _LONGEST_WAIT if self._merged == self._view.recovery else 0.0
        fires = self._view is not None and self._view.own is not None and self._following.sound
        if (fires and not self._firing.done) or not self._loading.done or self._sweeper.is_under_way:
            return 0.0
        longest = min(_LONGEST_WAIT, self._following.wait)
        alarm = self._timeline.next_alarm() if fires else None
        if alarm is None:
            return longest
        wait: timedelta = alarm - self._clock.now()
        return min(max(wait.total_seconds(), self._gathers), longest)
