"""Cron expressions, read strictly: what croniter would guess at is refused with a cure.

Five fields (minute, hour, day of month, month, day of week), or six with seconds first, or an alias such as
``@daily``.  Fields may hold numbers, lists, ranges, steps and names; ``L`` (the last day of the month, or
``5L`` the last Friday), ``#`` (``5#3``: the third Friday), ``W`` (``15W``: the weekday nearest to the 15th)
and ``H``, a number that is chosen by the entry's name: ``H`` from the whole field, ``H(0-29)`` from a range,
``H/15`` as the first of a step.

Where both days are restricted, either is enough, as in every cron.
"""

from __future__ import annotations

import re
from copy import copy
from datetime import datetime
from hashlib import blake2b

from croniter import croniter
from croniter.croniter import CroniterError

from celery_dispatch.config import suggestion
from celery_dispatch.errors import EntryError

__all__ = ["Expression"]

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = ("second", "minute", "hour", "day of month", "month", "day of week")
_RANGES = ((0, 59), (0, 59), (0, 23), (1, 28), (1, 12), (0, 6))  # of H, that every month has
_SIZES = (60, 60, 24, 31, 12, 7)
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_HASHED = re.compile(r"h(?:\((\d+)-(\d+)\))?(?:/(\d+))?")
_RANDOM = re.compile(r"r(?:\(\d+-\d+\))?(?:/\d+)?")
_LAST = re.compile(rf"([0-7]|{'|'.join(_DAYS)})l")
_ANY_TIME = datetime(2024, 1, 1)  # noqa: DTZ001 — by the wall clock
_LONGEST = 300  # characters


class Expression:
    """A cron expression as a calendar; ``is_interval``: it means a frequency rather than times of the day.

    Raises ``EntryError`` if it is none, or never due.
    """

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        parts = _parts(text)
        self.is_hashed = any(_HASHED.fullmatch(item) for part in parts for item in part.split(","))
        self.is_interval = any(sign in part for part in parts[:3] for sign in "*/")
        _check_days(text, *parts[3::2])
        plain = " ".join(_plain(text, number, part, name) for number, part in enumerate(parts))
        try:
            if "*" not in parts[3:5]:
                croniter.expand(plain, second_at_beginning=True, strict=True)
            self._croniter = croniter(plain, _ANY_TIME, ret_type=datetime, second_at_beginning=True)
        except (CroniterError, ValueError, TypeError, KeyError, IndexError) as error:
            raise EntryError(
                f"cron expression = {text!r:.80}: cannot be read ({' '.join(str(error).split())}); use "
                "numbers, names, *, lists, ranges and steps, such as '*/5 8-18 * * mon-fri'"
            ) from error
        if (parts[3] != "*" or "#" in parts[5]) and self.following(_ANY_TIME) is None:
            raise EntryError(f"cron expression = {text!r:.80}: is never due; use a date that exists")

    def copy(self) -> Expression:
        """One that another thread may ask: croniter keeps where it is."""
        clone = copy(self)
        clone._croniter = copy(self._croniter)
        return clone

    def following(self, local: datetime) -> datetime | None:
        """The first time by the wall clock after ``local``; ``None`` if none comes within 50 years."""
        try:
            found: datetime = self._croniter.get_next(datetime, start_time=local)
        except (CroniterError, OverflowError, ValueError):
            return None
        return found


def _parts(text: object) -> list[str]:
    """The six fields, seconds first."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise EntryError(f"cron expression = {text!r:.80}: use text such as '*/5 * * * *'")
    written = text.lower().strip()
    if written.startswith("@"):
        if written not in _ALIASES:
            hint = suggestion(written, list(_ALIASES))
            cure = f"did you mean {hint!r}?" if hint else f"use {', '.join(_ALIASES)}"
            raise EntryError(f"cron expression = {text!r:.80}: there is no such alias; {cure}")
        written = _ALIASES[written]
    parts = written.split()
    if len(parts) == 5:
        return ["0", *parts]
    if len(parts) == 6:
        return parts
    more = "; for a year use the dispatch options start and end" if len(parts) == 7 else ""
    raise EntryError(
        f"cron expression = {text!r:.80}: has {len(parts)} fields; use five (minute, hour, day of month, "
        f"month, day of week), or six with seconds first{more}"
    )


def _check_days(text: str, of_month: str, of_week: str) -> None:
    """Refuse two days of which it is not said, or not known, whether both must fit."""
    special = "w" in of_month or re.search(r"#|\dl|[a-z]{3}l|l\d", of_week)
    if special and of_month not in ("*", "?") and of_week not in ("*", "?"):
        raise EntryError(
            f"cron expression = {text!r:.80}: with #, W or L, a day of month and a day of week together are "
            "ambiguous; use one of them, or rrule"
        )


def _plain(text: str, number: int, part: str, name: str) -> str:
    """A field as croniter reads it for certain."""
    items = part.split(",")
    for item in items:
        problem = _problem(number, item, alone=len(items) == 1)
        if problem:
            raise EntryError(f"cron expression = {text!r:.80}: {_FIELDS[number]} {item!r}: {problem}")
    return ",".join(_translated(number, item, name) for item in items)


def _problem(number: int, item: str, *, alone: bool) -> str | None:
    size = _SIZES[number]
    if not item:
        return "a list has an empty part; leave it out"
    if _RANDOM.fullmatch(item):
        return "R is another number in every process; use H"
    if item in ("h", "?") and not alone:
        return "must stand alone in its field"
    span, _, step = item.partition("/")
    if step and not (step.isdecimal() and 0 < int(step) < size):
        return f"a step must be from 1 to {size - 1}"
    low, dash, high = span.partition("-")
    if dash and low == high:
        return f"a range from a value to itself; use {low}, or * for all"
    hashed = _HASHED.fullmatch(item)
    if hashed and hashed[1] is not None:
        least, most = _RANGES[number]
        if not least <= int(hashed[1]) < int(hashed[2]) <= most:
            return f"a range of H must rise, within {least}-{most}"
    return None


def _translated(number: int, item: str, name: str) -> str:
    hashed = _HASHED.fullmatch(item)
    if hashed:
        return _hashed(number, hashed, name)
    last = _LAST.fullmatch(item) if number == 5 else None
    if last:
        day = last[1] if last[1].isdecimal() else _DAYS.index(last[1])
        return f"l{day}"
    return item


def _hashed(number: int, item: re.Match[str], name: str) -> str:
    """The number that stands for H in this field of the entry ``name``, equal in every process."""
    low, high = _RANGES[number] if item[1] is None else (int(item[1]), int(item[2]))
    step = int(item[3]) if item[3] else None
    digest = blake2b(f"{_FIELDS[number]}\n{name}".encode(), digest_size=8).digest()
    chosen = low + int.from_bytes(digest, "big") % min(step or high - low + 1, high - low + 1)
    return f"{chosen}-{high}/{step}" if step and chosen < high else str(chosen)
