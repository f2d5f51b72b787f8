"""Virtual time: it jumps from one event to the next.

What takes time runs as a task: code that may ``wait`` in the middle of anything, as a process does for an
answer.  Tasks are greenlets, so that the product's code, which knows of no such thing, can be stopped at any
call of a port and go on later, side by side with others and in one thread.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

from greenlet import getcurrent, greenlet

__all__ = ["Loop"]


class Loop:
    """Runs what was asked for at its instant; what falls together in an order drawn from ``random``."""

    def __init__(self, random: Random) -> None:
        self.now = 0.0  # seconds since the beginning
        self.stopped = False
        self._random = random
        self._events: list[tuple[float, float, int, Callable[[], object]]] = []
        self._count = 0
        self._hub = getcurrent()
        self._waiting: set[greenlet] = set()

    def monotonic(self) -> float:
        """True time, in seconds: what a store's clock is carried on."""
        return self.now

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        """Let ``act`` be called at ``seconds``, or now if that is past; it must not wait."""
        self._count += 1
        heapq.heappush(self._events, (max(seconds, self.now), self._random.random(), self._count, act))

    def task_at(self, seconds: float, work: Callable[[], object]) -> None:
        """Let ``work`` be called at ``seconds``, or now if that is past, as a task that may wait."""
        self.at(seconds, lambda: greenlet(work, self._hub).switch())

    def wait(self, until: float) -> None:
        """Let the others go on until ``until``; only within a task."""
        task = getcurrent()
        self._waiting.add(task)
        self.at(until, task.switch)
        self._hub.switch()
        self._waiting.discard(task)

    def run(self, until: float) -> None:
        """Run events up to ``until``, or until ``stopped``; tasks that still wait then are given up."""
        self._hub = getcurrent()
        while not self.stopped and self._events and self._events[0][0] <= until:
            self.now, _, _, act = heapq.heappop(self._events)
            act()
        self._events.clear()
        for task in list(self._waiting):
            task.throw()
        if not self.stopped:
            self.now = until
