"""Expected against ran.

What had to run follows from the schedule alone: an entry due every second that began at an instant *a* is due
at *a* + 1 s, *a* + 2 s, … up to the end of the count.  That grid is compared with the runs.  Nothing is
taken from what the beats say of themselves but the instant *a*.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from .runs import Run

__all__ = ["Occurrence", "Verdict", "judge"]

Occurrence = tuple[str, int]  # entry, due in ms


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


def judge(runs: Iterable[Run], began: Mapping[str, int], *, step: int, until: int) -> Verdict:
    """Compare the runs with the grid of every entry of ``began``, up to and including ``until`` (ms).

    Runs of later occurrences are not expected yet, but must not be doubled or early, and must be on the grid.
    """
    runs = list(runs)
    expected = {(name, due) for name, start in began.items() for due in range(start + step, until + 1, step)}
    times_run = Counter((run.entry, run.due) for run in runs)
    counted = [run for run in runs if (run.entry, run.due) in expected]
    return Verdict(
        expected=len(expected),
        lost=tuple(sorted(expected - times_run.keys())),
        doubled=tuple(sorted(occurrence for occurrence, times in times_run.items() if times > 1)),
        early=tuple(run for run in runs if run.lag < 0),
        unexpected=tuple(run for run in runs if not _on_grid(run, began, step)),
        median_lag=median(run.lag for run in counted) if counted else 0,
        worst=max(counted, key=lambda run: run.lag, default=None),
    )


def _on_grid(run: Run, began: Mapping[str, int], step: int) -> bool:
    start = began.get(run.entry)
    return start is not None and run.due > start and (run.due - start) % step == 0
