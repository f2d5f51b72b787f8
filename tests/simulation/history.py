"""What was the case when: the config in force, who was harmed, and what a store that lost writes had known.

Pool instants are datetimes, by the store's clock, which may be put forward and back; seconds are true time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.rows import Row
from tests.simulation.process import Process

__all__ = ["Eras", "Harms", "Knowledge", "Loss", "progress"]


def progress(cursor: Cursor) -> tuple[int, bool, datetime]:
    """What orders two cursors of one entry."""
    return cursor.revision, cursor.fired + cursor.skipped > 0, cursor.due


class Eras:
    """Which config was in force when, as the pool said; a switch that was replaced in time never took place.

    A config that was gone again before its cursors could be swept leaves no trace (``core/sweep.py``): its
    time may count as that of its neighbours.  Where a store forgot a switch, both are right in between.
    """

    def __init__(self) -> None:
        self._swept: set[datetime] = set()
        self.fences: list[Fence] = []
        self._doubts: list[tuple[datetime, datetime, str]] = []
        self._latest: datetime | None = None  # the pool's time so far

    def look(self, fence: Fence | None, now: datetime, *, swept: datetime | None) -> Fence | None:
        """Note the fence that the pool has, and which is ``swept``; returns the fence where it is new."""
        if swept is not None:
            self._swept.add(swept)
        before = self._latest or now
        self._latest = max(before, now)
        if fence is None or (self.fences and fence == self.fences[-1]):
            return None
        if self.fences and fence.since <= self.fences[-1].since:
            self._forgotten(fence, now)
        else:
            if self.fences and self.fences[-1].since > before:
                self.fences.pop()
            self.fences.append(fence)
        return fence

    def _forgotten(self, fence: Fence, now: datetime) -> None:
        """The store is back at an older switch, or at one of another history."""
        last = self.fences[-1]
        since = min(fence.since, last.since)
        self._doubts += [(since, max(now, last.since), config) for config in (fence.config, last.config)]
        self.fences.append(Fence(fence.config, max(now, last.since)))

    def at(self, due: datetime) -> set[str]:
        """The configs that what is due at ``due`` may belong to."""
        found = {config for since, until, config in self._doubts if since <= due <= until}
        for place in range(len(self.fences) - 1, -1, -1):
            if self.fences[place].since <= due:
                return found | set(self._around(place))
        return found

    def _around(self, place: int) -> Iterator[str]:
        yield self.fences[place].config
        if place + 1 < len(self.fences) and self.fences[place].since not in self._swept:
            yield self.fences[place + 1].config
            if place:
                yield self.fences[place - 1].config


@dataclass(frozen=True, slots=True)
class _Span:
    node: str
    since: float
    until: float


class Harms:
    """Who could not do what it should, and when; ``""`` is everybody."""

    def __init__(self) -> None:
        self._spans: list[_Span] = []

    def note(self, node: str, since: float, until: float) -> None:
        self._spans.append(_Span(node, since, until))

    def to(self, node: str, since: float, until: float) -> bool:
        """Whether ``node`` was harmed within ``[since, until]``, or everybody was."""
        return any(
            span.since <= until and since <= span.until and span.node in ("", node) for span in self._spans
        )

    def of(self, node: str, since: float, until: float) -> bool:
        """Whether ``node`` alone was."""
        return any(span.node == node and span.since <= until and since <= span.until for span in self._spans)

    def to_all(self, since: float, until: float) -> bool:
        """Whether everybody was."""
        return self.to("", since, until)

    def to_any(self, since: float, until: float) -> bool:
        """Whether anybody was."""
        return any(span.since <= until and since <= span.until for span in self._spans)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What ``process`` knew when the store lost writes: cursors, rows, and which intents it had sent."""

    process: Process
    cursors: dict[str, Cursor]
    rows: dict[str, Row]
    sent: frozenset[tuple[str, datetime]]


@dataclass(slots=True)
class Loss:
    """The store lost writes at ``at``; the recovery from that was over at ``ended``.

    ``back`` are intents that the store holds again; ``gone`` those that it has no more.
    """

    at: float
    pool_at: datetime
    knowledge: list[Knowledge]
    back: frozenset[tuple[str, datetime]]
    gone: frozenset[tuple[str, datetime]]
    ended: float | None = None
    recovering: str = field(default="")

    def remembers(self, name: str, cursor: Cursor, harms: Harms, now: float) -> bool:
        """Whether somebody knew ``cursor`` and was well until the recovery was over."""
        return any(
            (known := it.cursors.get(name)) is not None
            and progress(known) >= progress(cursor)
            and self._is_well(it.process, harms, now)
            for it in self.knowledge
        )

    def remembers_sending(self, occurrence: tuple[str, datetime], harms: Harms, now: float) -> bool:
        """Whether somebody knew that its message was sent, and was well until the recovery was over."""
        return any(occurrence in it.sent and self._is_well(it.process, harms, now) for it in self.knowledge)

    def remembered_rows(self, harms: Harms, now: float) -> dict[str, Row]:
        """The latest rows that somebody knew who was well until the recovery was over."""
        latest: dict[str, Row] = {}
        for it in self.knowledge:
            for name, row in it.rows.items() if self._is_well(it.process, harms, now) else ():
                if name not in latest or row.version > latest[name].version:
                    latest[name] = row
        return latest

    def _is_well(self, process: Process, harms: Harms, now: float) -> bool:
        until = now if self.ended is None else self.ended
        return process.ended > until and not harms.to(process.name, self.at, until)
