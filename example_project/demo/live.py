"""Entries that a person creates, changes and pauses while the beats run and die, through ``Schedules``.

There is one for each beat, so that each beat is seen to follow.  What they send carries the number of the
definition that it was sent by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from celery import Celery

from celery_dispatch import Schedules

from .pool import PoolReader, label
from .runs import Run
from .verdict import Grid

__all__ = ["Change", "Live"]

_AT_FIRST, _THEN = 200, 100  # ms: how often each is due as it is created, and when it is changed


@dataclass(frozen=True, slots=True)
class Change:
    """What was done, as a person reads it, and from when on it held for each entry (ms by Redis's clock).

    ``number`` is that of the new definition, 0 where there is none.
    """

    what: str
    since: dict[str, int]
    number: int = 0

    def first_runs(self, runs: Iterable[Run]) -> dict[str, Run]:
        """For each entry the first run by the new definition, once all of them are there."""
        found: dict[str, Run] = {}
        for run in runs:
            if run.number == self.number and run.entry in self.since:
                found.setdefault(run.entry, run)
        return found if len(found) == len(self.since) else {}

    def followed(self, runs: Iterable[Run]) -> str:
        """How soon the first message of the new definition ran, and by whom; empty until all are there."""
        first = self.first_runs(runs).values()
        told = sorted((run.at - self.since[run.entry], label(run.node)) for run in first)
        return ", ".join(f"by {node} after {after} ms" for after, node in told)


class Live:
    """Carries the changes out; ``grids`` are what has to run by them."""

    def __init__(self, url: str, pool: PoolReader) -> None:
        self._schedules = Schedules(Celery("proj", broker=url, set_as_current=False))
        self._pool = pool
        self._began: dict[str, int] = {}
        self.names: tuple[str, ...] = ()
        self.grids: tuple[Grid, ...] = ()

    def create(self) -> Change:
        """One entry for each beat."""
        self.names = self._pool.one_for_each(f"live-{number:02}" for number in range(1, 100))
        item = {"task": "demo.tick", "schedule": _AT_FIRST / 1000, "args": [1]}
        self._schedules.create_many(dict.fromkeys(self.names, item))
        since = self._follow(1, _AT_FIRST)
        return Change(f"created {_listed(self.names)}, one for each beat: due every {_AT_FIRST} ms", since, 1)

    def change(self) -> Change:
        """Each of them is due twice as often, and sends something else."""
        for name in self.names:
            self._schedules.update(name, schedule=_THEN / 1000, args=[2])
        since = self._follow(2, _THEN)
        return Change(f"changed {_listed(self.names)}: due every {_THEN} ms", since, 2)

    def pause(self) -> Change:
        """None of them fires any more."""
        since: dict[str, int] = {}
        for name in self.names:
            paused = self._schedules.pause(name, note="the demo", author="demo").paused
            assert paused is not None
            since[name] = round(paused.at.timestamp() * 1000)
        self._end(since)
        return Change(f"paused {_listed(self.names)}: none of them is fired any more", since)

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._schedules.close()

    def _follow(self, number: int, step: int) -> dict[str, int]:
        """The definition of that number is in force; since when, by entry."""
        since = self._pool.began(self.names)
        self._end(since)
        self._began = self._began or since
        self.grids += tuple(
            Grid(name, self._began[name], step, since=since[name], number=number) for name in self.names
        )
        return since

    def _end(self, since: dict[str, int]) -> None:
        """What was in force is not, from these instants on."""
        self.grids = tuple(
            replace(grid, until=since[grid.entry]) if grid.until is None else grid for grid in self.grids
        )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
