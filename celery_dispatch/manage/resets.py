"""Letting entries go on from another instant: a reset of their cursors, by the claim that nodes make too.

A reset keeps definition and counts and raises the revision, so that no node takes the cursor for one that was
lost and puts the old one back.  It fires nothing.  A node that claims at the same moment wins or loses as a
whole; then the cursor is read anew and the reset tried again.

A damaged row is replaced by a new cursor, if the app at hand has the entry as it is in force.  Its counts are
lost, and its revision is the number of seconds since 1970: higher than any that was counted, so that what a
node still knows does not come back.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from celery_dispatch.core.clock import whole_ms
from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Claim, ClaimStatus, Damaged, PoolState, Stored
from celery_dispatch.errors import FencedError, StoreUnavailable
from celery_dispatch.manage.controls import ControlError
from celery_dispatch.manage.operations import Sources

__all__ = ["Reset", "reset_cursors"]

_TRIES = 10
_PAUSE = 0.2  # seconds between tries, in which a switch is written or a recovery ends


@dataclass(frozen=True, slots=True)
class Reset:
    """What became of one cursor: ``after`` is what it is now, ``error`` says why it was not reset.

    ``before`` is ``None`` where it was damaged.
    """

    name: str
    before: datetime | None
    after: datetime | None
    error: str = ""


def reset_cursors(
    sources: Sources,
    names: Sequence[str],
    *,
    to: datetime | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> tuple[Reset, ...]:
    """Put the cursors of ``names`` at ``to``, by default now; what is due later than that is fired.

    Raises ``ControlError`` if ``to`` is in the future, or no config is in force, and ``StoreUnavailable``
    while a recovery is under way.
    """
    done: dict[str, Reset] = {}
    left = asked = list(dict.fromkeys(names))
    for tries in range(_TRIES):
        if tries:
            pause(_PAUSE)
        state = sources.pool.read()
        due = _due(state, to)
        if not state.recovery:
            done |= _try(sources, _fence(state), left, due)
        left = [name for name in asked if name not in done]
        if not left:
            return tuple(done[name] for name in asked)
    raise StoreUnavailable(
        "The pool is recovering, or the cursors change all the time; "
        f"{len(asked) - len(left)} of {len(asked)} were looked at. Try again in some seconds."
    )


def _fence(state: PoolState) -> Fence:
    if state.fence is None:
        raise ControlError(
            "No config is in force, so no cursor can be claimed.",
            "Start a beat: celery -A <app> beat -S dispatch.",
        )
    return state.fence


def _due(state: PoolState, to: datetime | None) -> datetime:
    if to is not None and to > state.now:
        raise ControlError(
            f"{to.isoformat()} is in the future: the entry would be silent until then.",
            "Give an instant of the past, or none for now.",
        )
    due = to or state.now
    return whole_ms(due)


def _try(sources: Sources, fence: Fence, names: Sequence[str], due: datetime) -> dict[str, Reset]:
    """What became of those that can be reset and were not overtaken by a node, and why others cannot."""
    claims: list[Claim] = []
    done: dict[str, Reset] = {}
    for name, stored in zip(names, sources.ledger.read(names)):
        wanted = _wanted(sources, fence, name, stored=stored, due=due)
        if isinstance(wanted, Cursor):
            claims.append(Claim(name, stored, wanted))
        else:
            done[name] = Reset(name, None, None, wanted)
    try:
        results = sources.ledger.claim(fence, claims).results if claims else ()
    except FencedError:
        return done
    for claim, result in zip(claims, results):
        if result.status is ClaimStatus.WON:
            before = claim.expected.due if isinstance(claim.expected, Cursor) else None
            done[claim.name] = Reset(claim.name, before, due)
    return done


def _wanted(sources: Sources, fence: Fence, name: str, *, stored: Stored, due: datetime) -> Cursor | str:
    """The cursor after the reset, or why there cannot be one."""
    if stored is None:
        return "It has no cursor: it is not in the config in force, or no node has taken it up yet."
    if isinstance(stored, Cursor):
        if stored.is_tombstone:
            return "It left the config."
        return replace(
            stored,
            due=due,
            effective_from=min(due, stored.effective_from),
            revision=stored.revision + 1,
            node=_who(),
        )
    return _instead_of(stored, sources, fence, name=name, due=due)


def _instead_of(
    damaged: Damaged, sources: Sources, fence: Fence, *, name: str, due: datetime
) -> Cursor | str:
    entry = sources.catalog.entries.get(name)
    if entry is None or sources.catalog.fingerprint != fence.config:
        return (
            f"Its row is no cursor ({damaged.reason}), and the app at hand has not the entry that is in "
            "force. Run this from the code and settings that the beats run; if no config has the entry, "
            "remove the row: redis-cli HDEL '{celery-dispatch}:cursor' <name> (in the braces your "
            "dispatch_key_prefix, if you set one)."
        )
    anchor = Cursor.anchor(entry.definition, fence.since, _who())
    return replace(anchor, due=due, revision=int(time.time()))


def _who() -> str:
    return f"reset@{socket.gethostname()}"
