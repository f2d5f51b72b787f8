"""What the schedules of this package have in common.

Each is a schedule of Celery's, so that it can stand in ``beat_schedule`` and stock beat can run it; a node
asks it for its recurrence instead.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, ClassVar

from celery.schedules import BaseSchedule, schedstate

from celery_dispatch.celery_bridge.moments import named_zone
from celery_dispatch.core.recurrence import Nominal
from celery_dispatch.errors import EntryError

__all__ = ["OwnSchedule"]

_LONGEST_SLEEP = timedelta(days=1)


class OwnSchedule(BaseSchedule):
    """A schedule that is made of a document and tells its recurrence.

    ``kind`` is its name in documents, ``fields`` are theirs beside ``timezone``.
    """

    kind: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]

    @abstractmethod
    def document(self) -> dict[str, object]:
        """Its fields in JSON's own types; what has its default is left out."""

    @classmethod
    @abstractmethod
    def from_document(cls, document: Mapping[str, Any]) -> OwnSchedule:
        """The schedule of these fields, all of which are known; ``EntryError`` for a wrong value."""

    @abstractmethod
    def recurrence(self, zone: tzinfo, name: str) -> Nominal:
        """Its dues in an app whose zone is ``zone``, for the entry of this name."""

    def is_shared(self) -> bool:
        """Whether its recurrence is the same for entries of any name."""
        return True

    # --- for stock beat -------------------------------------------------------------------------------------

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        due = self._following(last_run_at)
        return _LONGEST_SLEEP if due is None else due - self.now()

    def is_due(self, last_run_at: datetime) -> schedstate:
        now, due = self.now(), self._following(last_run_at)
        if due is None or due > now:
            return schedstate(False, (_LONGEST_SLEEP if due is None else due - now).total_seconds())
        later = self._following(now)
        return schedstate(True, (_LONGEST_SLEEP if later is None else later - now).total_seconds())

    def _following(self, moment: datetime) -> datetime | None:
        moment = moment.astimezone(timezone.utc)
        return self.recurrence(self.app.timezone, "").following(moment, moment)

    # --- as a value -----------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OwnSchedule):
            return NotImplemented
        return type(self) is type(other) and self.document() == other.document()

    def __hash__(self) -> int:
        return hash((self.kind, *map(str, self.document().items())))

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), self.document())

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value}" for name, value in self.document().items())
        return f"<{self.kind}: {said}>"


def _made(kind: type[OwnSchedule], document: Mapping[str, Any]) -> OwnSchedule:
    return kind.from_document(document)


def zone_of(name: object) -> tzinfo | None:
    """The zone of a schedule that has one of its own."""
    return None if name is None else named_zone(name)


def one_of(value: object, choices: tuple[str, ...], what: str) -> str:
    """``value`` if it is one of ``choices``, else an ``EntryError``."""
    if value not in choices:
        raise EntryError(f"{what} = {value!r:.80}: use {' or '.join(map(repr, choices))}")
    return str(value)
