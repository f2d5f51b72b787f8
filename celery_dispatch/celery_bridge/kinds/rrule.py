"""``rrule``: a recurrence rule of RFC 5545, in a time zone of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone, tzinfo
from typing import Any

from celery_dispatch.celery_bridge.kinds.own import OwnSchedule, one_of, zone_of
from celery_dispatch.celery_bridge.kinds.rule import INTERVALS, Rule, parts_of
from celery_dispatch.celery_bridge.kinds.wall_time import FOLDS, GAPS, WallTime
from celery_dispatch.core.recurrence import Nominal
from celery_dispatch.errors import EntryError

__all__ = ["rrule"]

_UTC = timezone.utc
_DTSTART = re.compile(r"DTSTART(?:;TZID=([^:;]+))?:(\d{8}T\d{6}Z?)", re.IGNORECASE)
_FORMATS = {8: "%Y%m%d", 15: "%Y%m%dT%H%M%S", 16: "%Y%m%dT%H%M%SZ"}
_CURE = "use a datetime, or text such as '2026-01-05T09:00:00'"


class rrule(OwnSchedule):
    """Due by one recurrence rule: ``"FREQ=MONTHLY;BYDAY=-1FR"``, counted from ``dtstart``.

    The rule may begin with a line ``DTSTART:…``, as dateutil writes it.  ``dtstart`` is a time by the wall
    clock of the zone, or an aware one.  Zone, ``gap`` and ``fold`` are as in ``cron``; rules that are hourly
    or more frequent run through a repeated hour.  Raises ``EntryError`` for a rule that is wrong, has no
    beginning, or is never due.

    >>> rrule("FREQ=MONTHLY;BYDAY=-1FR", dtstart="2026-01-05T09:00:00", timezone="Europe/Paris")
    <rrule: rule=FREQ=MONTHLY;BYDAY=-1FR, dtstart=2026-01-05T09:00:00, timezone=Europe/Paris>
    """

    kind = "rrule"
    fields = ("rule", "dtstart", "timezone", "gap", "fold")

    def __init__(
        self,
        rule: str,
        *,
        dtstart: datetime | str | None = None,
        timezone: str | None = None,
        gap: str = "shift",
        fold: str = "first",
    ) -> None:
        super().__init__()
        written, own_start, own_zone = _read(rule)
        self._parts = parts_of(written)
        self.rule = ";".join(f"{name}={value}" for name, value in self._parts.items())
        self.timezone = timezone if timezone is not None else own_zone
        self.dtstart = _local(dtstart if dtstart is not None else own_start, self.rule)
        self.gap = one_of(gap, GAPS, "rrule gap")
        self.fold = one_of(fold, FOLDS, "rrule fold")
        self._bound(zone_of(self.timezone) or _UTC)

    def document(self) -> dict[str, object]:
        said = {
            "rule": self.rule,
            "dtstart": self.dtstart.isoformat(),
            "timezone": self.timezone,
            "gap": self.gap,
            "fold": self.fold,
        }
        defaults = {"timezone": None, "gap": "shift", "fold": "first"}
        return {name: value for name, value in said.items() if defaults.get(name, ...) != value}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> rrule:
        given = dict(document)
        return cls(given.pop("rule", None), **given)

    def recurrence(self, zone: tzinfo, name: str) -> Nominal:
        zone = zone_of(self.timezone) or zone
        return WallTime(
            self._bound(zone).following,
            zone,
            shift=self.gap == "shift",
            both=self.fold == "both" or self._parts.get("FREQ") in INTERVALS,
        )

    def _bound(self, zone: tzinfo) -> Rule:
        """The rule with its instants by the wall clock of ``zone``."""
        parts = dict(self._parts)
        until = parts.pop("UNTIL", None)
        start = self.dtstart if self.dtstart.tzinfo is None else _by_wall_clock(self.dtstart, zone)
        return Rule(parts, start, None if until is None else _until(until, zone))


def _read(text: object) -> tuple[object, str | None, str | None]:
    """Rule, beginning and zone of a text that may have lines ``DTSTART:…`` and ``RRULE:…``."""
    if not isinstance(text, str):
        return text, None, None
    rule, start, zone = None, None, None
    for line in filter(None, map(str.strip, text.splitlines())):
        begins = _DTSTART.fullmatch(line)
        if begins:
            start, zone = begins[2], begins[1]
        elif rule is None and line[:6].upper() == "RRULE:":
            rule = line[6:]
        elif rule is None and "=" in line and ":" not in line:
            rule = line
        else:
            raise EntryError(f"rrule rule = {line!r:.80}: use one rule, and DTSTART before it at most")
    return rule, start, zone


def _local(value: object, rule: str) -> datetime:
    """A beginning, aware or by the wall clock, in whole seconds."""
    if value is None:
        raise EntryError(f"rrule rule = {rule!r:.80}: has no beginning to count from; give dtstart")
    moment = value if isinstance(value, datetime) else None
    if isinstance(value, str):
        moment = _compact(value) or _iso(value)
    if moment is None or not 1970 <= moment.year < 9000:
        raise EntryError(f"rrule dtstart = {value!r:.80}: {_CURE}")
    return moment.replace(microsecond=0)


def _iso(value: str) -> datetime | None:
    try:
        return datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith(("Z", "z")) else value)
    except ValueError:
        return None


def _compact(value: str) -> datetime | None:
    """An instant as RFC 5545 writes it; aware if it ends in Z."""
    form = _FORMATS.get(len(value))
    try:
        moment = datetime.strptime(value, form) if form else None  # noqa: DTZ007 — by the wall clock
    except ValueError:
        return None
    return moment.replace(tzinfo=_UTC) if moment and value.endswith("Z") else moment


def _until(value: str, zone: tzinfo) -> datetime:
    moment = _compact(value)
    if moment is None:
        raise EntryError(f"rrule rule: UNTIL = {value!r:.80}: use 20261231T235959, or with a Z for UTC")
    return moment if moment.tzinfo is None else _by_wall_clock(moment, zone)


def _by_wall_clock(moment: datetime, zone: tzinfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)
