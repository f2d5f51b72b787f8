"""From "its alarm rang" to "its cursor moved": the hot path.

A pass pops what is due and works through it in batches.  Per batch:

1. *Ask* the ledger about items that another node may have dealt with: those of which this node is the
   standby, those from before a switch, those whose last claim has an unknown outcome, and, while this node
   meets another one, those that are late.  One read, no write.
2. *Prepare* a claim for each that is still open: which occurrence (``catchup``), and its message (the
   outbox), unless making it runs code of the user.
3. *Claim* them in one step.  Won: the message is on the broker, or an intent is written and the message
   delivered now (``delivery``).  Lost: the cursor that came back is the truth.

While the ledger carries out one batch, the next is asked for and prepared; it is sent when the outcome of the
first is known and dealt with, so that never more than one is unknown.  A batch that was prepared and not sent
has done nothing.

The next dues are *reckoned* after the pass, a slice at a time, and what has become due meanwhile goes first:
cron arithmetic does not stand between a due and its message.  A slice has half the time that the pass took:
in a storm of many passes the entries of the first are due again before the last.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import cast

from celery_dispatch.core.alarms import Alarms, words
from celery_dispatch.core.catalog import LiveCatalog
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
from celery_dispatch.core.rows import Pause, pause_end
from celery_dispatch.core.timeline import Bid, Item, Timeline
from celery_dispatch.errors import EntryError, StoreError

__all__ = ["Firing"]

logger = logging.getLogger(__name__)

_PASS = 1.0  # seconds after which a pass makes way for the rest of the turn
_BATCH_BYTES = 1_000_000
_BATCH_SECONDS = 0.1
_RECKON_SECONDS = 0.02
_BEHIND_WAIT = timedelta(milliseconds=50)  # until a look whether more can be claimed that takes two steps
_MILLISECOND = timedelta(milliseconds=1)

_CONFLICT = (
    "another node runs a different definition of this entry under the same fingerprint. "
    "Let all nodes run the same code; if you set dispatch_config_version, give each release its own"
)


class Firing:
    """Fires what is due on a timeline.

    ``suspicious`` is set when the ledger turns out to have lost what this node knows, ``early`` when its
    server's clock turns out to be behind this node's.
    """

    def __init__(
        self,
        *,
        node: str,
        catalog: LiveCatalog,
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
        self.early = False
        self._node = node
        self._catalog = catalog
        self._timeline = timeline
        self._alarms = alarms
        self._ledger = ledger
        self._outbox = outbox
        self._delivery = delivery
        self._clock = clock
        self._report = report
        self._patience = patience
        self._batch_size = batch_size
        self._settled: deque[Item] = deque()  # their next dues are to be reckoned
        self._open: dict[Item, None] = {}  # popped and not dealt with; only during a pass
        self._waiting: deque[Item] = deque()  # due and open; only during a pass
        self._contended = False  # another node had claimed some of the last batch

    # --- the pass -------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether no next due is left to be reckoned."""
        return not self._settled

    def fire(self) -> None:
        """One pass over everything that is due now.  Raises ``StoreError`` and ``FencedError``."""
        now, began = self._clock.now(), self._clock.monotonic()
        ends = began + _PASS
        try:
            batch = self._next_batch(now, ends)
            while batch and not self.suspicious:
                batch = self._fire_batch(batch, now, ends)
        finally:
            self._put_back()
        self._reckon(max(_RECKON_SECONDS, (self._clock.monotonic() - began) / 2))

    def _put_back(self) -> None:
        """Let what was popped and not dealt with ring again: its due is still the same."""
        now = self._clock.now()
        for item in self._open:
            self._alarms.ring(item, now)
        self._settled.extend(item for item in self._open if item.alarm is None)
        self._open.clear()
        self._waiting.clear()

    def _done(self, item: Item) -> None:
        """Nothing more is done with the item in this pass."""
        del self._open[item]
        self._settled.append(item)

    def _next_batch(self, due_by: datetime, ends: float) -> list[Bid]:
        """Claims for what was due by then, as many as may go out at once; none after ``ends``."""
        began, now, size, batch = self._clock.monotonic(), self._clock.now(), 0, list[Bid]()
        while began < ends and len(batch) < self._batch_size:
            if not self._waiting and not self._next_waiting(due_by):
                break
            item = self._waiting.popleft()
            bid = self._prepare(item, now)
            if bid is None:
                self._done(item)
            else:
                batch.append(bid)
                size += bid.claim.size
            if size >= _BATCH_BYTES or self._clock.monotonic() - began >= _BATCH_SECONDS:
                break
        return batch

    def _next_waiting(self, due_by: datetime) -> bool:
        """Whether something is waiting to be prepared; what is due and still open waits."""
        while not self._waiting and not self.suspicious:
            # The clock may have gone back a little since the pass began: what was armed by it comes later.
            items = self._timeline.pop_due(min(due_by, self._clock.now()), self._batch_size)
            if not items:
                break
            self._open.update(dict.fromkeys(items))
            self._waiting.extend(self._ask(items))
        return bool(self._waiting)

    def _fire_batch(self, batch: list[Bid], now: datetime, ends: float) -> list[Bid]:
        """Claim a batch and deal with what became of it; the next batch.

        That is prepared while the ledger works, unless messages of this one must be delivered before.
        """
        began, ahead = self._clock.monotonic(), _Ahead(lambda: self._next_batch(now, ends))
        one_write = all(bid.claim.intent is None for bid in batch)
        alarm = self._timeline.next_alarm()
        more = bool(self._waiting) or (alarm is not None and alarm <= now)
        for bid in batch:
            bid.item.attempt = bid
        claims = [bid.claim for bid in batch]
        reply = self._ledger.claim(
            self._alarms.fence,
            claims,
            gate=self._catalog.gate,
            meanwhile=ahead.prepare if one_write and more else None,
        )
        for bid, result in zip(batch, reply.results):
            bid.item.attempt = None
            self._settle(bid, result, reply.now)
            self._done(bid.item)
        if not one_write:
            won = [bid for bid, result in zip(batch, reply.results) if result.status is ClaimStatus.WON]
            self._deliver([bid for bid in won if bid.claim.intent is not None], began)
        self._contended = any(result.status is ClaimStatus.LOST for result in reply.results)
        return ahead.take()

    def _reckon(self, seconds: float) -> None:
        """Compute next dues, for a while: what is due goes first."""
        now, until = self._clock.now(), self._clock.monotonic() + seconds
        while self._settled and self._clock.monotonic() < until:
            item = self._settled.popleft()
            if item.alarm is None and self._timeline.get(item.entry.name) is item:
                self._alarms.reckon(item, now)

    def _ask(self, items: list[Item]) -> Iterable[Item]:
        """Those of ``items`` that are still open; the others take over the cursor that the ledger has."""
        late = self._alarms.fence.since
        if self._contended:
            late = max(late, self._clock.now() - self._patience.handover)
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
            self._done(item)
        return [item for item in items if item.entry.name not in moved]

    def _prepare(self, item: Item, now: datetime) -> Bid | None:
        """The claim of the item's occurrence; ``None`` if there is none to make now."""
        if item.is_stale or self._alarms.is_settled(item):
            return None
        try:
            if self._conflicts(item):
                raise EntryError(_CONFLICT)
            step = self._plan(item, now)
            if step is None:
                return None
            occurrence = Occurrence(item.entry, step.due, step.fires_at)
            path = self._outbox.path(occurrence)
            if step.fire and self._delivery.behind and not path.one_write:
                self._timeline.arm(item, now + _BEHIND_WAIT)
                return None
            return self._bid(item, step, occurrence, path, now)
        except StoreError:
            raise
        except Exception as error:  # whatever it is, it is this entry's and no other's
            self._alarms.fail(item, words(error))
            return None

    def _plan(self, item: Item, now: datetime) -> Plan | None:
        if not item.polled:
            until, pauses = self._alarms.until, self._pauses(item)
            return plan(item.entry, item.due, now, self._patience, until=until, pauses=pauses)
        is_due, wait = cast(Polled, item.entry.recurrence).poll(item.cursor.due, now)
        if not is_due:
            item.wait_for(now + wait)
            self._alarms.ring(item, now)
            return None
        due = max(whole_ms(now), item.cursor.due + _MILLISECOND)
        if pause_end(due, now, self._pauses(item)) is not None:
            return Plan(due, due, fire=False, skipped=1, reason=Skip.PAUSED)
        return Plan(due, due)

    def _pauses(self, item: Item) -> tuple[Pause | None, ...]:
        halt = self._catalog.halt
        if item.row is None and halt is None:
            return ()
        return (item.row.pause if item.row is not None else None), halt

    def _conflicts(self, item: Item) -> bool:
        entry = item.entry
        if item.cursor.definition == entry.definition:
            return False
        return self._catalog.conflicts(entry.name, item.cursor, entry.definition, self._alarms.fence)

    def _bid(self, item: Item, step: Plan, occurrence: Occurrence, path: Path, now: datetime) -> Bid:
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
        commands = None if path.user_code else self._outbox.render(occurrence, now=now)
        if path.one_write:
            claim = Claim(item.entry.name, item.cursor, wanted, commands or (), not_before=step.fires_at)
        else:
            intent = self._delivery.intend(occurrence, commands)
            claim = Claim(item.entry.name, item.cursor, wanted, intent=intent, not_before=step.fires_at)
        return Bid(item, claim, occurrence, path, step.reason)

    # --- what became of a claim -----------------------------------------------------------------------------

    def _settle(self, bid: Bid, result: ClaimResult, now: datetime) -> None:
        item = bid.item
        if result.status is ClaimStatus.WON:
            self._won(bid, now, result.detail)
        elif result.status is ClaimStatus.LOST:
            self._report.claim_lost()
            self._adopt(item, result.stored)
        elif result.status is ClaimStatus.EARLY:
            # The server's clock went back.  With the next heartbeat this node's does too, and takes along an
            # alarm that was set before: a near one.
            self.early = True
            wait = min(bid.occurrence.fires_at - now, self._patience.handover)
            self._timeline.arm(item, self._clock.now() + wait)
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
            passed = stored.due >= item.due  # which it has not where an occurrence was given back
            item.cursor = stored
            if passed and not self._conflicts(item):
                self._alarms.well(item)  # somebody could fire it


class _Ahead:
    """The next batch, prepared as soon as there is time; what goes wrong then is told when it is taken."""

    def __init__(self, make: Callable[[], list[Bid]]) -> None:
        self._make = make
        self._made: list[Bid] | None = None
        self._trouble: StoreError | None = None

    def prepare(self) -> None:
        try:
            self._made = self._make()
        except StoreError as trouble:
            self._trouble = trouble

    def take(self) -> list[Bid]:
        if self._trouble is not None:
            raise self._trouble
        return self._make() if self._made is None else self._made


def _parcel(bid: Bid) -> Parcel:
    assert bid.claim.intent is not None
    return Parcel(bid.claim.intent, bid.path, bid.occurrence, helped=bid.item.rank == STANDBY)
