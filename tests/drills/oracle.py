"""Which occurrences should exist, reckoned from the schedule alone.

Shares no code with the product.  Instants are whole milliseconds since the Unix epoch, as Redis tells them.
``anchor`` is the instant at which the schedule came into force; the first occurrence is later than it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Union
from zoneinfo import ZoneInfo

from cronsim import CronSim

__all__ = ["Cron", "Every", "Rule", "Schedule", "dues", "expected"]


@dataclass(frozen=True, slots=True)
class Every:
    """An interval on the grid ``anchor + k * seconds``.

    ``relative`` is Celery's: each due is cut to the unit of the interval (second, minute, hour), in UTC.
    """

    seconds: float
    relative: bool = False

    def after(self, anchor: int) -> Iterator[int]:
        step = round(self.seconds * 1000)
        if step <= 0:
            raise ValueError(f"an interval of {self.seconds} s has no grid")
        due = anchor
        while True:
            due += step
            if self.relative:
                due -= due % self._unit()
            yield due

    def _unit(self) -> int:
        if self.seconds < 1 or self.seconds != int(self.seconds):
            raise ValueError("a relative interval is reckoned here for whole seconds only")
        for unit in (3600, 60, 1):
            if self.seconds >= unit:
                return unit * 1000
        raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class Cron:
    """Minute, hour, day of month, month, day of week, as cron reads them in ``zone``."""

    expression: str = "* * * * *"
    zone: str = "UTC"

    def after(self, anchor: int) -> Iterator[int]:
        start = datetime.fromtimestamp(anchor / 1000, timezone.utc).astimezone(ZoneInfo(self.zone))
        for instant in CronSim(self.expression, start):
            yield round(instant.timestamp() * 1000)


Rule = Union[Every, Cron]
Schedule = Mapping[str, Rule]


def dues(rule: Rule, *, anchor: int, until: int) -> list[int]:
    """The dues in ``(anchor, until]``, in order."""
    found = []
    for due in rule.after(anchor):
        if due > until:
            break
        if due > anchor:
            found.append(due)
    return found


def expected(schedule: Schedule, *, anchor: int, until: int) -> set[tuple[str, int]]:
    """Every occurrence ``(entry, due)`` that should exist with a due in ``(anchor, until]``."""
    return {(name, due) for name, rule in schedule.items() for due in dues(rule, anchor=anchor, until=until)}
