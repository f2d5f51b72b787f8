"""Recurrences whose dues are easily counted: by the product's protocol, and by the witness for itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

__all__ = ["EPOCH", "TICK", "Asked", "Grid"]

EPOCH = datetime(2030, 1, 1, tzinfo=timezone.utc)
TICK = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Grid:
    """Every ``seconds``: from the last due, as an interval, or ``fixed`` to the calendar, as a crontab."""

    seconds: float
    fixed: bool = False

    @property
    def _step(self) -> timedelta:
        return timedelta(seconds=self.seconds)

    def _origin(self, last: datetime) -> datetime:
        return EPOCH if self.fixed else last

    def following(self, last: datetime, after: datetime) -> datetime:
        origin = self._origin(last)
        return origin + self._step * ((after - origin) // self._step + 1)

    def latest(self, last: datetime, now: datetime) -> tuple[datetime, int] | None:
        count = self.count(last, after=last, until=now)
        origin = self._origin(last)
        return (origin + self._step * ((now - origin) // self._step), count - 1) if count > 0 else None

    def count(self, last: datetime, *, after: datetime, until: datetime) -> int:
        """How many dues lie in ``(after, until]``."""
        origin = self._origin(last)
        return max(0, (until - origin) // self._step - (after - origin) // self._step)


@dataclass(frozen=True, slots=True)
class Asked:
    """A schedule that only knows whether it is due now: when ``seconds`` have passed since it last ran."""

    seconds: float

    def poll(self, last: datetime, now: datetime) -> tuple[bool, timedelta]:
        wait = last + timedelta(seconds=self.seconds) - now
        return wait <= timedelta(0), wait
