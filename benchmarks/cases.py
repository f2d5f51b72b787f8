"""Which benchmarks there are, and how large they are: in full, and quick."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from benchmarks import changes, rest, run_time, steady, storm, two_steps
from benchmarks.lab import Step

__all__ = ["CASES", "planned"]

_FULL = storm.Extent(
    rounds=((100, 2), (1_000, 3), (5_000, 2), (20_000, 1), (100_000, 1)),
    bound=10.0,
    most=100_000,
    nodes=(1, 2, 4),
    crontabs=(1_000, 20_000, 100_000, 100_000),
    storms=3,
)
_QUICK = storm.Extent(rounds=((1_000, 1), (5_000, 1)), bound=3.0, most=5_000, nodes=(), crontabs=(), storms=2)

#: By name: the steps of a case, told whether they are to be quick.
CASES: dict[str, Callable[[bool], Iterable[Step]]] = {
    "storm": lambda quick: storm.steps(_QUICK if quick else _FULL),
    "steady": lambda quick: steady.steps(1_000 if quick else 5_000, 5 if quick else 30),
    "rest": lambda quick: rest.steps(5_000 if quick else 100_000, 5 if quick else 30),
    "changes": lambda quick: () if quick else changes.steps(100_000),
    "schedules": lambda quick: (
        run_time.steps(10_000, 1_000, 5) if quick else run_time.steps(100_000, 10_000, 30)
    ),
    "two-steps": lambda quick: () if quick else two_steps.steps(1_000, 2),
}


def planned(names: Sequence[str], *, quick: bool) -> list[Step]:
    """The steps of these cases, in the order of ``CASES``."""
    return list(_steps(names, quick))


def _steps(names: Sequence[str], quick: bool) -> Iterator[Step]:
    for name, steps in CASES.items():
        if name in names:
            yield from steps(quick)
