"""Shadow mode: all that a beat does but the message (``dispatch_shadow``).

Claims, cursors, handover and the pool are as ever.  In the place of a message, the same write of a claim puts
a record of the occurrence on a list in the pool's Redis, so that the report is as exact as the firing would
be.  An entry that could not be serialised or routed is in error as it would be, except where making its
message runs code of the user: that code has effects of its own, and is not run.

A list holds a day of records, and goes by itself ``LIFETIME`` after its last one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from celery_dispatch.celery_bridge.payload import payload_of
from celery_dispatch.core.clock import whole_ms
from celery_dispatch.core.entry import Occurrence
from celery_dispatch.core.ports import Command, Outbox, Path, Publication
from celery_dispatch.redis_store.codec import from_ms, to_ms

__all__ = ["LIFETIME", "ShadowOutbox", "ShadowRecord"]

logger = logging.getLogger(__name__)

#: How long a day's records are kept after the last of them.
LIFETIME = timedelta(days=3)

_PATH = Path(same_store=True, user_code=False, why="dispatch_shadow is set: nothing is sent")


@dataclass(frozen=True, slots=True)
class ShadowRecord:
    """One occurrence that would have been fired: of which entry, its due, and when, by the pool's clock."""

    name: str
    due: datetime
    at: datetime

    def encode(self) -> str:
        return json.dumps([to_ms(self.due), to_ms(self.at), self.name], separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> ShadowRecord:
        """Raises ``ValueError`` if ``text`` is no record."""
        try:
            due, at, name = json.loads(text)
            if not isinstance(name, str):
                raise TypeError("its name is no text")
            return cls(name, from_ms(due), from_ms(at))
        except (TypeError, OverflowError, OSError) as error:
            raise ValueError(f"{text[:80]!r} is no record of an occurrence: {error}") from error


class ShadowOutbox:
    """An outbox that makes each message as ``outbox`` does, and has a record written instead.

    ``key`` names the list for the records of a day.
    """

    def __init__(self, outbox: Outbox, *, key: Callable[[datetime], str]) -> None:
        self._outbox = outbox
        self._key = key

    def connect(self) -> None:
        self._outbox.connect()

    def path(self, occurrence: Occurrence | None) -> Path:
        return _PATH

    def render(self, occurrence: Occurrence, *, now: datetime) -> tuple[Command, ...]:
        if not self._outbox.path(occurrence).user_code:
            self._outbox.render(occurrence, now=now)
        key, record = self._key(now), ShadowRecord(occurrence.entry.name, occurrence.due, whole_ms(now))
        lifetime = str(LIFETIME // timedelta(milliseconds=1))
        return Command("LPUSH", key, record.encode()), Command("PEXPIRE", key, lifetime)

    def publish(self, messages: Sequence[tuple[Command, ...]]) -> list[Publication]:
        raise RuntimeError("in shadow mode nothing is published")

    def sent(self, occurrence: Occurrence) -> None:
        logger.info("Would send due task %s (%s)", occurrence.entry.name, payload_of(occurrence.entry).task)

    def close(self) -> None:
        self._outbox.close()
