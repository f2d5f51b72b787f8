"""Occurrences that people ask for: one now, or those of a while ago; sent by the caller's own process.

They move no cursor and are no claims: they come beside what the beats fire, and also while a schedule is
paused.  Their headers say what they are, ``dispatch_run_now`` or ``dispatch_backfill``.  One that is run now
has a task id of its own; one of a backfill has that of (prefix, entry, due, "backfill"), so that a backfill
that is repeated, because it was interrupted or its end never heard of, repeats ids.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from celery import Celery
from celery.beat import Scheduler

from celery_dispatch.celery_bridge.moments import rfc3339
from celery_dispatch.celery_bridge.rendering import prepared
from celery_dispatch.core.clock import whole_ms
from celery_dispatch.core.entry import Entry, Occurrence
from celery_dispatch.core.recurrence import Nominal
from celery_dispatch.errors import EntryError

__all__ = ["Backfill", "RunNow", "Sender", "dues_between"]

_MOST = 1_000_000  # occurrences of one backfill


@dataclass(frozen=True, slots=True)
class RunNow:
    """An occurrence that was sent by hand: its task id, and the instant that its headers call its due."""

    name: str
    task_id: str
    due: datetime


class Sender:
    """Sends occurrences through the app, as stock beat would."""

    def __init__(self, app: Celery, *, key_prefix: str, now: Callable[[], datetime]) -> None:
        self._app = app
        self._key_prefix = key_prefix
        self._now = now
        self._scheduler: Any = Scheduler(app, lazy=True)

    def run_now(self, entry: Entry) -> RunNow:
        """Send one occurrence of ``entry``.  Raises ``EntryError``."""
        due, task_id = whole_ms(self._now()), str(uuid4())
        self._send(entry, due, task_id, "dispatch_run_now")
        return RunNow(entry.name, task_id, due)

    def backfill(self, entry: Entry, due: datetime) -> None:
        """Send the occurrence of ``entry`` that was due then.  Raises ``EntryError``."""
        named = f"{self._key_prefix}\n{entry.name}\n{rfc3339(due)}\nbackfill"
        self._send(entry, due, str(uuid5(NAMESPACE_URL, named)), "dispatch_backfill")

    def _send(self, entry: Entry, due: datetime, task_id: str, header: str) -> None:
        message: Any = prepared(
            Occurrence(entry, due),
            self._app,
            key_prefix=self._key_prefix,
            node=f"{header.removeprefix('dispatch_')}@{socket.gethostname()}",
            now=self._now(),
        )
        message.options["task_id"] = task_id
        message.options["headers"][header] = True
        try:
            self._scheduler.apply_async(message, advance=False)
        except Exception as error:
            raise EntryError(f"{entry.name!r} cannot be sent: {error.__cause__ or error}") from error


class Backfill:
    """The occurrences of a schedule that were due later than ``start`` and up to ``end``; ``count`` of them.

    Nothing is sent before ``run``.
    """

    def __init__(self, entry: Entry, sender: Sender, *, start: datetime, end: datetime) -> None:
        self.name = entry.name
        self.start = start
        self.end = end
        self._entry = entry
        self._sender = sender
        self.count = sum(1 for _ in self.dues)

    @property
    def dues(self) -> Iterator[datetime]:
        """When each of them was due, the oldest first."""
        return dues_between(self._entry, self.start, self.end)

    def run(
        self,
        *,
        rate: float = 10.0,
        progress: Callable[[int, int], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> int:
        """Send all of them, at most ``rate`` a second, and say how many were sent.

        ``progress`` is called after each with the number sent and ``count``; what it raises ends the
        backfill.  Raises ``EntryError`` where one cannot be sent.
        """
        if rate <= 0:
            raise ValueError(f"rate = {rate}: must be more than 0 a second")
        began = time.monotonic()
        for sent, due in enumerate(self.dues):
            early = began + sent / rate - time.monotonic()
            if early > 0:
                sleep(early)
            self._sender.backfill(self._entry, due)
            if progress is not None:
                progress(sent + 1, self.count)
        return self.count


def dues_between(entry: Entry, start: datetime, end: datetime) -> Iterator[datetime]:
    """The dues later than ``start``, up to ``end``; those of an interval are counted from ``start``.

    Raises ``EntryError`` where the schedule cannot tell them, or they are more than a million.
    """
    if not isinstance(entry.recurrence, Nominal):
        raise EntryError(f"{entry.name!r} has a schedule that does not know when it would have been due")
    recurrence = entry.recurrence
    due = recurrence.following(start, start)
    for _ in range(_MOST):
        if due is None or due > end:
            return
        yield due
        due = recurrence.following(start, due)
    raise EntryError(f"{entry.name!r} was due more than {_MOST:,} times; choose less")
