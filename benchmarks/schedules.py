"""What the entries of a benchmark are due at: described in a few words, and made by each process itself.

A hundred thousand entries as a document would have to be read by each process, and would be timed with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from celery.schedules import crontab, schedule

__all__ = ["TASK", "Group", "entries_of"]

TASK = "bench.task"
_HOUR_BITS = 10
_HOURS, _DAYS = 24, range(1, 32)


@dataclass(frozen=True, slots=True)
class Group:
    """``count`` entries of one kind.

    ``interval``: every ``seconds``, all at the same instants.
    ``stream``: every 0.7 to 1.3 times ``seconds``, no two quite alike, so that they are due one by one.
    ``crontab``: each another crontab, all due at the minutes from ``first`` on, ``seconds`` / 60 of them;
    ``first`` is an aware instant in ISO format.
    ``last_run`` is what stock beat and RedBeat count an interval from (ISO); ours does not look at it.
    """

    kind: str
    count: int
    seconds: float
    first: str = ""
    last_run: str = ""

    def schedules(self) -> list[Any]:
        """Celery's schedules, one for each entry."""
        if self.kind == "interval":
            return [schedule(timedelta(seconds=self.seconds))] * self.count
        if self.kind == "stream":
            return [schedule(timedelta(milliseconds=ms)) for ms in stream(self.count, self.seconds)]
        if self.kind == "crontab":
            first = datetime.fromisoformat(self.first)
            fields = Fields.due_from(first, round(self.seconds / 60))
            return [fields.crontab(number) for number in range(self.count)]
        raise ValueError(f"there is no kind {self.kind!r} of entries")


def stream(count: int, seconds: float) -> list[int]:
    """Intervals in whole ms, evenly between 0.7 and 1.3 times ``seconds``."""
    return [round(1000 * seconds * (0.7 + 0.6 * number / max(1, count - 1))) for number in range(count)]


@dataclass(frozen=True, slots=True)
class Fields:
    """What distinct crontabs have in common: the minutes of an hour, on a day, at which all are due.

    Each crontab has further hours and days of the month, and no other has the same.
    """

    minutes: str
    hours: tuple[int, ...]
    days: tuple[int, ...]

    @classmethod
    def due_from(cls, first: datetime, minutes: int) -> Fields:
        """All are due at ``first``, a whole minute, and at each minute after it, ``minutes`` in all."""
        dues = [first + timedelta(minutes=number) for number in range(minutes)]
        days: list[date] = [due.date() for due in dues]
        return cls(
            ",".join(str(minute) for minute in sorted({due.minute for due in dues})),
            tuple(sorted({due.hour for due in dues})),
            tuple(sorted({day.day for day in days})),
        )

    def crontab(self, number: int) -> crontab:
        """The crontab of that number, less than two to the power of 32."""
        further_hours = [hour for hour in range(_HOURS) if hour not in self.hours][:_HOUR_BITS]
        further_days = [day for day in _DAYS if day not in self.days]
        hours = (*self.hours, *_chosen(further_hours, number % (1 << _HOUR_BITS)))
        days = (*self.days, *_chosen(further_days, number >> _HOUR_BITS))
        return crontab(self.minutes, _listed(hours), "*", _listed(days), "*")


def _chosen(values: list[int], bits: int) -> list[int]:
    return [value for place, value in enumerate(values) if bits >> place & 1]


def _listed(values: tuple[int, ...]) -> str:
    return ",".join(map(str, sorted(values)))


def entries_of(groups: list[Group]) -> dict[str, dict[str, Any]]:
    """The ``beat_schedule`` of these groups; an entry is called after its group and its number."""
    found: dict[str, dict[str, Any]] = {}
    for order, group in enumerate(groups):
        last_run = {"last_run_at": datetime.fromisoformat(group.last_run)} if group.last_run else {}
        for number, when in enumerate(group.schedules()):
            name = f"{order}-{group.kind}-{number:06}"
            found[name] = {"task": TASK, "schedule": when, "args": (name,), **last_run}
    return found
