"""Somebody who changes at run time what is fired, and asks again until there is an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from celery_dispatch.core.clock import whole_ms
from celery_dispatch.core.ports import Change, ChangeStatus
from celery_dispatch.core.rows import Pause, Row
from celery_dispatch.errors import FencedError, StoreUnavailable
from celery_dispatch.testing import MemoryRows, MemoryStore
from tests.simulation.loop import Loop
from tests.simulation.plan import Event, Plan, Spec

__all__ = ["EDITS", "Editor", "edited"]

#: Create, update and delete an entry; hold (pause) and release (resume) one, or all.
EDITS = ("create", "update", "delete", "hold", "release")

_WAY = 0.01  # seconds that a message is on its way at most
_LOST = 0.2  # of the answers
_AGAIN = 0.3  # seconds until it is asked again


def edited(event: Event) -> str:
    """The name of the entry that an edit is of, empty for all."""
    return Spec.from_text(event.detail).name if event.detail.startswith("{") else event.detail


class Editor:
    """Carries edits out by the protocol of rows; ``written`` hears of each call that was carried out."""

    def __init__(self, plan: Plan, loop: Loop, store: MemoryStore, written: Callable[[Change], None]) -> None:
        self._loop, self._store, self._written = loop, store, written
        self._rows = MemoryRows(store)
        self._patience = 2 * plan.settings.lease
        self._random = Random(f"{plan.seed} editor")
        self._asked: dict[str, list[Event]] = {}  # by name, in their order

    def edit(self, event: Event) -> None:
        """``detail``: the spec of what is created or updated, or the name; empty for all."""
        name = edited(event)
        asked = self._asked.setdefault(name, [])
        asked.append(event)
        if len(asked) == 1:
            self._loop.task_at(self._loop.now, lambda: self._go_through(name, asked))

    def _go_through(self, name: str, asked: list[Event]) -> None:
        while asked:
            self._edit(asked[0], name)
            del asked[0]

    def _edit(self, event: Event, name: str) -> None:
        until, change = self._loop.now + self._patience, None
        while self._loop.now < until:
            try:
                change = change or self._decide(event, name)
                if change is None or self._carry_out(change):
                    break
                change = None  # somebody was faster
            except (StoreUnavailable, FencedError):
                self._loop.wait(self._loop.now + _AGAIN)

    def _carry_out(self, change: Change) -> bool:
        self._travel()
        (result,) = self._rows.change([change])
        self._written(change)
        self._travel()
        if self._random.random() < _LOST:
            raise StoreUnavailable("the answer is lost")
        return result.status is not ChangeStatus.STALE

    def _decide(self, event: Event, name: str) -> Change | None:
        """The change, made from what is stored; ``None`` if there is nothing to do."""
        self._travel()
        (row,) = self._rows.read([name])
        now = whole_ms(self._store.now())
        assert row is None or isinstance(row, Row)
        defined, paused = bool(row and row.definition), bool(row and row.is_paused)
        change = Change(name, row, f"{self._random.getrandbits(64):x}", now, now)
        if row is not None:
            change = replace(change, created=row.created, definition=row.definition, pause=row.pause)
        if event.what in ("create", "update"):
            possible = defined is (event.what == "update")
            return replace(change, definition=event.detail) if possible else None
        if event.what == "delete":
            return replace(change, definition="", pause=None, drops_intents=True) if defined else None
        if event.what == "hold":
            return None if paused else replace(change, pause=Pause(now), drops_intents=True)
        if not paused:
            return None
        assert row is not None and row.pause is not None
        return replace(change, pause=replace(row.pause, until=now))

    def _travel(self) -> None:
        self._loop.wait(self._loop.now + self._random.random() * _WAY)
