"""What each benchmark is given: where to work, and how large to be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Sample
from benchmarks.ground import Beats, redis_running
from benchmarks.products import OURS, Product
from benchmarks.schedules import Group
from tests.drills.ground import Ground
from tests.servers import Server

__all__ = ["Lab", "Step"]

_POINTS = 240  # of a curve, as many as a plot shows


@dataclass
class Lab:
    """``say`` tells a person what is being done now; ``servers`` are those that ran, with their versions."""

    directory: Path
    say: Callable[[str], None]
    servers: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @contextmanager
    def beats(
        self, groups: Sequence[Group], *, product: Product = OURS, **options: Any
    ) -> Iterator[tuple[Server, Beats]]:
        """A Redis of its own and the beats on it, none of which is started yet."""
        directory = self.directory / f"run-{next(self._numbers):03}"
        directory.mkdir(parents=True)
        with redis_running(directory) as server:
            self.servers.update(Ground(server).software())
            beats = Beats(server.url, directory, groups, product=product, **options)
            with beats:
                yield server, beats


@dataclass(frozen=True, slots=True)
class Step:
    """Part of a benchmark that can fail by itself; ``seconds`` is what it takes, about."""

    title: str
    seconds: float
    run: Callable[[Lab], Iterator[object]]


def curve_of(samples: Sequence[Sample], due: float) -> list[tuple[float, float]]:
    """Messages over the seconds since ``due``, no more points than a plot can show."""
    known = [(round(sample.at - due, 4), float(sample.length)) for sample in samples if sample.at >= due]
    step = max(1, len(known) // _POINTS)
    return [*known[::step], *known[-1:]]
