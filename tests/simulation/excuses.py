"""When what ought not to be is nobody's fault: what the guarantees except, and no more.

"Well" is a process that ran, and reached store and broker, for all of the time in question.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from celery_dispatch.core.entry import Cursor
from celery_dispatch.core.ports import Intent
from tests.simulation.editor import EDITS
from tests.simulation.history import Harms, Loss
from tests.simulation.loop import Loop
from tests.simulation.plan import Event, Plan
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.witness import Push

__all__ = ["Excuses"]

_ANCHOR_WINDOW = 60.0  # seconds after a switch in which a name is new
_OF_ONE_NODE = (
    "start",
    "stop",
    "kill",
    "pause",
    "cut",
    "deaf",
    "flaky",
    "point",
    "nobroker",
    "drain",
    "undrain",
)


class Excuses:
    """Judges by the histories that the witness keeps."""

    def __init__(
        self,
        plan: Plan,
        loop: Loop,
        *,
        harms: Harms,
        losses: Sequence[Loss],
        processes: Sequence[Process],
        best: dict[str, Cursor],
        events: Sequence[Event],
    ) -> None:
        settings = plan.settings
        self._lease, self._same_store = settings.lease, settings.same_store
        self._while = 3 * settings.lease + 3 * settings.interval
        self._loop, self._harms, self._losses = loop, harms, losses
        self._processes, self._best, self._events = processes, best, events
        self.resets: list[tuple[str, float]] = []  # entry, and when a person reset its cursor

    def repetition(self, occurrence: tuple[str, datetime], last: Push) -> bool:
        """The store lost what nobody knew; or the broker is another one, and somebody was harmed."""
        now = self._loop.now
        if not self._same_store and self._harms.to_any(last.at - self._while, now):
            return True
        if any(name == occurrence[0] and at >= last.at for name, at in self.resets):
            return True
        return any(
            not loss.remembers(occurrence[0], last.cursor, self._harms, now)
            or (occurrence in loss.back and not loss.remembers_sending(occurrence, self._harms, now))
            for loss in self._losses
            if loss.at >= last.at
        )

    def unwanted(self, occurrence: tuple[str, datetime], since: float) -> bool:
        """Its entry was removed or paused ``since``; the store has an intent of it again that it had lost, or
        somebody was harmed who was about to send it to another broker."""
        if any(occurrence in loss.back for loss in self._losses):
            return True
        return not self._same_store and self._harms.to_any(since - self._while, self._loop.now)

    def late_anchor(self, name: str) -> bool:
        """Somebody who could have anchored it was harmed; or the store lost what nobody knew of it."""
        now, best = self._loop.now, self._best.get(name)
        if best is not None:
            return any(not loss.remembers(name, best, self._harms, now) for loss in self._losses)
        return self._harms.to_any(now - self._while - _ANCHOR_WINDOW, now)

    def late(self, config: str, lag: float, *, helped: bool) -> bool:
        """Something happened to the pool, and if nobody ``helped`` within a handover: more than one thing, or
        one to all of it, or nobody was there to help."""
        now = self._loop.now
        since = now - lag - self._while
        recent = [it for it in self._events if self._is_over(it) >= since and it.what not in EDITS]
        if helped or not recent:
            return bool(recent)
        if len(recent) > 1 or any(event.what not in _OF_ONE_NODE for event in recent):
            return True
        drained = {event.node for event in self._events if event.what == "drain"}
        return not any(
            it.catalog.fingerprint == config and it.name not in drained and self._is_well(it, since, now)
            for it in self._processes
        )

    def _is_over(self, event: Event) -> float:
        return event.at + abs(event.seconds) + (self._lease if event.what == "point" else 0.0)

    def left_behind(self, name: str, definition: str) -> bool:
        """Of the nodes that had this definition, more than one was harmed or ended, or none is well.

        What befell everybody is no excuse: they have their time when it is over.
        """
        since, now = self._loop.now - self._while, self._loop.now
        if any(loss.at >= since for loss in self._losses):
            return True
        had = [it for it in self._processes if it.defines(name, definition) and it.ended > since]
        well = [it for it in had if self._lived(it, since, now) and not self._harms.of(it.name, since, now)]
        return len(had) - len(well) > 1 or not well

    def dropped(self, intent: Intent) -> bool:
        """Nobody who could make its message was well."""
        since, now = self._loop.now - self._lease, self._loop.now
        return not any(
            it.defines(intent.name, intent.definition) and self._is_well(it, since, now)
            for it in self._processes
        )

    def _is_well(self, process: Process, since: float, until: float) -> bool:
        return self._lived(process, since, until) and not self._harms.to(process.name, since, until)

    def _lived(self, process: Process, since: float, until: float) -> bool:
        return process.began < since and process.ended > until
