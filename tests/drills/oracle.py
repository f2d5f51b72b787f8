"""Which occurrences should exist, reckoned from the schedule alone.

Shares no code with the product.  Instants are whole milliseconds since the Unix epoch, as Redis tells them.
``anchor`` is the instant at which the schedule came into force; the first occurrence is later than it.

Where configs follow each other, each is in force for an *era*, and an occurrence belongs to the config that
is in force at its due:

* an entry that goes on as it was keeps its grid;
* one that is new begins at the switch: its first occurrence is later;
* one whose interval changed, or that comes back, goes on from the last due that it had, with what is due at
  the switch or later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Union
from zoneinfo import ZoneInfo

from cronsim import CronSim

__all__ = [
    "Clock",
    "Cron",
    "Era",
    "Every",
    "Occurrence",
    "Rule",
    "Schedule",
    "dues",
    "expected",
    "expected_of",
]

Occurrence = tuple[str, int]


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


@dataclass(frozen=True, slots=True)
class Clock:
    """Whenever the seconds since 1970 are a multiple of ``step``, whatever came before."""

    step: int

    def after(self, anchor: int) -> Iterator[int]:
        due = anchor - anchor % (1000 * self.step)
        while True:
            due += 1000 * self.step
            yield due


Rule = Union[Every, Cron, Clock]
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


def expected(schedule: Schedule, *, anchor: int, until: int) -> set[Occurrence]:
    """Every occurrence ``(entry, due)`` that should exist with a due in ``(anchor, until]``."""
    return {(name, due) for name, rule in schedule.items() for due in dues(rule, anchor=anchor, until=until)}


@dataclass(frozen=True, slots=True)
class Era:
    """A config is in force from ``since`` until the next era; ``queues``: where its entries go, by name."""

    since: int
    schedule: Schedule
    queues: Mapping[str, str] = field(default_factory=dict)

    def queue(self, entry: str) -> str:
        return self.queues.get(entry, "celery")


def expected_of(
    eras: Sequence[Era], *, until: int, excused: Collection[Occurrence] = ()
) -> dict[Occurrence, Era]:
    """Every occurrence that should exist with a due up to ``until``, and the era that it belongs to.

    What is ``excused`` may never have been fired: it does not move the grid of a changed interval.
    """
    ends = [*(era.since for era in eras[1:]), until + 1]
    last: dict[str, int] = {}  # the last due, or anchor, of each entry that ever was
    found: dict[Occurrence, Era] = {}
    for era, end in zip(eras, ends):
        for name, rule in era.schedule.items():
            anchor = last.setdefault(name, era.since)
            known = dues(rule, anchor=anchor, until=min(end - 1, until))
            later = [due for due in known if due >= era.since]
            last[name] = next((due for due in reversed(later) if (name, due) not in excused), anchor)
            found.update(dict.fromkeys(((name, due) for due in later), era))
    return found
