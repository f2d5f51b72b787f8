"""A node joins, and a node is killed, while a storm is being fired."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median

from benchmarks.figures import Burst, Sample, accounted
from benchmarks.ground import QUEUE, Beats
from benchmarks.lab import Lab, Step, curve_of
from benchmarks.queues import OnRedis, watch
from benchmarks.results import Change
from benchmarks.schedules import Group
from benchmarks.storm import period
from benchmarks.watching import occurrences_of

__all__ = ["steps"]

_FROM = 0.3  # the part of the messages that is sent when it happens
_SETTLE = 0.5  # seconds in which a message that is sent twice would come


def steps(entries: int) -> Iterator[Step]:
    title = f"a join and a kill during a storm of {entries:,}"
    yield Step(title, 40 + 8 * period(entries), lambda lab: _changes(lab, entries))


def _changes(lab: Lab, entries: int) -> Iterator[Change]:
    every = period(entries)
    with lab.beats([Group("interval", entries, every)]) as (_, beats):
        lab.say("starting")
        beats.beat("node-1")
        beats.beat("node-2", hold=True)
        beats.wait_for_ready("node-2")
        beats.wait_for_pool(1)
        lab.say("a storm with one node")
        alone = [_storm(beats, entries, every)[0].to_last for _ in range(2)]
        lab.say("a node joins")
        joined = _storm(beats, entries, every, lambda: beats.let_go("node-2"))
        yield _change("join", entries, joined, median(alone))
        beats.wait_for_pool(2)
        lab.say("a node is killed")
        killed = _storm(beats, entries, every, beats.beats["node-2"].process.kill)
        beats.wait_for_nodes(1, timeout=60)
        lab.say("a storm with one node again")
        alone += [_storm(beats, entries, every)[0].to_last]
        yield _change("kill -9", entries, killed, median(alone))


_Storm = tuple[Burst, int, list[tuple[float, float]], list[tuple[float, float]]]


def _storm(beats: Beats, entries: int, every: float, happen: Callable[[], object] | None = None) -> _Storm:
    """A storm in which something happens: its burst, messages sent twice, its curve, and when it happened."""
    due = beats.next_due(every, after=beats.now() + 1.0)
    time.sleep(max(0.0, due - beats.now() - 0.7))
    beats.redis.unlink(QUEUE)
    time.sleep(max(0.0, due - beats.now() - 0.2))
    marks: list[tuple[float, float]] = []

    def during(sample: Sample) -> None:
        if happen is not None and not marks and sample.length >= _FROM * entries:
            happen()
            marks.append((sample.at - due, float(sample.length)))

    until = due + every - _SETTLE - 0.3
    samples = watch(OnRedis(beats), wanted=entries, until=until, during=during)
    if happen is not None and not marks:
        raise AssertionError(
            f"the storm was too slow: {samples[-1].length:,} of {entries:,} when it was to end"
        )
    time.sleep(_SETTLE)
    _, twice = accounted(occurrences_of(beats.redis, QUEUE), due)
    return Burst.of(samples, due=due, wanted=entries), twice, curve_of(samples, due), marks


def _change(what: str, entries: int, storm: _Storm, undisturbed: float) -> Change:
    burst, twice, curve, marks = storm
    return Change(what, entries, burst.pause, burst.to_last, undisturbed, burst.finished, twice, curve, marks)
