"""The arithmetic: spreads, ratios, and what a growing queue says of the messages on it.

A queue's length is asked for some hundred times a second, together with Redis's own clock.  As messages are
only added meanwhile, the message in place ``n`` arrived between the last sample shorter than ``n`` and the
first that is not; the later of the two is taken.  So no clock of a sender is believed, and the messages need
not be moved while it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

__all__ = ["Burst", "Ratio", "Sample", "Spread", "accounted", "arrivals", "longest_pause"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Several runs of one figure: the one in the middle, the lowest and the highest."""

    middle: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Raises ``ValueError`` where there are none."""
        known = sorted(values)
        if not known:
            raise ValueError("there is no spread of no runs")
        return cls(median(known), known[0], known[-1], len(known))


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure over another: ``low`` and ``high`` are the worst and the best of all pairs of their runs."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, above: Spread, below: Spread) -> Ratio:
        """Infinite where nothing came of what it is compared with."""
        return cls(
            _over(above.middle, below.middle),
            _over(above.low, below.high),
            _over(above.high, below.low),
        )


def _over(above: float, below: float) -> float:
    if below:
        return above / below
    return math.inf if above else math.nan


@dataclass(frozen=True, slots=True)
class Sample:
    """How long the queue was ``at`` an instant, in seconds by Redis's clock."""

    at: float
    length: int


@dataclass(frozen=True, slots=True)
class Burst:
    """Messages that were all due at one instant; seconds.

    ``to_last`` is from the due to the last message, ``between`` from the first to the last, ``pause`` the
    longest time between them in which none came.  ``finished``: all that were wanted came before the bound;
    if not, ``to_last`` is the bound.
    """

    fired: int
    wanted: int
    to_last: float
    between: float
    pause: float

    @property
    def finished(self) -> bool:
        return self.fired >= self.wanted

    @property
    def rate(self) -> float:
        """Messages a second, from the due on."""
        return self.fired / self.to_last

    @property
    def rate_between(self) -> float:
        """Messages a second, from the first sample that shows any to the last."""
        return self.fired / self.between if self.between else math.inf

    @classmethod
    def of(cls, samples: Sequence[Sample], *, due: float, wanted: int) -> Burst:
        """Reckoned from the samples since before the due; the last of them is at the bound, or shows all."""
        fired = min(wanted, samples[-1].length)
        last = next((sample for sample in samples if sample.length >= wanted), samples[-1])
        before = [sample.at for sample in samples if not sample.length and sample.at < last.at]
        began = max([due, *before[-1:]])
        return cls(
            fired=fired,
            wanted=wanted,
            to_last=max(last.at - due, 1e-6),
            between=max(last.at - began, 0.0),
            pause=longest_pause(sample for sample in samples if sample.at <= last.at),
        )


def longest_pause(samples: Iterable[Sample]) -> float:
    """The longest time between two messages, as far as the samples can tell; 0 where they cannot."""
    changes = [later.at for earlier, later in pairwise(samples) if later.length != earlier.length]
    return max((later - earlier for earlier, later in pairwise(changes)), default=0.0)


def arrivals(samples: Iterable[Sample], count: int) -> list[float]:
    """When each of the first ``count`` messages arrived, in their order; fewer if the queue was shorter."""
    found: list[float] = []
    for sample in samples:
        found.extend([sample.at] * (min(count, sample.length) - len(found)))
    return found


def accounted(occurrences: Sequence[tuple[str, int]], due: float) -> tuple[int, int]:
    """How many entries have a message for ``due`` (seconds), and how many messages repeat another one.

    An occurrence is its entry and its due in ms; messages that an earlier storm was late with are no repeats.
    """
    known = set(occurrences)
    of_due = sum(1 for _, at in known if at == round(1000 * due))
    return of_due, len(occurrences) - len(known)
