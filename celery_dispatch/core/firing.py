"""From "its alarm rang" to "its cursor moved": the hot path.

A pass pops what is due and works through it in batches.  Per batch:

1. *Ask* the ledger about items that another node may have dealt with: those of which this node is the
   standby, those that are late, and those whose last claim has an unknown outcome.  One read, no write.
2. *Prepare* a claim for each that is still open: which occurrence (``catchup``), and its message (the
   outbox).
3. *Claim* them in one step.  Won: the message is on the broker.  Lost: the cursor that came back is the
   truth.

The next dues are reckoned after the last batch of the pass, so that cron arithmetic does not stand between
a due and its message.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import cast

from celery_dispatch.core.catchup import Patience, Plan, plan
from celery_dispatch.core.clock import PoolClock
from celery_dispatch.core.entry import Cursor, Fence, Occurrence
from celery_dispatch.core.ports import Claim, ClaimResult, ClaimStatus, Damaged, Ledger, Outbox, Stored
from celery_dispatch.core.recurrence import Nominal, Polled
from celery_dispatch.core.report import NodeReport
from celery_dispatch.core.ring import STANDBY
from celery_dispatch.core.timeline import Item, Timeline
from celery_dispatch.errors import EntryError, StoreError

__all__ = ["Firing", "is_behind"]

logger = logging.getLogger(__name__)

_PASS = 1.0  # seconds after which a pass makes way for the rest of the turn
_BATCH_BYTES = 1_000_000
_BATCH_SECONDS = 0.1
_LONGEST_BACKOFF = 60.0  # seconds
_MILLISECOND = timedelta(milliseconds=1)

_CONFLICT = (
    "another node runs a different definition of this entry under the same fingerprint. "
    "Give each release its own dispatch_config_version, or unset it"
)


def is_behind(stored: Stored, known: Cursor) -> bool:
    """Whether the ledger has lost what this node knows of an entry."""
    if stored is None:
        return True
    return isinstance(stored, Cursor) and _progress(stored) < _progress(known)


def _progress(cursor: Cursor) -> tuple[int, bool, datetime]:
    """What orders two cursors of one entry: a fresh anchor yields to any that has fired or skipped."""
    return cursor.revision, cursor.fired + cursor.skipped > 0, cursor.due


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, EntryError) else repr(error)


class Firing:
    """Fires what is due on a timeline, under the fence that its owner sets."""

    def __init__(
        self,
        *,
        node: str,
        timeline: Timeline,
        ledger: Ledger,
        outbox: Outbox,
        clock: PoolClock,
        report: NodeReport,
        patience: Patience,
        batch_size: int,
    ) -> None:
        self.fence: Fence | None = None
        self._node = node
        self._timeline = timeline
        self._ledger = ledger
        self._outbox = outbox
        self._clock = clock
        self._report = report
        self._patience = patience
        self._batch_size = batch_size
        self._lost: list[tuple[Item, Cursor | None]] = []

    # --- the pass -------------------------------------------------------------------------------------------

    def fire(self) -> None:
        """One pass over everything that is due now.  Raises ``StoreError`` and ``FencedError``."""
        ends = self._clock.monotonic() + _PASS
        now = self._clock.now()
        popped: list[Item] = []
        try:
            while self._clock.monotonic() < ends:
                items = self._timeline.pop_due(now, self._batch_size)
                if not items:
                    break
                popped += items
                self._fire_batch(items, ends)
            self._put_back()
        finally:
            self._lost.clear()
            for item in popped:
                if not item.ticket:
                    self.reckon(item)

    def _fire_batch(self, items: list[Item], ends: float) -> None:
        """Work through ``items``, or as many as can be by ``ends``, in monotonic seconds."""
        began, size = self._clock.monotonic(), 0
        batch: list[tuple[Item, Claim]] = []
        for item in self._ask(items):
            claim = self._prepare(item)
            if claim is None:
                continue
            batch.append((item, claim))
            size += claim.size
            if size >= _BATCH_BYTES or self._clock.monotonic() - began >= _BATCH_SECONDS:
                self._claim(batch)
                began, size, batch = self._clock.monotonic(), 0, []
                if began > ends:
                    return
        if batch:
            self._claim(batch)

    def _ask(self, items: list[Item]) -> Iterable[Item]:
        """Those of ``items`` that are still open; the others take over the cursor that the ledger has."""
        late = self._clock.now() - self._patience.handover
        doubtful = [item for item in items if item.rank == STANDBY or item.due < late or item.attempt]
        if not doubtful:
            return items
        moved = set()
        stored = self._ledger.read([item.entry.name for item in doubtful])
        for item, cursor in zip(doubtful, stored):
            attempt, item.attempt = item.attempt, None
            if cursor == item.cursor:
                continue
            moved.add(item.entry.name)
            if attempt is not None and cursor == attempt.wanted:
                self._won(item, attempt, self._clock.now(), "")
            else:
                self._adopt(item, cursor)
        return [item for item in items if item.entry.name not in moved]

    def _prepare(self, item: Item) -> Claim | None:
        """The claim of the item's occurrence; ``None`` if there is none to make now."""
        assert self.fence is not None
        if item.due <= item.cursor.due and not item.polled:
            # Its due could not be reckoned.  That is tried again; what the cursor has passed is never fired.
            return None
        entry, now = item.entry, self._clock.now()
        try:
            if item.cursor.conflicts(entry.definition, self.fence):
                raise EntryError(_CONFLICT)
            step = self._plan(item, now)
            if step is None:
                return None
            commands = self._outbox.render(Occurrence(entry, step.due), now=now) if step.fire else ()
        except StoreError:
            raise
        except Exception as error:  # whatever it is, it is this entry's and no other's
            self._fail(item, _words(error))
            return None
        wanted = item.cursor.advance(
            step.due,
            definition=entry.definition,
            fence=self.fence,
            node=self._node,
            fired=int(step.fire),
            skipped=step.skipped,
        )
        return Claim(entry.name, item.cursor, wanted, commands)

    def _plan(self, item: Item, now: datetime) -> Plan | None:
        if not item.polled:
            return plan(item.entry, item.due, now, self._patience)
        is_due, wait = cast(Polled, item.entry.recurrence).poll(item.cursor.due, now)
        if not is_due:
            item.due = now + wait
            self._set_alarm(item, item.due)
            return None
        instant = now.replace(microsecond=now.microsecond // 1000 * 1000)
        return Plan(max(instant, item.cursor.due + _MILLISECOND))

    def _claim(self, batch: list[tuple[Item, Claim]]) -> None:
        assert self.fence is not None
        for item, claim in batch:
            item.attempt = claim
        reply = self._ledger.claim(self.fence, [claim for _, claim in batch])
        for (item, claim), result in zip(batch, reply.results):
            item.attempt = None
            self._settle(item, claim, result, reply.now)

    # --- what became of a claim -----------------------------------------------------------------------------

    def _settle(self, item: Item, claim: Claim, result: ClaimResult, now: datetime) -> None:
        if result.status is ClaimStatus.WON:
            self._won(item, claim, now, result.detail)
        elif result.status is ClaimStatus.LOST:
            self._report.lost += 1
            self._adopt(item, result.stored)
        elif result.status is ClaimStatus.EARLY:
            assert claim.wanted is not None
            self._timeline.arm(item, self._clock.now() + (claim.wanted.due - now))
        else:
            self._fail(item, result.detail)

    def _won(self, item: Item, claim: Claim, now: datetime, detail: str) -> None:
        assert claim.wanted is not None and claim.expected is not None
        item.cursor = claim.wanted
        self._well(item)
        self._report.skipped += claim.wanted.skipped - claim.expected.skipped
        if claim.wanted.fired == claim.expected.fired:
            return
        self._report.fired += 1
        self._report.lag(now - claim.wanted.due)
        self._outbox.sent(Occurrence(item.entry, claim.wanted.due))
        if detail:
            logger.error("Entry %r was fired only in part: %s", item.entry.name, detail)
        elif not claim.commands:
            logger.warning("Entry %r is routed to no queue; its message was dropped", item.entry.name)

    def _adopt(self, item: Item, stored: Stored) -> None:
        """Take over what the ledger says, unless the ledger lost what this node knows."""
        if isinstance(stored, Damaged):
            self._fail(item, f"its cursor is damaged ({stored.reason}): {stored.raw[:200]!r}")
        elif stored is None or is_behind(stored, item.cursor):
            self._lost.append((item, stored))
        else:
            item.cursor = stored
            if self.fence is not None and not stored.conflicts(item.entry.definition, self.fence):
                self._well(item)  # somebody could fire it

    def _put_back(self) -> None:
        """Write what this node knows over cursors that went back or went missing."""
        assert self.fence is not None
        if not self._lost:
            return
        logger.warning("Redis lost the cursors of %d entries; putting back what is known", len(self._lost))
        claims = [Claim(item.entry.name, stored, item.cursor) for item, stored in self._lost]
        reply = self._ledger.claim(self.fence, claims)
        for (item, _), result in zip(self._lost, reply.results):
            if isinstance(result.stored, Cursor) and not is_behind(result.stored, item.cursor):
                item.cursor = result.stored

    def _fail(self, item: Item, message: str) -> None:
        """Note the error and try again later; the next try obeys the catch-up policy."""
        item.failures += 1
        wait = min(_LONGEST_BACKOFF, 0.5 * 2 ** min(item.failures, 10))
        if self._report.error(item.entry.name, message):
            logger.error("Entry %r cannot be fired: %s. Trying again with backoff.", item.entry.name, message)
        self._timeline.arm(item, self._clock.now() + timedelta(seconds=wait))

    def _well(self, item: Item) -> None:
        item.failures = 0
        if self._report.well(item.entry.name):
            logger.warning("Entry %r can be fired again", item.entry.name)

    # --- alarms ---------------------------------------------------------------------------------------------

    def reckon(self, item: Item) -> None:
        """Compute the item's next due from its cursor and set its alarm."""
        assert self.fence is not None
        was_unknown = item.failures > 0 and item.due <= item.cursor.due
        try:
            if item.polled:
                now = self._clock.now()
                is_due, wait = cast(Polled, item.entry.recurrence).poll(item.cursor.due, now)
                item.due = now if is_due else now + wait
            else:
                base = item.cursor.base(item.entry.definition, self.fence)
                item.due = cast(Nominal, item.entry.recurrence).following(item.cursor.due, base)
        except Exception as error:  # schedules run user code
            item.due = item.cursor.due
            self._fail(item, _words(error))
            return
        if was_unknown:
            self._well(item)
        self._set_alarm(item, item.due)

    def re_rank(self, item: Item, rank: int) -> None:
        """The item's rank changed; its due did not."""
        item.rank = rank
        self._set_alarm(item, item.due)

    def _set_alarm(self, item: Item, due: datetime) -> None:
        item.order = -abs(item.order) if item.rank == STANDBY else abs(item.order)
        alarm = due + self._patience.handover if item.rank == STANDBY else due
        now = self._clock.now()
        if alarm + self._patience.handover < now:
            self._timeline.arm(item, now, backlog=True)
        else:
            self._timeline.arm(item, alarm)
