"""What is answered about schedules: values that are never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Literal

__all__ = ["Coming", "Origin", "Page", "Paused", "Schedule", "State"]

Origin = Literal["config", "run-time"]


class State(Enum):
    """How a schedule stands."""

    SCHEDULED = "scheduled"  #: it is fired when it is due
    PAUSED = "paused"  #: what it is due for is passed over and counted as skipped
    COMPLETED = "completed"  #: nothing is left to fire
    SHADOWED = "shadowed"  #: the config in force has an entry of this name, which is the one that is fired
    BROKEN = "broken"  #: it cannot be scheduled; ``error`` says why


@dataclass(frozen=True, slots=True)
class Paused:
    """That a schedule is paused: since when, why, and by whom."""

    at: datetime
    note: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule as it was when it was read.

    ``origin`` is ``"config"`` for an entry of ``beat_schedule``, ``"run-time"`` for one that was created.
    ``version`` is that of the last change at run time, 0 if there was none; give it to ``update`` or
    ``delete`` to change this very state.  ``definition`` has the shape of an item of ``beat_schedule``, in
    JSON's own types; it is ``None`` for an entry of the config that JSON cannot carry, or that this app does
    not have.

    ``last_due`` is the last occurrence that was fired or skipped, ``next_due`` the next one; both aware UTC.
    ``fired`` and ``skipped`` count occurrences since the schedule began.
    """

    name: str
    origin: Origin
    version: int
    definition: Mapping[str, Any] | None
    paused: Paused | None
    state: State
    last_due: datetime | None
    next_due: datetime | None
    fired: int
    skipped: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some schedules by name; give ``next`` as ``after`` to read on, it is ``None`` at the end."""

    items: tuple[Schedule, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Coming:
    """An occurrence that is to come: its due, and when it is fired, which a jitter makes later."""

    due: datetime
    fires_at: datetime
