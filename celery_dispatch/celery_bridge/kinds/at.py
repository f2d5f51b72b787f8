"""``at``: once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from celery_dispatch.celery_bridge.kinds.own import OwnSchedule
from celery_dispatch.celery_bridge.moments import instant, rfc3339
from celery_dispatch.core.recurrence import Nominal

__all__ = ["at"]


class at(OwnSchedule):
    """Due once, at an instant: an aware datetime, or text with an offset.

    Raises ``EntryError`` for anything else.

    >>> at("2030-03-01T09:00:00+01:00")
    <at: moment=2030-03-01T08:00:00.000Z>
    """

    kind = "at"
    fields = ("moment",)

    def __init__(self, moment: datetime | str) -> None:
        super().__init__()
        self.moment = instant(moment, "at moment")

    def document(self) -> dict[str, object]:
        return {"moment": rfc3339(self.moment)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> at:
        return cls(document.get("moment"))  # type: ignore[arg-type]  # what is missing is refused

    def recurrence(self, zone: tzinfo, name: str) -> Nominal:
        return Once(self.moment)


@dataclass(frozen=True, slots=True)
class Once:
    """One due."""

    moment: datetime

    def following(self, last: datetime, after: datetime) -> datetime | None:
        return self.moment if after < self.moment else None

    def latest(self, last: datetime, now: datetime) -> tuple[datetime, int] | None:
        return (self.moment, 0) if last < self.moment <= now else None
