"""Expected against ran.

What had to run follows from the schedule alone: an entry due every second that began at an instant *a* is due
at *a* + 1 s, *a* + 2 s, … up to the end of the count.  That grid is compared with the runs.  Nothing is
taken from what the beats say of themselves but the instant *a*.  One that is changed while it runs has a grid
for each definition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from .runs import Run

__all__ = ["Grid", "Occurrence", "Verdict", "judge"]

Occurrence = tuple[str, int]  # entry, due in ms

_OPEN = 1_500  # ms; what was due so shortly before a change may be open yet, and is not fired any more


@dataclass(frozen=True, slots=True)
class Grid:
    """The dues of one definition of an entry: ``origin`` plus one, two, … ``step`` (ms).

    From ``since`` on, and up to ``until`` if it was changed or paused then.  ``number`` is the definition's.
    """

    entry: str
    origin: int
    step: int
    since: int = 0
    until: int | None = None
    number: int = 0

    def __contains__(self, run: Run) -> bool:
        if (run.entry, run.number) != (self.entry, self.number) or run.due <= self.origin:
            return False
        was_in_force = run.due >= self.since and (self.until is None or run.due <= self.until)
        return was_in_force and (run.due - self.origin) % self.step == 0

    def expected(self, until: int) -> set[Occurrence]:
        """What must have run, if the count ends with ``until`` (ms)."""
        end = until if self.until is None else min(until, self.until - _OPEN)
        late = -(-(self.since - self.origin) // self.step)  # steps that are over when it comes into force
        first = self.origin + max(1, late) * self.step
        return {(self.entry, due) for due in range(first, end + 1, self.step)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the count came to; lags in milliseconds by Redis's clock, from due to the run in the worker."""

    expected: int
    lost: tuple[Occurrence, ...]
    doubled: tuple[Occurrence, ...]
    early: tuple[Run, ...]
    unexpected: tuple[Run, ...]
    median_lag: float
    worst: Run | None

    @property
    def ran(self) -> int:
        """How many of the expected occurrences ran."""
        return self.expected - len(self.lost)

    @property
    def good(self) -> bool:
        """Whether everything ran, each occurrence once, none early."""
        return self.expected > 0 and not (self.lost or self.doubled or self.early or self.unexpected)


def judge(runs: Iterable[Run], grids: Sequence[Grid], *, until: int) -> Verdict:
    """Compare the runs with the grids, up to and including ``until`` (ms).

    Runs of later occurrences are not expected yet, but must not be doubled or early, and must be on a grid.
    """
    runs = list(runs)
    expected = set().union(*(grid.expected(until) for grid in grids))
    times_run = Counter((run.entry, run.due) for run in runs)
    counted = [run for run in runs if (run.entry, run.due) in expected]
    return Verdict(
        expected=len(expected),
        lost=tuple(sorted(expected - times_run.keys())),
        doubled=tuple(sorted(occurrence for occurrence, times in times_run.items() if times > 1)),
        early=tuple(run for run in runs if run.lag < 0),
        unexpected=tuple(run for run in runs if not any(run in grid for grid in grids)),
        median_lag=median(run.lag for run in counted) if counted else 0,
        worst=max(counted, key=lambda run: run.lag, default=None),
    )
