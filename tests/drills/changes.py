"""What the changes of a schedule while it runs oblige a pool to, where their instants are known only roughly.

A change is *asked* for at one instant and *answered* at a later one, or never: then its outcome is unknown,
and so is everything that depends on it.  An occurrence is therefore one of three kinds::

    create            asked ─── answered                      asked ─── answered           delete
                         ├─ may ──┤        must                 ├─ may ──┤        must not

* **must** be sent: it was due after the last change was answered and before the next one was asked for;
* **may** be sent: it was due while a change was under way, or after one whose answer never came;
* **must not**: anything else.  After a removal (or a pause) was answered nothing arrives any more, once a
  handover is over, whenever it was due.

Only schedules that are due at fixed instants can be judged, such as ``Clock`` and ``Cron``: the grid of
another one begins at an instant that the caller does not know.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.drills.checker import Arrival
from tests.drills.oracle import Occurrence, Rule, dues

__all__ = ["Change", "ChangeVerdict", "judge_changes"]

_NEVER = 1 << 60


@dataclass(frozen=True, slots=True)
class Change:
    """From now on ``entry`` follows ``rule``; with ``None`` it is removed or paused.

    ``asked`` and ``answered`` are ms by Redis TIME; the latter is ``None`` where no answer came, or an error
    that leaves open whether the change took place.
    """

    entry: str
    rule: Rule | None
    asked: int
    answered: int | None


@dataclass(frozen=True, slots=True)
class ChangeVerdict:
    """What is wrong with a history; ``may`` were allowed either way, ``sent`` of them arrived."""

    must: int
    may: int
    sent: int
    lost: tuple[Occurrence, ...]
    doubled: tuple[Occurrence, ...]
    early: tuple[Arrival, ...]
    phantom: tuple[Arrival, ...]

    @property
    def problems(self) -> list[str]:
        """One sentence per kind of finding, with examples."""
        found: dict[str, Sequence[object]] = {
            "lost": self.lost,
            "doubled": self.doubled,
            "early": self.early,
            "phantom": self.phantom,
        }
        said = [f"{len(items)} {kind}, e.g. {items[:3]}" for kind, items in found.items() if items]
        return said if self.must else [*said, "nothing had to be sent, so nothing was judged"]


def judge_changes(
    changes: Iterable[Change], arrivals: Iterable[Arrival], *, until: int, handover: int
) -> ChangeVerdict:
    """Judge what arrived of entries that were changed; ``until`` and ``handover`` are ms.

    The changes of one entry come one after the other: each is asked for after the answer to the one before,
    or after the caller had given that up.
    """
    history = sorted(arrivals, key=lambda it: it.at)
    lives: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        lives[change.entry].append(change)
    must: set[Occurrence] = set()
    may: set[Occurrence] = set()
    for name, life in lives.items():
        owed, open_ = _of(life, until=until, handover=handover)
        must |= {(name, due) for due in owed}
        may |= {(name, due) for due in open_ - owed}
    ids: dict[Occurrence, list[Arrival]] = defaultdict(list)
    for arrival in history:
        ids[arrival.entry, arrival.due or 0].append(arrival)
    return ChangeVerdict(
        must=len(must),
        may=len(may),
        sent=len(may & ids.keys()),
        lost=tuple(sorted(must - ids.keys())),
        doubled=tuple(sorted(it for it, seen in ids.items() if len(seen) > 1)),
        early=tuple(it for it in history if it.lag < 0),
        phantom=tuple(it for it in history if _is_phantom(it, must | may, lives, until, handover)),
    )


def _of(life: Sequence[Change], *, until: int, handover: int) -> tuple[set[int], set[int]]:
    """The dues of one entry that must, and those that may be sent."""
    must: set[int] = set()
    may: set[int] = set()
    end = Change("", None, _NEVER, _NEVER)
    for change, following in pairwise((*life, end)):
        if change.rule is None:
            continue
        known = _NEVER if change.answered is None else change.answered
        over = _over(life, after=change)
        found = dues(change.rule, anchor=change.asked - 1, until=min(over, until))
        may |= set(found)
        # What is due right before a removal may still be on its way to the standby when that is answered.
        must |= {due for due in found if known < due < following.asked - handover}
    return must, may


def _over(life: Sequence[Change], *, after: Change) -> int:
    """From when on nothing may be due under this change: when a later one is known to be in force."""
    later = [it.answered for it in life if it.asked > after.asked and it.answered is not None]
    return min(later, default=_NEVER)


def _is_phantom(
    arrival: Arrival,
    real: set[Occurrence],
    lives: Mapping[str, Sequence[Change]],
    until: int,
    handover: int,
) -> bool:
    if arrival.due is None or arrival.entry not in lives:
        return True
    if arrival.due > until:
        return False
    if (arrival.entry, arrival.due) not in real:
        return True
    at = arrival.at / 1000
    before = [it for it in lives[arrival.entry] if it.asked <= at]
    last = before[-1]
    return last.rule is None and last.answered is not None and at > last.answered + handover
