"""What people say of entries while beats run, and how a change of it is fenced.

A *row* is what was said at run time of one name: the definition of an entry that was created there, its
pause, or both.  Entries of the config may have a row too; it can only pause them.  Each change gives the row
a new *version*, higher than any before: the larger of the last version plus one and Redis TIME in ms, so that
versions grow even where Redis came back empty.  The row with no name is of all entries.

::

    (none) ── create ──► defined ── pause ──► defined, paused
                            ▲  │                    │
          create            │  └── delete ─┐        │ resume, delete
       ┌────────────────────┘              ▼        ▼
       └───────────────────────────── says nothing, or defined ── a day after its entry left ──► (none)

**The fence.**  A row and the cursor of its entry are one thing: the script that writes a row writes the
cursor with it, with a higher revision and with the version of the row as its ``change``.  Every row has a
cursor, if only a tombstone.  A claim compares the whole cursor, so from the moment of the change on, which is
before it is acknowledged, no claim of a node that has not heard of it matches.  Such a node is shown the new
cursor, sees in ``change`` that it does not know the row, and **claims only when it has read the very row that
the cursor stands under**.  That is no error; until then it lets the entry rest.

What the change does to a cursor: where it carries the definition of the row before (or is a tombstone, and
the row had none), it takes that of the new row, and ``effective_from`` becomes the time of the change, so
that no change brings a flood of the past; where only what is for people differs, it stays, and what is due
stays due.  Where it carries another definition, that is a config's: the row is *shadowed*, and only
``change`` and revision are written.  A new name is anchored at the time of its creation.  What is shadowed
comes back into force with a config that has not the name, like an entry that changed.

**Pauses** are instants: what was due from ``since`` until ``until`` is passed over and counted as skipped, by
the node that would have fired it; the cursor goes on, so that nothing is made up for when the pause is over,
however late it is looked at.  The pause of all entries fences as a whole: every firing claim shows the *gate*
that its node knows, and the gate changes with that pause and with its end.

**How nodes follow.**  ``changes`` orders names by version.  A node asks twice a second, or when woken, for
what is later than it knows, and reads only those rows.  It begins at 0, and begins anew where it cannot have
heard of everything: where rows were put back (the gate says so), or where rows were removed that are later
than what it knows (the *floor*).  Then it reads only the versions, and the rows of those that differ.

What can go wrong:

* *A writer dies before the script*: nothing happened.  *After it*, or *never hears the answer*: the same
  change again, known by its token, answers that it is done.
* *Two writers*: each change shows the row that it is made of; one wins, the other is told what is stored.
* *A claim in the same millisecond*: one of both comes first.  If the claim, its due stays fired, and the
  change continues after it.  If the change, the claim does not match.
* *A claim that takes two steps* may have written its intent before the change.  Deleting and pausing remove
  the open intents of the entry with the same script: nobody sends them later.
* *A node that missed the notification* polls.  *A node that was paused*, for however long, follows before it
  fires; between its last look and its next claim the cursor stands guard.
* *Redis comes back older or empty*: nothing can be changed while the pool recovers, and no claim is made.
  Every node puts back the rows that it knows in a higher version than stored.  The gate then changes, so that
  a node that had read the older rows reads anew before it claims.  Rows at or below the floor were removed,
  not lost.
* *Cursor and row have gone apart*, which only a loss can do: the row is what people said, so the next node to
  hold the entry puts the cursor under it, by a claim that fails if anybody was faster.
* *A row that cannot be read*, or whose definition cannot be scheduled, is reported by name, its entry rests.
  It can be deleted: what its cursor carries is then buried, unless it is of the config.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b

__all__ = ["ALL", "MOST_CHANGES", "Pause", "Row", "definition_hash", "pause_end", "pause_start"]

_TICK = timedelta(milliseconds=1)

#: Changes in one step, so that Redis is not held up for long: some 10 µs each.
MOST_CHANGES = 100

#: The name of the row that is of all entries.
ALL = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing that is due from ``since`` until ``until`` is fired; it goes on while that is ``None``."""

    since: datetime
    until: datetime | None = None
    note: str = ""
    author: str = ""

    @property
    def is_on(self) -> bool:
        return self.until is None

    def covers(self, due: datetime) -> bool:
        """Whether an occurrence of that due is passed over; one that is late too, as long as it is on."""
        return self.until is None or self.since <= due < self.until


@dataclass(frozen=True, slots=True)
class Row:
    """What was said at run time of one name; ``definition`` is JSON text, empty where it defines nothing.

    ``token`` is new with each change.  ``created`` and ``updated`` are for people.
    """

    version: int
    token: str
    created: datetime
    updated: datetime
    pause: Pause | None = None
    definition: str = ""

    @property
    def hash(self) -> str:
        """The definition as a cursor carries it; that of a tombstone where there is none."""
        return definition_hash(self.definition)

    @property
    def is_paused(self) -> bool:
        return self.pause is not None and self.pause.is_on


def definition_hash(definition: str) -> str:
    """A short hash of a definition's text; empty for none."""
    return blake2b(definition.encode(), digest_size=8).hexdigest() if definition else ""


def pause_end(due: datetime, now: datetime, pauses: Sequence[Pause | None]) -> datetime | None:
    """Until when what is due from ``due`` on is passed over; ``None`` if none of the pauses covers it."""
    if not pauses:
        return None
    ends = [
        now if pause.until is None else min(now, pause.until - _TICK)
        for pause in pauses
        if pause is not None and pause.covers(due)
    ]
    return max(ends, default=None)


def pause_start(due: datetime, pauses: Sequence[Pause | None]) -> datetime | None:
    """Since when what is due until ``due`` is passed over; ``None`` if none of the pauses covers it."""
    return min((it.since for it in pauses if it is not None and it.covers(due)), default=None)
