"""Time in the pool: Redis's clock, carried on the local monotonic clock.

Wall clocks of nodes are never compared, so a host that is minutes off changes nothing.  Each sample is a
server time with the monotonic instants at which it was asked for and received.  Of the last three samples
the one with the shortest round trip is used, and the server's time is taken to be that of *reception*:
the estimate is then behind the server by at most the way back, never ahead, and an occurrence is not
claimed early.

A sample that contradicts the one in use by more than both round trips can explain is a step of the
server's clock; the older samples are dropped at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "PoolClock", "SystemClock", "whole_ms"]

_SAMPLES = 3
_STEP_TOLERANCE = 0.1  # seconds beyond the round trips


def whole_ms(moment: datetime) -> datetime:
    """``moment`` without what is less than a millisecond."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Clock(Protocol):
    """The local source of elapsed time."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never steps."""
        ...


class SystemClock:
    """The clock of this host."""

    monotonic = staticmethod(time.monotonic)


@dataclass(frozen=True, slots=True)
class _Sample:
    server: datetime
    received: float
    round_trip: float

    def at(self, monotonic: float) -> datetime:
        return self.server + timedelta(seconds=monotonic - self.received)


class PoolClock:
    """Aware UTC ``now()`` of the pool, from samples of the server's time.

    ``monotonic()`` is that of ``clock``.  One thread may sample while another reads: the sample in use is one
    reference, replaced whole.
    """

    def __init__(self, clock: Clock) -> None:
        self.monotonic = clock.monotonic
        self._samples: tuple[_Sample, ...] = ()
        self._best: _Sample | None = None
        self.steps = 0

    @property
    def known(self) -> bool:
        """Whether a first sample was taken; ``now()`` needs one."""
        return self._best is not None

    def now(self) -> datetime:
        """The pool's time, aware UTC; raises ``RuntimeError`` before the first sample."""
        best = self._best
        if best is None:
            raise RuntimeError("the pool's time is unknown before the first heartbeat was answered")
        return best.at(self.monotonic())

    def sample(self, server: datetime, *, sent: float, received: float) -> None:
        """Take one reading: the server's time, and the monotonic seconds around the request."""
        new = _Sample(server, received, received - sent)
        best = self._best
        if best is not None:
            off = abs((best.at(received) - server).total_seconds())
            if off > best.round_trip + new.round_trip + _STEP_TOLERANCE:
                self._samples = ()
                self.steps += 1
        self._samples = (*self._samples, new)[-_SAMPLES:]
        self._best = min(self._samples, key=lambda sample: sample.round_trip)
