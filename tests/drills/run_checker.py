"""Judges what real workers ran against the messages that arrived.

=========  ===========================================================================================
finding    meaning
=========  ===========================================================================================
unrun      a message that no worker ran
rerun      a message that was run more often than it arrived: the worker's doing, or its broker's
unknown    a run of a message that never arrived
mistaken   a run that saw another entry or due in its headers than the message of that id had
=========  ===========================================================================================

An occurrence that was fired twice is two messages, and each is run: that is ``doubled`` in ``checker``, and
no finding here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tests.drills.checker import Arrival

__all__ = ["RunVerdict", "judge_runs"]


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """What is wrong with the runs of a history."""

    ran: int
    unrun: tuple[Arrival, ...]
    rerun: tuple[Arrival, ...]
    unknown: tuple[Arrival, ...]
    mistaken: tuple[Arrival, ...]

    @property
    def problems(self) -> list[str]:
        """One sentence per kind of finding, with examples."""
        found = {
            "messages were not run": self.unrun,
            "runs too many": self.rerun,
            "runs of no message": self.unknown,
            "runs of another occurrence than the message's": self.mistaken,
        }
        said = [f"{len(items)} {kind}, e.g. {items[:3]}" for kind, items in found.items() if items]
        return said if self.ran else [*said, "no worker ran anything, so nothing was judged"]


def judge_runs(arrivals: Iterable[Arrival], runs: Iterable[Arrival]) -> RunVerdict:
    """Hold each run against the messages of its task id."""
    sent, made = list(arrivals), sorted(runs, key=lambda run: run.at)
    messages = {arrival.task_id: arrival for arrival in sent}
    left = Counter(arrival.task_id for arrival in sent)
    rerun, unknown, mistaken = [], [], []
    for run in made:
        if run.task_id not in messages:
            unknown.append(run)
        elif _occurrence(run) != _occurrence(messages[run.task_id]):
            mistaken.append(run)
        elif not left[run.task_id]:
            rerun.append(run)
        left[run.task_id] -= left[run.task_id] > 0
    return RunVerdict(
        ran=len(made),
        unrun=tuple(messages[task_id] for task_id, count in left.items() if count),
        rerun=tuple(rerun),
        unknown=tuple(unknown),
        mistaken=tuple(mistaken),
    )


def _occurrence(arrival: Arrival) -> tuple[str, int | None, str]:
    return arrival.entry, arrival.due, str(arrival.headers.get("dispatch_entry"))
