"""How one schedule is changed: read, decide, compare and write, again if somebody was faster.

What if the answer is never heard?  The same change is sent again under its token, and answers that it is
done. What if somebody changes the schedule in between?  Where a version was asked for, that is an error which
shows both; else what is there is read again and decided anew.  Both at once, for a schedule that is to be
created, cannot be told from one that was created and deleted since: an error, for a second try might bring it
back.  While the pool recovers nothing can be written: it is tried for some seconds, and then
``StoreUnavailable``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from secrets import token_hex

from celery_dispatch.core.entry import Cursor
from celery_dispatch.core.ports import Change, ChangeResult, ChangeStatus, Damaged
from celery_dispatch.core.rows import Row
from celery_dispatch.errors import (
    FencedError,
    NameTaken,
    ScheduleError,
    StaleVersion,
    StoreUnavailable,
)
from celery_dispatch.schedules.reading import Found, Reading
from celery_dispatch.schedules.store import Store

__all__ = ["Decide", "Editing", "change_of", "check_version"]

_TRIES = 20  # changes that others overtook, until it is given up
_REPEATS = 3  # sendings of one change whose answer is not heard
_PATIENCE = 5.0  # seconds that a recovery is waited for
_PAUSE = 0.1  # seconds between tries

_NOTHING = "Nothing was written; try again later."
_UNKNOWN = "Whether the change was written is not known; read it again."
_SOME = "Some of the changes may be written; the same again does the rest."

#: What to write, from what is stored and the time, or ``None`` for nothing; raises what refuses it.
Decide = Callable[[Found, datetime], "Change | None"]


class Editing:
    """Changes rows; ``sleep`` waits between tries."""

    def __init__(
        self, store: Store, reading: Reading, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._store = store
        self._reading = reading
        self._sleep = sleep

    def edit(self, name: str, decide: Decide, *, begun: bool = False) -> None:
        """Carry out what ``decide`` says of ``name``.  Raises what it raises, and ``StoreError``.

        ``begun``: others of the same call may be written already.
        """
        for _ in range(_TRIES):
            change = decide(self._reading.find([name])[0], self._store.now())
            if change is None:
                return
            (result,) = self.write([change], begun=begun)
            if result.status is ChangeStatus.DONE:
                return
            refused = refusal(name, result)
            if refused is not None:
                raise refused
        raise StoreUnavailable(f"{name!r} is changed by others all the time, so it was given up. Try again.")

    def write(self, changes: Sequence[Change], *, begun: bool = False) -> list[ChangeResult]:
        """Write up to ``MOST_CHANGES`` in one step, others before it if ``begun``.  Raises ``StoreError``."""
        deadline, unheard = time.monotonic() + _PATIENCE, 0
        while True:
            try:
                results = self._store.rows.change(changes)
            except FencedError as error:
                if time.monotonic() > deadline:
                    raise _given_up(error, changes, unheard, begun) from error
            except StoreUnavailable as error:
                unheard += 1
                if unheard == _REPEATS:
                    raise _given_up(error, changes, unheard, begun) from error
            else:
                if unheard:
                    _check_created(changes, results)
                return results
            self._sleep(_PAUSE)


def _given_up(error: Exception, changes: Sequence[Change], unheard: int, begun: bool) -> StoreUnavailable:
    if begun or (unheard and len(changes) > 1):
        return StoreUnavailable(f"{error} {_SOME}")
    return StoreUnavailable(f"{error} {_UNKNOWN if unheard else _NOTHING}")


def _check_created(changes: Sequence[Change], results: Sequence[ChangeResult]) -> None:
    """Raise ``StoreUnavailable`` where an earlier try may have created what others deleted since."""
    lost = [
        change.name
        for change, result in zip(changes, results)
        if _creates(change) and result.status is ChangeStatus.STALE
    ]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise StoreUnavailable(
            f"Redis did not answer at first, and somebody else changed {lost[0]!r}{more} meanwhile. "
            "Whether it was created is not known; read it again."
        )


def _creates(change: Change) -> bool:
    return bool(change.definition) and not (isinstance(change.expected, Row) and change.expected.definition)


def change_of(found: Found, now: datetime) -> Change:
    """A change of what is stored that leaves what it says; ``replace`` what is to be said."""
    row, token = found.row, token_hex(8)
    if isinstance(row, Row):
        return Change(found.name, row, token, row.created, now, row.definition, row.pause)
    return Change(found.name, row, token, now, now, before=_carried(found))


def _carried(found: Found) -> str:
    """The definition that a cursor has of a row which cannot be read; not of one that the config has."""
    if found.in_config or not (is_damaged(found) and isinstance(found.cursor, Cursor)):
        return ""
    return found.cursor.definition


def check_version(found: Found, version: int | None) -> None:
    """Raise ``StaleVersion`` unless the stored one is ``version``, where that is given."""
    if version is not None and version != found.version:
        raise StaleVersion(found.name, given=version, stored=found.version)


def refusal(name: str, result: ChangeResult) -> ScheduleError | None:
    """Why a change was not written for good; ``None`` where it may be decided anew, or was written."""
    if result.status is ChangeStatus.TAKEN:
        return NameTaken(
            f"{name!r} is an entry of the config in force. Choose another name, or change it in "
            "beat_schedule."
        )
    if result.status is ChangeStatus.DAMAGED:
        return ScheduleError(
            f"{name!r} has a cursor that cannot be read, so it cannot be changed. "
            f"Run: celery -A <app> dispatch cursor reset {name}"
        )
    return None


def is_damaged(found: Found) -> bool:
    """Whether its row cannot be read."""
    return isinstance(found.row, Damaged)
