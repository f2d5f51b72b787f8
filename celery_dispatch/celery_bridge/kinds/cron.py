"""``cron``: an expression as every cron reads it, in a time zone of its own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

from celery_dispatch.celery_bridge.kinds.expression import Expression
from celery_dispatch.celery_bridge.kinds.own import OwnSchedule, one_of, zone_of
from celery_dispatch.celery_bridge.kinds.wall_time import FOLDS, GAPS, WallTime
from celery_dispatch.core.recurrence import Nominal

__all__ = ["cron"]


class cron(OwnSchedule):
    """Due at the times of a cron expression.

    ``timezone`` is the name of a zone, the app's if left out.  ``gap`` is what a time does that clocks skip:
    ``"shift"`` to when they have gone forward, or ``"skip"``; ``fold`` whether a time that comes twice is due
    the ``"first"`` time only or ``"both"`` (an interval such as ``*/10`` always runs through).  Raises
    ``EntryError`` for an expression that is wrong, ambiguous or never due.

    >>> cron("0/10 * * * * *", timezone="Europe/Paris")
    <cron: expression=0/10 * * * * *, timezone=Europe/Paris>
    """

    kind = "cron"
    fields = ("expression", "timezone", "gap", "fold")

    def __init__(
        self, expression: str, *, timezone: str | None = None, gap: str = "shift", fold: str = "first"
    ) -> None:
        super().__init__()
        zone_of(timezone)
        self._read = Expression(expression, "")
        self.expression = " ".join(expression.split())
        self.timezone = timezone
        self.gap = one_of(gap, GAPS, "cron gap")
        self.fold = one_of(fold, FOLDS, "cron fold")

    def document(self) -> dict[str, object]:
        said = {"expression": self.expression, "timezone": self.timezone, "gap": self.gap, "fold": self.fold}
        defaults = {"timezone": None, "gap": "shift", "fold": "first"}
        return {name: value for name, value in said.items() if defaults.get(name, ...) != value}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> cron:
        given = dict(document)
        return cls(given.pop("expression", None), **given)

    def recurrence(self, zone: tzinfo, name: str) -> Nominal:
        expression = self._read.copy() if self.is_shared() else Expression(self.expression, name)
        return WallTime(
            expression.following,
            zone_of(self.timezone) or zone,
            shift=self.gap == "shift",
            both=self.fold == "both" or expression.is_interval,
        )

    def is_shared(self) -> bool:
        return not self._read.is_hashed
