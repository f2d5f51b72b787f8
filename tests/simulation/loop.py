"""Virtual time: it jumps from one event to the next.

Whoever has to wait in the middle of something (a request that takes long, a process that is stopped) lets the
others go on from where it stands: ``wait`` runs their events and returns when its time has come.  Waits that
were begun later end first, so one may last longer than it was asked to, as on a machine that is busy.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

__all__ = ["Loop"]


class Loop:
    """Runs what was asked for at its instant; what falls together in an order drawn from ``random``."""

    def __init__(self, random: Random) -> None:
        self.now = 0.0  # seconds since the beginning
        self._random = random
        self._events: list[tuple[float, float, int, Callable[[], None]]] = []
        self._count = 0
        self.stopped = False

    def monotonic(self) -> float:
        """True time, in seconds: what a store's clock is carried on."""
        return self.now

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Let ``act`` be called at ``seconds``, or now if that is past."""
        self._count += 1
        heapq.heappush(self._events, (max(seconds, self.now), self._random.random(), self._count, act))

    def wait(self, until: float, *, given_up: Callable[[], bool] = lambda: False) -> None:
        """Run events until ``until``, or until the wait is ``given_up``."""
        while not self.stopped and self._events and self._events[0][0] <= until:
            at, _, _, act = heapq.heappop(self._events)
            self.now = max(self.now, at)
            act()
            if given_up():
                return
        if not self.stopped:
            self.now = max(self.now, until)
