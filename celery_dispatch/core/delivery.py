"""From a claim that was won with an intent to a message that is known to be on the broker.

::

      claim ──► open, not rendered ──► open, rendered ──► published ──► settled
                     │   ▲                  │   ▲
                     │   └───── take over ──┴───┘
                     └──► undone: the user's code or the broker refused this message

An intent is written with the claim and removed when its message is known to be on the broker.  Where the
broker is the ledger's own Redis, one script pushes the message and removes the intent, if it is still of this
attempt: exactly once.  Elsewhere the message is published first and the intent settled afterwards: at least
once, and a repeat carries the same task id.

What if this node dies, or never hears an answer?

* *Before the claim* nothing has happened.  *After it* the intent is open: whoever sees that its node is gone
  takes it over under a new token, renders it if it was not, and goes on from there.
* *After publishing, before settling*: the message is published again by whoever takes over.  A node that
  published it itself and only failed to settle remembers, and does not.
* *Any unknown outcome*: this node drops what it was doing and asks for its own open intents, like for those
  of a dead node.  What is stored is the truth.
* *A pause* between claim and publishing that is longer than half a lease: the same.

A message that the broker does not take, or that the user's code does not make, gives its occurrence back:
the cursor returns, and the entry is tried again with backoff.  One that was taken over has no cursor to go
back to: it waits if only its queue is full, and is dropped and reported otherwise.

A message that was not rendered when its node died is left to the nodes that run the config of its due.
Where there are none, and the catalog has its entry no more as it was, it cannot be made: it is dropped and
reported.  With ``at_most_once`` so is a message that is taken over and may have been published before: one
that was rendered, for a broker that is not the ledger's own Redis.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from celery_dispatch.core.catalog import LiveCatalog
from celery_dispatch.core.clock import PoolClock, whole_ms
from celery_dispatch.core.entry import Entry, Occurrence
from celery_dispatch.core.ports import (
    ClaimStatus,
    Command,
    Intent,
    Intents,
    Outbox,
    Path,
    PublicationStatus,
    Settlement,
)
from celery_dispatch.core.report import NodeReport, Skip
from celery_dispatch.errors import EntryError, StoreError, StoreUnavailable

__all__ = ["Delivery", "Fate", "Parcel"]

logger = logging.getLogger(__name__)

_RENDER_SECONDS = 0.25  # until what was rendered is sent before more is
_REMEMBERED = 10_000  # published messages, in case their intents come back


class Fate(Enum):
    """What became of an intent that this node set out to publish."""

    OPEN = "open"  #: not known; ``recover`` finds it again
    SENT = "sent"  #: on the broker, and settled
    TAKEN = "taken"  #: another node has it now
    REFUSED = "refused"  #: it cannot be made or sent now, and certainly was not; the intent is still open


@dataclass(slots=True)
class Parcel:
    """An open intent of this node on its way.

    ``occurrence`` is ``None`` where the catalog does not have its entry as it was; ``helped``: this node is
    not the owner.
    """

    intent: Intent
    path: Path
    occurrence: Occurrence | None
    helped: bool = False
    fate: Fate = Fate.OPEN
    detail: str = ""
    may_go_later: bool = False

    @property
    def key(self) -> tuple[str, datetime]:
        return self.intent.name, self.intent.due

    def refuse(self, detail: str) -> None:
        self.fate, self.detail = Fate.REFUSED, detail


class Delivery:
    """Publishes and settles this node's open intents, one batch at a time.

    While it is ``behind``, no more should be claimed that takes two steps.
    """

    def __init__(
        self,
        *,
        node: str,
        catalog: LiveCatalog,
        intents: Intents,
        outbox: Outbox,
        clock: PoolClock,
        report: NodeReport,
        lease: timedelta,
        batch_size: int,
        at_most_once: bool,
        new_token: Callable[[int], str],
    ) -> None:
        self._node = node
        self._catalog = catalog
        self._intents = intents
        self._outbox = outbox
        self._clock = clock
        self._report = report
        self._lease = lease
        self._batch_size = batch_size
        self._at_most_once = at_most_once
        self._new_token = new_token
        self._published: OrderedDict[tuple[str, datetime], None] = OrderedDict()
        self.behind = False
        self._must_look = True
        self._look_at = 0.0

    def intend(self, occurrence: Occurrence, commands: tuple[Command, ...] | None) -> Intent:
        """A new attempt at an occurrence, to be written with its claim."""
        return Intent(
            name=occurrence.entry.name,
            due=occurrence.due,
            definition=occurrence.entry.definition,
            node=self._node,
            token=self._new_token(8),
            since=whole_ms(self._clock.now()),
            commands=commands,
        )

    def look(self) -> None:
        """Let the next ``recover`` look at once: a node is gone, or an outcome unknown."""
        self._must_look = True

    # --- what was claimed just now --------------------------------------------------------------------------

    def deliver(self, parcels: Sequence[Parcel], *, began: float) -> None:
        """Publish and settle what became this node's at or after ``began`` (monotonic seconds).

        Sets the fate of each.  What takes too long, for code of the user may, is left to ``recover``.  Raises
        ``StoreUnavailable`` where what is left open has to wait.
        """
        self._must_look = self.behind = True
        limit = began + self._lease.total_seconds() / 4
        waiting = [parcel for parcel in parcels if parcel.fate is Fate.OPEN]
        while waiting and self._clock.monotonic() < limit:
            some, waiting = self._render_some(waiting)
            if self._clock.monotonic() - began > self._lease.total_seconds() / 2:
                some = [
                    parcel for parcel in some if parcel.path.same_store
                ]  # others may have taken them over
            self._push([parcel for parcel in some if parcel.path.same_store])
            self._publish([parcel for parcel in some if not parcel.path.same_store])
        left = sum(parcel.fate is Fate.OPEN for parcel in parcels)
        self._report.open_intents = left
        self.behind = left > 0
        self._must_look = any(parcel.fate in (Fate.OPEN, Fate.REFUSED) for parcel in parcels)

    def _render_some(self, parcels: list[Parcel]) -> tuple[list[Parcel], list[Parcel]]:
        """The first parcels with their messages, as many as can be made in a while; and those after them.

        User code runs here, after the claim.
        """
        until = self._clock.monotonic() + _RENDER_SECONDS
        done, fresh = 0, []
        for parcel in parcels:
            done += 1
            if parcel.intent.commands is None and self._rendered(parcel) and not parcel.path.same_store:
                fresh.append(parcel)
            if self._clock.monotonic() > until:
                break
        if fresh:  # nobody could make just these messages again
            for parcel, kept in zip(fresh, self._intents.keep([parcel.intent for parcel in fresh])):
                if not kept:
                    parcel.fate = Fate.TAKEN
        return [parcel for parcel in parcels[:done] if parcel.fate is Fate.OPEN], parcels[done:]

    def _rendered(self, parcel: Parcel) -> bool:
        assert parcel.occurrence is not None
        try:
            commands = self._outbox.render(parcel.occurrence, now=self._clock.now())
        except StoreError:
            raise
        except Exception as error:  # whatever it is, it is this entry's and no other's
            parcel.refuse(str(error) if isinstance(error, EntryError) else repr(error))
            return False
        parcel.intent = replace(parcel.intent, commands=commands)
        return True

    def _push(self, parcels: Sequence[Parcel]) -> None:
        """Settle by one script that also pushes the messages."""
        if not parcels:
            return
        results = self._intents.settle([Settlement(p.intent, self._unsent(p)) for p in parcels])
        for parcel, result in zip(parcels, results):
            if result.status is ClaimStatus.WON:
                self._sent(parcel, result.detail)
            elif result.status is ClaimStatus.LOST:
                parcel.fate = Fate.TAKEN
            else:
                parcel.refuse(result.detail)

    def _publish(self, parcels: Sequence[Parcel]) -> None:
        """Publish, and settle what was confirmed."""
        if not parcels:
            return
        confirmed, detail = [parcel for parcel in parcels if not self._unsent(parcel)], ""
        new = [parcel for parcel in parcels if self._unsent(parcel)]
        for parcel, publication in zip(new, self._outbox.publish([self._unsent(p) for p in new])):
            if publication.status is PublicationStatus.CONFIRMED:
                confirmed.append(parcel)
                self._remember(parcel)
            elif publication.status is not PublicationStatus.UNKNOWN:
                parcel.refuse(publication.detail)
                parcel.may_go_later = publication.status is PublicationStatus.FULL
            else:
                detail = detail or publication.detail or "no answer"
        if confirmed:
            self._intents.settle([Settlement(parcel.intent) for parcel in confirmed])
        for parcel in confirmed:
            self._sent(parcel, "")
        if detail:
            waiting = sum(parcel.fate is Fate.OPEN for parcel in parcels)
            self._report.open_intents = waiting
            self._report.broker_outage = f"The broker did not confirm {waiting} messages: {detail}"
            raise StoreUnavailable(self._report.broker_outage)

    def _unsent(self, parcel: Parcel) -> tuple[Command, ...]:
        """Its message, as far as this node has not sent it before."""
        return () if parcel.key in self._published else parcel.intent.commands or ()

    def forget(self, parcels: Sequence[Parcel]) -> None:
        """These were claimed anew, after a reset: that they were sent before does not count."""
        for parcel in parcels:
            self._published.pop(parcel.key, None)

    def _remember(self, parcel: Parcel) -> None:
        self._published[parcel.key] = None
        while len(self._published) > _REMEMBERED:
            self._published.popitem(last=False)

    def _sent(self, parcel: Parcel, detail: str) -> None:
        parcel.fate = Fate.SENT
        self._remember(parcel)
        due = parcel.intent.due if parcel.occurrence is None else parcel.occurrence.fires_at
        self._report.fire(self._clock.now() - due, helped=parcel.helped)
        if parcel.occurrence is not None:
            self._outbox.sent(parcel.occurrence)
        if detail:
            logger.error("Entry %r was fired only in part: %s", parcel.intent.name, detail)
        elif not parcel.intent.commands:
            logger.info("Entry %r sent nothing: its own code, or its routing, decided so", parcel.intent.name)

    # --- what was left open ---------------------------------------------------------------------------------

    def recover(self, *, due_from: datetime | None, due_until: datetime | None) -> None:
        """Take over and publish what this node or one that is gone left open; cheap when nothing was.

        What others left that was due before ``due_from``, or from ``due_until`` on, is for nodes of another
        config.

        Raises ``StoreUnavailable`` while there is something that cannot be published.
        """
        now = self._clock.monotonic()
        if not self._must_look and now < self._look_at:
            return
        taken = self._intents.take_over(
            self._node,
            token=self._new_token(6),
            older_than=self._lease,
            limit=self._batch_size,
            due_from=due_from,
            due_until=due_until,
        )
        self._look_at = now + self._lease.total_seconds() / 2
        self._must_look = False
        self._report.open_intents = len(taken)
        self.behind = False
        if taken:
            self._report.taken_over(len(taken))
            parcels = [self._parcel(intent, outgoing=due_until is not None) for intent in taken]
            self.deliver(parcels, began=now)
            refused = [parcel for parcel in parcels if parcel.fate is Fate.REFUSED]
            self._drop([parcel for parcel in refused if not parcel.may_go_later])
            self._must_look = self.behind or len(taken) == self._batch_size

    def merge(self) -> None:
        """Remove intents that Redis, being older, holds again though this node has settled them."""
        self._must_look = True
        _, found = self._intents.read(_REMEMBERED)
        sent = [Settlement(intent) for intent in found if (intent.name, intent.due) in self._published]
        if sent:
            self._intents.settle(sent)

    def _parcel(self, intent: Intent, *, outgoing: bool) -> Parcel:
        """What can be done about an intent that was taken over.

        A jitter may have carried it past the switch: an ``outgoing`` node leaves what it cannot make.
        """
        entry = self._catalog.get(intent.name)
        occurrence = None
        if entry is not None and entry.definition == intent.definition:
            occurrence = _occurrence(entry, intent.due)
        path = self._outbox.path(occurrence)
        parcel = Parcel(intent, path, occurrence, helped=True)
        if (intent.name, intent.due) in self._published:
            return parcel
        if self._at_most_once and intent.commands is not None and not path.same_store:
            parcel.refuse("it may have been sent before, and dispatch_delivery is at_most_once")
        elif intent.commands is None and occurrence is None:
            parcel.refuse("its entry left the catalog before its message was made")
            parcel.may_go_later = outgoing
        return parcel

    def _drop(self, parcels: Sequence[Parcel]) -> None:
        """Give up messages that cannot be sent; each is reported."""
        if not parcels:
            return
        results = self._intents.settle([Settlement(parcel.intent) for parcel in parcels])
        for parcel, result in zip(parcels, results):
            if result.status is not ClaimStatus.WON:
                continue  # another node has it now
            left = parcel.occurrence is None and parcel.intent.commands is None
            self._report.skip(1, Skip.LEFT if left else Skip.DROPPED)
            logger.error(
                "The occurrence of entry %r at %s is dropped: %s",
                parcel.intent.name, parcel.intent.due.isoformat(), parcel.detail,
            )  # fmt: skip


def _occurrence(entry: Entry, due: datetime) -> Occurrence:
    """An occurrence that was claimed before; where its schedule fails, its lag counts from its due."""
    try:
        return Occurrence(entry, due, entry.fires_at(due))
    except Exception:  # schedules run user code
        return Occurrence(entry, due)
