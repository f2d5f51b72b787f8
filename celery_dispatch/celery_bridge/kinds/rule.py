"""Recurrence rules of RFC 5545 as calendars, read by python-dateutil.

dateutil steps from the rule's beginning to wherever it is asked.  Here it is asked from a beginning nearby: a
whole number of periods later than the true one, with what the rule took from that (the day of the month, …)
said outright, so that the times are the same.  A rule with a COUNT is counted from its beginning, once.

What would keep dateutil busy for long is refused: rules that are never due, those whose one period holds
more times than anybody would write down, and those for which it would look at each second of a year.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from dateutil.rrule import rrule, rrulestr

from celery_dispatch.errors import EntryError

__all__ = ["INTERVALS", "Rule", "parts_of"]

#: The frequencies of rules that are intervals rather than times of the day.
INTERVALS = ("HOURLY", "MINUTELY", "SECONDLY")

_PERIODS = {
    "WEEKLY": timedelta(weeks=1),
    "DAILY": timedelta(days=1),
    "HOURLY": timedelta(hours=1),
    "MINUTELY": timedelta(minutes=1),
    "SECONDLY": timedelta(seconds=1),
}
_DAYS = {"YEARLY": 366, "MONTHLY": 31, "WEEKLY": 7, "DAILY": 1}
_DAY_PARTS = ("BYWEEKNO", "BYYEARDAY", "BYMONTHDAY", "BYDAY", "BYWEEKDAY", "BYEASTER")
_TIME_PARTS = ("BYHOUR", "BYMINUTE", "BYSECOND")
_TIMES_WITHIN = {"HOURLY": 1, "MINUTELY": 2, "SECONDLY": 3}  # parts of the time that choose the period itself
_MOST_TIMES = 20_000  # in one period
_MOST_TIMES_OFTEN = 100  # in one of an hour or less, of which there are many
_MOST_COUNTED = 10_000
# dateutil looks as far as the year 9999, so from here not for long.
_LAST_YEARS = datetime(9950, 1, 1)  # noqa: DTZ001 — by the wall clock
_LONGEST = 1_000  # characters


def parts_of(rule: object) -> dict[str, str]:
    """``FREQ=DAILY;INTERVAL=2`` by part, in capitals; ``EntryError`` if it is no such text."""
    if not isinstance(rule, str) or len(rule) > _LONGEST:
        raise EntryError(f"rrule rule = {rule!r:.80}: use text such as 'FREQ=MONTHLY;BYDAY=-1FR'")
    parts: dict[str, str] = {}
    for part in filter(None, rule.upper().replace(" ", "").split(";")):
        name, is_said, value = part.partition("=")
        if not is_said or name in parts:
            raise EntryError(f"rrule rule = {rule!r:.80}: {part!r} is not NAME=VALUE, or is said twice")
        parts[name] = value
    for name, most in (("INTERVAL", 10**6), ("COUNT", _MOST_COUNTED)):
        value = parts.get(name, "1")
        if not (value.isdecimal() and len(value) < 10 and 0 < int(value) <= most):
            cure = f"use 1 to {most:,}" + (", or the dispatch option count" if name == "COUNT" else "")
            raise EntryError(f"rrule rule = {rule!r:.80}: {name} = {value}: {cure}")
    return parts


class Rule:
    """A rule from ``dtstart`` to ``until`` (included), both by the wall clock; or an ``EntryError``."""

    def __init__(self, parts: Mapping[str, str], dtstart: datetime, until: datetime | None) -> None:
        self._parts = parts
        self._dtstart = dtstart
        self._until = until
        text = ";".join(f"{name}={value}" for name, value in parts.items())
        _check_size(parts, text)
        try:
            read: Any = rrulestr(f"RRULE:{text}", dtstart=dtstart)
            self._rule: rrule = read.replace(count=None)
            is_due = next(iter(self._near(_LAST_YEARS)), None) is not None
        except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
            raise EntryError(
                f"rrule rule = {text!r:.80}: cannot be read ({' '.join(str(error).split())}); use a rule of "
                "RFC 5545, such as 'FREQ=MONTHLY;BYDAY=-1FR'"
            ) from error
        if not is_due:
            raise EntryError(f"rrule rule = {text!r:.80}: is never due; use dates that exist")
        self._counted: list[datetime] = []
        self._uncounted = islice(self._rule, int(parts.get("COUNT", 0)))

    def following(self, local: datetime) -> datetime | None:
        """The first time by the wall clock after ``local``; ``None`` if there is none."""
        found = self._after(local) if "COUNT" in self._parts else self._near(local).after(local)
        return None if found is None or (self._until is not None and found > self._until) else found

    def _after(self, local: datetime) -> datetime | None:
        """As ``following`` for a rule with a COUNT, which is counted no further than it has to be."""
        while not self._counted or self._counted[-1] <= local:
            later = next(self._uncounted, None)
            if later is None:
                return None
            self._counted.append(later)
        return self._counted[bisect_right(self._counted, local)]

    def _near(self, local: datetime) -> rrule:
        """The rule from a beginning that is at least a period before ``local``, and not many."""
        freq, start = self._parts.get("FREQ", ""), self._dtstart
        interval = int(self._parts.get("INTERVAL", 1))
        if freq in _PERIODS:
            period = _PERIODS[freq] * interval
            periods = (local - start) // period - 1
            return self._rule if periods <= 0 else self._rule.replace(dtstart=start + periods * period)
        months = interval * (12 if freq == "YEARLY" else 1)
        periods = ((local.year - start.year) * 12 + local.month - start.month) // months - 1
        if periods <= 0:
            return self._rule
        year, month = divmod(start.year * 12 + start.month - 1 + periods * months, 12)
        begin = start.replace(year=year, month=1 if freq == "YEARLY" else month + 1, day=1)
        return self._rule.replace(dtstart=begin, **self._days(freq))

    def _days(self, freq: str) -> dict[str, Any]:
        """What the rule takes from its beginning, as it does not say it."""
        if any(part in self._parts for part in _DAY_PARTS):
            return {}
        days: dict[str, Any] = {"bymonthday": self._dtstart.day}
        if freq == "YEARLY" and "BYMONTH" not in self._parts:
            days["bymonth"] = self._dtstart.month
        return days


def _number(value: str) -> int | str:
    """As dateutil reads it, to which ``5`` and ``05`` are one time; what is none, it refuses later."""
    try:
        return int(value)
    except ValueError:
        return value


def _check_size(parts: Mapping[str, str], text: str) -> None:
    """Refuse what dateutil goes through one by one: periods of many times, or of fewer than are counted."""
    freq, several = parts.get("FREQ", ""), 1
    for name in _TIME_PARTS[_TIMES_WITHIN.get(freq, 0) :]:
        several *= len({_number(value) for value in parts.get(name, "0").split(",")})
    times = _DAYS.get(freq, 1) * several
    if times > (_MOST_TIMES if freq in _DAYS else _MOST_TIMES_OFTEN):
        raise EntryError(
            f"rrule rule = {text!r:.80}: up to {times:,} times in one period; "
            "use a higher FREQ, such as MINUTELY"
        )
    if freq == "SECONDLY" and "BYHOUR" in parts and any(part in parts for part in ("BYMONTH", *_DAY_PARTS)):
        raise EntryError(
            f"rrule rule = {text!r:.80}: each second of the days between would be looked at; "
            "use FREQ=DAILY with BYHOUR, BYMINUTE and BYSECOND"
        )
    places = [place.lstrip("+-") for place in parts.get("BYSETPOS", "").split(",") if place]
    if freq in INTERVALS and any(place.isdecimal() and int(place) > several for place in places):
        raise EntryError(
            f"rrule rule = {text!r:.80}: BYSETPOS = {parts['BYSETPOS']:.40} counts further than the "
            f"{several:,} times of one period, and dateutil would look for them one by one; use 1 to "
            f"{several:,}, or a FREQ such as DAILY"
        )
