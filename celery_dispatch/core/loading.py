"""Which entries a node holds, and from where each of them goes on.

A new view gives a node other ranks, or another fence.  What that changes is noted at once and carried out in
slices, so that a large schedule never keeps the loop from firing:

* an entry that is not this node's any more is dropped, one whose rank changed gets another alarm;
* an entry whose owner has left is its standby's at once, before the new ring is known;
* an entry that is newly its own, or that goes on under another fence, has its cursor read;
* one without a cursor is anchored where its config comes into force, and one that was buried longer than the
  grace begins anew;
* one that is created, changed or deleted at run time is looked at at once, and so is one whose cursor turns
  out to stand under a row that this node does not know: that row is read;
* one whose cursor cannot be read, or that cannot be scheduled, is reported; the first is looked at again from
  time to time;
* all that is held is compared with the ledger in turn, some hundreds each heartbeat, so that a cursor that a
  person has reset is followed, and one that Redis has lost is missed, long before it is due.

A cursor that is behind what this node knows is never taken over: the node becomes suspicious.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import chain, islice
from operator import ne

from celery_dispatch.core.alarms import Alarms
from celery_dispatch.core.catalog import LiveCatalog
from celery_dispatch.core.clock import PoolClock, whole_ms
from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.following import Following
from celery_dispatch.core.pool import View
from celery_dispatch.core.ports import Claim, Damaged, Ledger, Stored
from celery_dispatch.core.recovery import is_behind
from celery_dispatch.core.recurrence import is_polled
from celery_dispatch.core.report import NodeReport
from celery_dispatch.core.ring import OTHER, OWNER, SLOTS, STANDBY, slot_of
from celery_dispatch.core.sweep import GRACE
from celery_dispatch.core.timeline import Item, Timeline
from celery_dispatch.errors import EntryError

__all__ = ["Loading"]

logger = logging.getLogger(__name__)

_DAMAGED_WAIT = 10.0  # seconds between looks at a cursor that cannot be read
_ANCHOR_WINDOW = timedelta(seconds=60)  # how long after a switch a name without a cursor counts as new
_SLICE = 500  # entries whose cursors are read in one turn
_SLICE_SECONDS = 0.02
_SIDE_BY_SIDE = 20  # items that share an order, which is an object of its own


class Loading:
    """Keeps a timeline in line with the view.

    ``suspicious`` is set when the ledger turns out to have lost what this node knows, ``ranks_changed`` when
    something is held, dropped or has another rank.
    """

    def __init__(
        self,
        *,
        node: str,
        catalog: LiveCatalog,
        following: Following,
        timeline: Timeline,
        alarms: Alarms,
        ledger: Ledger,
        clock: PoolClock,
        report: NodeReport,
        interval: timedelta,
    ) -> None:
        self.suspicious = False
        self.ranks_changed = True
        self._node = node
        self._catalog = catalog
        self._following = following
        self._timeline = timeline
        self._alarms = alarms
        self._ledger = ledger
        self._clock = clock
        self._report = report
        self._slots = array("H", map(slot_of, catalog.config_names))  # in their order
        self._added: dict[str, int] = {}  # names in force because of their rows, and their slots
        self._made = 0  # items, of all that were held
        self._order = 0  # that of the last of them
        self._mine = bytes([OTHER]) * SLOTS
        self._inherited: list[str] = []  # what this node is the owner of only until the ring is a new one
        self._opened: Fence | None = None  # it came into force just before this node began to load for it
        self._pending: dict[str, bool] = {}  # name → whether its cursor must be read even if it is held
        self._recovered = False  # just before this node began to load
        self._damaged: set[str] = set()
        self._damaged_at = 0.0
        self._interval = interval.total_seconds()
        self._round: Iterator[str] = iter(())  # what is still to be compared
        self._compare_at = 0.0

    @property
    def done(self) -> bool:
        """Whether nothing is left to be done."""
        return not self._pending

    def note(self, before: View | None, view: View) -> None:
        """Note what a new view changes; the work is done in slices by ``turn``."""
        if before is not None and before.recovery and not view.recovery:
            self._recovered = True
        renewed = before is None or before.own != view.own
        again = renewed or before is None or before.until != view.until
        must_read = renewed and view.in_force
        if renewed:
            self._opened = view.own if self._is_recent(view.own) else None
        if again or view.mine != self._mine:
            changed = bytes(map(ne, view.mine, self._mine))
            named = chain(zip(self._catalog.config_names, self._slots), self._added.items())
            moved = [name for name, slot in named if again or changed[slot]]
            for name in moved:
                self._pending[name] = must_read or self._pending.get(name, False)
        for name in self._inherited:  # whose rank may be the one before
            self._pending.setdefault(name, False)
        self._inherited.clear()
        self._mine = view.mine

    def inherit(self, view: View) -> None:
        """Be the owner of what this node stands by for and whose owner is gone, until the ring is a new one.

        What cannot be looked through in a slice waits for that.
        """
        now, until = self._clock.now(), self._clock.monotonic() + _SLICE_SECONDS
        for item in self._timeline if view.gone else ():
            if item.rank == STANDBY and view.ranks.owner(item.entry.name) in view.gone:
                self._alarms.re_rank(item, OWNER, now)
                self.ranks_changed = True
                self._inherited.append(item.entry.name)
            if self._clock.monotonic() > until:
                break

    def changed(self, names: Collection[str]) -> None:
        """Note that something else was said of these at run time."""
        for name in names:
            item = self._timeline.get(name)
            if item is not None:
                item.replaced = True
            if self._catalog.is_defined_by_row(name):
                self._added[name] = slot_of(name)
            elif self._added.pop(name, None) is not None:
                self._drop(name)
        self.look_at(names)

    def look_at(self, names: Iterable[str]) -> None:
        """Note that the cursors of these must be read, where they are or should be held."""
        for name in names:
            if self._timeline.get(name) is not None or self._rank(self._mine, name) != OTHER:
                self._pending[name] = True

    def _is_in_force(self, name: str) -> bool:
        return name in self._catalog.config_names or name in self._added

    def _rank(self, mine: bytes, name: str) -> int:
        """The rank that an entry has by those of all slots; ``OTHER`` where it is not in force."""
        return mine[slot_of(name)] if self._is_in_force(name) else OTHER

    def turn(self, view: View) -> bool:
        """Bring a slice of the noted entries in line with the view; whether that was the last of them.

        Raises ``StoreError`` and ``FencedError``.
        """
        self._retry_damaged()
        unread = self.re_rank(view)
        if unread:
            self._hold_all(view, unread, self._ledger.read(unread))
        self._report.loading = len(self._pending)
        if self.done:
            self._pending = {}  # one that was emptied keeps its size
            self._opened, self._recovered = None, False
            if view.role.fires:
                self._compare_some(view)
        return self.done

    def re_rank(self, view: View) -> list[str]:
        """Drop or re-rank what needs no reading, a slice at most; the names whose cursors must be read."""
        now, until = self._clock.now(), self._clock.monotonic() + _SLICE_SECONDS
        done, unread = [], []
        for name, must_read in self._pending.items():
            rank, item = self._rank(view.mine, name), self._timeline.get(name)
            if rank == OTHER:
                self._drop(name)
                done.append(name)
            elif item is not None and not must_read:
                self._alarms.re_rank(item, rank, now)
                self.ranks_changed = True
                done.append(name)
            else:
                unread.append(name)
            if len(unread) == _SLICE or self._clock.monotonic() > until:
                break
        for name in done:
            del self._pending[name]
        return unread

    def _drop(self, name: str) -> None:
        self._timeline.drop(name)
        self.ranks_changed = True
        self._damaged.discard(name)
        self._report.well(name)

    def _hold_all(self, view: View, names: list[str], stored: Iterable[Stored]) -> None:
        """Hold the entries whose cursors were read, after anchoring those that have none."""
        cursors = dict(zip(names, stored))
        claims = []
        for name in self._known(cursors):
            claim = self._opening(view, name, cursors[name])
            if claim is None:
                self._hold(view, name, cursors[name])
            elif view.in_force:
                claims.append(claim)
            else:  # it begins, or begins anew, under the config that is about to be in force
                self._pending.pop(name, None)
        if not claims:
            return
        assert view.own is not None
        reply = self._ledger.claim(view.own, claims)
        for claim, result in zip(claims, reply.results):
            self._hold(view, claim.name, result.stored)

    def _known(self, cursors: Mapping[str, Stored]) -> list[str]:
        """Those that can be judged, after the rows were read that their cursors stand under.

        Rows are read after cursors: what then does not fit has gone apart, unless somebody wrote meanwhile.
        """
        apart = [name for name, cursor in cursors.items() if self._is_apart(name, cursor)]
        lost = self._following.learn(apart) if apart else ()
        self.changed([name for name in apart if name not in lost])
        for name in cursors:
            if self._catalog.is_damaged(name):
                self._give_up(name, "what was said of it at run time cannot be read")
        return [name for name in cursors if self._is_left(name) and name not in lost]

    def _is_left(self, name: str) -> bool:
        """Whether it is in force, and still to be looked at."""
        return self._is_in_force(name) and name in self._pending

    def _give_up(self, name: str, reason: str) -> None:
        """Hold it not, and look at it again after a while."""
        self._pending.pop(name, None)
        self._drop(name)
        self._damaged.add(name)
        if self._report.error(name, reason):
            logger.error("Entry %r is not fired: %s", name, reason)

    def _is_apart(self, name: str, stored: Stored) -> bool:
        return isinstance(stored, Cursor) and stored.change != self._catalog.version(name)

    def _opening(self, view: View, name: str, stored: Stored) -> Claim | None:
        """The claim that an entry needs before it can be held: an anchor, or a cursor under its row."""
        assert view.own is not None
        item = self._timeline.get(name)
        if stored is None:
            waits = item is not None or self._may_come_back(view, name)
            return None if waits else Claim(name, None, self._anchor(name, view.own))
        if isinstance(stored, Damaged) or (item is not None and is_behind(stored, item.cursor)):
            return None
        by_row = self._catalog.is_defined_by_row(name)
        if self._is_apart(name, stored) or (by_row and stored.is_tombstone):
            return Claim(name, stored, self._under_its_row(name, stored))
        if by_row or not stored.is_tombstone or view.own.since - stored.effective_from <= GRACE:
            return None
        return Claim(name, stored, replace(self._anchor(name, view.own), revision=stored.revision + 1))

    def _may_come_back(self, view: View, name: str) -> bool:
        """Whether a cursor is gone that another node may know: then the pool has to recover first."""
        if not view.in_force or self._recovered or self._is_new(name, view.own):
            return False
        self.suspicious = True
        return True

    def _is_new(self, name: str, fence: Fence | None) -> bool:
        """Whether it is no wonder that there is no cursor: its config came into force just now."""
        recent = fence is not None and (fence == self._opened or self._is_recent(fence))
        return recent and not self._catalog.is_defined_by_row(name)

    def _under_its_row(self, name: str, stored: Cursor) -> Cursor:
        definition = self._catalog.definition(name) if self._catalog.is_defined_by_row(name) else None
        return stored.stand_under(
            self._catalog.version(name),
            stored.definition if definition is None else definition,
            whole_ms(self._clock.now()),
            self._node,
        )

    def _anchor(self, name: str, fence: Fence) -> Cursor:
        """Where an entry without a cursor begins: when its config comes into force.

        If that was long before this node began to load, the name is not new, and its cursor was removed or
        lost, and no live node knew it.  What was fired since is then unknown, and it begins now rather than
        fire all of that again.
        """
        change = self._catalog.version(name)
        anchor = Cursor.anchor(self._catalog.definition(name) or "", fence.since, self._node, change=change)
        if self._is_new(name, fence):
            return anchor
        logger.warning("Entry %r has no cursor any more; it begins anew, now", name)
        return replace(anchor, due=whole_ms(self._clock.now()))

    def _is_recent(self, fence: Fence | None) -> bool:
        return fence is not None and self._clock.now() - fence.since <= _ANCHOR_WINDOW

    def _hold(self, view: View, name: str, stored: Stored) -> None:
        item = self._timeline.get(name)
        if isinstance(stored, Damaged):
            self._pending.pop(name, None)
            self._damaged.add(name)
            self._report.error(name, f"its cursor is {stored}")
            return
        if item is not None and is_behind(stored, item.cursor):
            self.suspicious = True  # still pending: look again when the pool has recovered
            return
        if stored is None:
            return  # an anchor that another node's reset overtook: look again
        if self._is_apart(name, stored):
            self._pending[name] = True  # its row is to be read, or somebody wrote meanwhile
            return
        item = self._item(name, stored, item)
        self._pending.pop(name, None)
        if item is not None:
            item.cursor, item.rank, item.replaced = stored, self._rank(view.mine, name), False
            self._alarms.reckon(item, self._clock.now())
            self.ranks_changed = True

    def _item(self, name: str, cursor: Cursor, item: Item | None) -> Item | None:
        """What the timeline holds of it under the row that is known; ``None`` if it cannot be scheduled."""
        row = self._catalog.row(name)
        if item is not None and item.row is row:
            return item
        self._drop(name)
        try:
            entry = self._catalog.entry(name)
        except EntryError as error:
            if self._report.error(name, str(error)):
                logger.error("Entry %r is not fired: %s", name, error)
            return None
        self._report.well(name)
        polled = is_polled(entry.recurrence)
        self._made += 1
        if self._made % _SIDE_BY_SIDE == 0:
            self._order += 1
        return Item(entry, cursor, OTHER, cursor.due, self._order, polled, row=row)

    def _retry_damaged(self) -> None:
        if self._damaged and self._clock.monotonic() >= self._damaged_at:
            self._damaged_at = self._clock.monotonic() + _DAMAGED_WAIT
            self._pending.update(dict.fromkeys(self._damaged, True))
            self._damaged.clear()

    def _compare_some(self, view: View) -> None:
        """See for a slice of what is held whether the ledger has it as this node knows it."""
        if self._clock.monotonic() < self._compare_at:
            return
        self._compare_at = self._clock.monotonic() + self._interval
        names = list(islice(self._round, _SLICE))
        if not names:
            self._round = iter([item.entry.name for item in self._timeline])
            names = list(islice(self._round, _SLICE))
        for name, stored in zip(names, self._ledger.read(names) if names else []):
            item = self._timeline.get(name)
            if item is not None and item.attempt is None and stored != item.cursor:
                self._hold(view, name, stored)
