"""From "its alarm rang" to "its cursor moved": the hot path.

A pass pops what is due and works through it in batches.  Per batch:

1. *Ask* the ledger about items that another node may have dealt with: those of which this node is the
   standby, those that are late or from before a switch, and those whose last claim has an unknown outcome.
   One read, no write.
2. *Prepare* a claim for each that is still open: which occurrence (``catchup``), and its message (the
   outbox), unless making it runs code of the user.
3. *Claim* them in one step.  Won: the message is on the broker, or an intent is written and the message
   delivered now (``delivery``).  Lost: the cursor that came back is the truth.

The next dues are reckoned after the last batch of the pass, so that cron arithmetic does not stand between
a due and its message.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import cast

from celery_dispatch.core.alarms import Alarms, words
from celery_dispatch.core.catchup import Patience, Plan, plan
from celery_dispatch.core.clock import PoolClock, whole_ms
from celery_dispatch.core.delivery import Delivery, Fate, Parcel
from celery_dispatch.core.entry import Cursor, Occurrence
from celery_dispatch.core.ports import (
    Claim,
    ClaimResult,
    ClaimStatus,
    Damaged,
    Ledger,
    Outbox,
    Path,
    Stored,
)
from celery_dispatch.core.recovery import is_behind
from celery_dispatch.core.recurrence import Polled
from celery_dispatch.core.report import NodeReport, Skip
from celery_dispatch.core.ring import STANDBY
from celery_dispatch.core.timeline import Bid, Item, Timeline
from celery_dispatch.errors import EntryError, StoreError

__all__ = ["Firing"]

logger = logging.getLogger(__name__)

_PASS = 1.0  # seconds after which a pass makes way for the rest of the turn
_BATCH_BYTES = 1_000_000
_BATCH_SECONDS = 0.1
_BEHIND_WAIT = timedelta(milliseconds=50)  # until a look whether more can be claimed that takes two steps
_MILLISECOND = timedelta(milliseconds=1)

_CONFLICT = (
    "another node runs a different definition of this entry under the same fingerprint. "
    "Give each release its own dispatch_config_version, or unset it"
)


class Firing:
    """Fires what is due on a timeline.

    ``suspicious`` is set when the ledger turns out to have lost what this node knows.
    """

    def __init__(
        self,
        *,
        node: str,
        timeline: Timeline,
        alarms: Alarms,
        ledger: Ledger,
        outbox: Outbox,
        delivery: Delivery,
        clock: PoolClock,
        report: NodeReport,
        patience: Patience,
        batch_size: int,
    ) -> None:
        self.suspicious = False
        self._node = node
        self._timeline = timeline
        self._alarms = alarms
        self._ledger = ledger
        self._outbox = outbox
        self._delivery = delivery
        self._clock = clock
        self._report = report
        self._patience = patience
        self._batch_size = batch_size

    # --- the pass -------------------------------------------------------------------------------------------

    def fire(self) -> None:
        """One pass over everything that is due now.  Raises ``StoreError`` and ``FencedError``."""
        ends = self._clock.monotonic() + _PASS
        now = self._clock.now()
        popped: list[Item] = []
        try:
            while self._clock.monotonic() < ends and not self.suspicious:
                items = self._timeline.pop_due(now, self._batch_size)
                if not items:
                    break
                popped += items
                self._fire_batch(items, ends)
        finally:
            for item in popped:
                if not item.ticket:
                    self._alarms.reckon(item)

    def _fire_batch(self, items: list[Item], ends: float) -> None:
        """Work through ``items``, or as many as can be by ``ends``, in monotonic seconds."""
        began, size = self._clock.monotonic(), 0
        batch: list[Bid] = []
        for item in self._ask(items):
            bid = self._prepare(item)
            if bid is None:
                continue
            batch.append(bid)
            size += bid.claim.size
            if size >= _BATCH_BYTES or self._clock.monotonic() - began >= _BATCH_SECONDS:
                self._claim(batch)
                began, size, batch = self._clock.monotonic(), 0, []
                if began > ends:
                    return
        if batch:
            self._claim(batch)

    def _ask(self, items: list[Item]) -> Iterable[Item]:
        """Those of ``items`` that are still open; the others take over the cursor that the ledger has."""
        late = max(self._clock.now() - self._patience.handover, self._alarms.fence.since)
        doubtful = [item for item in items if item.rank == STANDBY or item.fires_at < late or item.attempt]
        if not doubtful:
            return items
        moved = set()
        stored = self._ledger.read([item.entry.name for item in doubtful])
        for item, cursor in zip(doubtful, stored):
            attempt, item.attempt = item.attempt, None
            if cursor == item.cursor:
                continue
            moved.add(item.entry.name)
            if attempt is not None and cursor == attempt.claim.wanted:
                self._learnt(attempt)
            else:
                self._adopt(item, cursor)
        return [item for item in items if item.entry.name not in moved]

    def _prepare(self, item: Item) -> Bid | None:
        """The claim of the item's occurrence; ``None`` if there is none to make now."""
        if self._alarms.is_settled(item):
            return None
        try:
            if item.cursor.conflicts(item.entry.definition, self._alarms.fence):
                raise EntryError(_CONFLICT)
            step = self._plan(item, self._clock.now())
            if step is None:
                return None
            occurrence = Occurrence(item.entry, step.due, step.fires_at)
            path = self._outbox.path(occurrence)
            if step.fire and self._delivery.behind and not path.one_write:
                self._timeline.arm(item, self._clock.now() + _BEHIND_WAIT)
                return None
            return self._bid(item, step, occurrence, path)
        except StoreError:
            raise
        except Exception as error:  # whatever it is, it is this entry's and no other's
            self._alarms.fail(item, words(error))
            return None

    def _plan(self, item: Item, now: datetime) -> Plan | None:
        if not item.polled:
            return plan(item.entry, item.due, now, self._patience, until=self._alarms.until)
        is_due, wait = cast(Polled, item.entry.recurrence).poll(item.cursor.due, now)
        if not is_due:
            item.wait_for(now + wait)
            self._alarms.ring(item)
            return None
        due, paused = max(whole_ms(now), item.cursor.due + _MILLISECOND), item.entry.paused
        return Plan(due, due, fire=not paused, skipped=int(paused), reason=Skip.PAUSED)

    def _bid(self, item: Item, step: Plan, occurrence: Occurrence, path: Path) -> Bid:
        """The claim of one step, with its message or its intent."""
        wanted = item.cursor.advance(
            step.due,
            definition=item.entry.definition,
            fence=self._alarms.fence,
            node=self._node,
            fired=int(step.fire),
            skipped=step.skipped,
        )
        if not step.fire:
            claim = Claim(item.entry.name, item.cursor, wanted, not_before=step.fires_at)
            return Bid(item, claim, occurrence, path, step.reason)
        commands = None if path.user_code else self._outbox.render(occurrence, now=self._clock.now())
        if path.one_write:
            claim = Claim(item.entry.name, item.cursor, wanted, commands or (), not_before=step.fires_at)
        else:
            intent = self._delivery.intend(occurrence, commands)
            claim = Claim(item.entry.name, item.cursor, wanted, intent=intent, not_before=step.fires_at)
        return Bid(item, claim, occurrence, path, step.reason)

    def _claim(self, batch: list[Bid]) -> None:
        began = self._clock.monotonic()
        for bid in batch:
            bid.item.attempt = bid
        reply = self._ledger.claim(self._alarms.fence, [bid.claim for bid in batch])
        for bid, result in zip(batch, reply.results):
            bid.item.attempt = None
            self._settle(bid, result, reply.now)
        won = [bid for bid, result in zip(batch, reply.results) if result.status is ClaimStatus.WON]
        self._deliver([bid for bid in won if bid.claim.intent is not None], began)

    # --- what became of a claim -----------------------------------------------------------------------------

    def _settle(self, bid: Bid, result: ClaimResult, now: datetime) -> None:
        item = bid.item
        if result.status is ClaimStatus.WON:
            self._won(bid, now, result.detail)
        elif result.status is ClaimStatus.LOST:
            self._report.claim_lost()
            self._adopt(item, result.stored)
        elif result.status is ClaimStatus.EARLY:
            self._timeline.arm(item, self._clock.now() + (bid.occurrence.fires_at - now))
        else:
            self._alarms.fail(item, result.detail)

    def _won(self, bid: Bid, now: datetime, detail: str) -> None:
        item, claim = bid.item, bid.claim
        before = self._moved(bid)
        self._report.skip(item.cursor.skipped - before.skipped, bid.reason)
        if claim.intent is not None:
            return  # whether it can be sent is not known yet
        self._alarms.well(item)
        if item.cursor.fired == before.fired:
            return
        self._report.fire(now - bid.occurrence.fires_at, helped=item.rank == STANDBY)
        self._outbox.sent(bid.occurrence)
        if detail:
            logger.error("Entry %r was fired only in part: %s", item.entry.name, detail)
        elif not claim.commands:
            logger.warning("Entry %r is routed to no queue; its message was dropped", item.entry.name)

    def _learnt(self, bid: Bid) -> None:
        """A claim of unknown outcome turns out to have been won."""
        if bid.claim.intent is not None:
            self._delivery.look()
        self._won(bid, self._clock.now(), "")

    def _moved(self, bid: Bid) -> Cursor:
        """Take the wanted cursor of a claim that was won; the one before it."""
        assert bid.claim.wanted is not None and isinstance(bid.claim.expected, Cursor)
        bid.item.cursor = bid.claim.wanted
        return bid.claim.expected

    def _deliver(self, bids: list[Bid], began: float) -> None:
        """Send what was claimed with an intent; give back what cannot be sent."""
        if not bids:
            return
        parcels = [_parcel(bid) for bid in bids]
        self._delivery.forget(parcels)
        self._delivery.deliver(parcels, began=began)
        for bid, parcel in zip(bids, parcels):
            if parcel.fate in (Fate.SENT, Fate.TAKEN):
                self._alarms.well(bid.item)
        refused = [(bid, parcel) for bid, parcel in zip(bids, parcels) if parcel.fate is Fate.REFUSED]
        if not refused:
            return
        results = self._ledger.claim(self._alarms.fence, [self._undone(bid) for bid, _ in refused]).results
        for (bid, parcel), result in zip(refused, results):
            if isinstance(result.stored, Cursor):
                bid.item.cursor = result.stored
            self._alarms.fail(bid.item, parcel.detail)

    def _undone(self, bid: Bid) -> Claim:
        """The claim that gives an occurrence back, so that it is tried again under its catch-up policy."""
        item, before = bid.item, bid.claim.expected
        assert isinstance(before, Cursor)
        return Claim(
            item.entry.name, item.cursor, item.cursor.undo(before, self._node), undoes=bid.claim.intent
        )

    def _adopt(self, item: Item, stored: Stored) -> None:
        """Take over what the ledger says, unless the ledger lost what this node knows."""
        if isinstance(stored, Damaged):
            self._alarms.fail(item, f"its cursor is {stored}")
        elif stored is None or is_behind(stored, item.cursor):
            self.suspicious = True
        else:
            item.cursor = stored
            if not stored.conflicts(item.entry.definition, self._alarms.fence):
                self._alarms.well(item)  # somebody could fire it


def _parcel(bid: Bid) -> Parcel:
    assert bid.claim.intent is not None
    return Parcel(bid.claim.intent, bid.path, bid.occurrence, helped=bid.item.rank == STANDBY)
