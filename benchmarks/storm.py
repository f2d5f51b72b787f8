"""Storms: many entries that are due at the same instant.

Ours counts intervals from the pool's anchor, so one pool sees a storm at each interval; each storm of stock
beat and RedBeat has a process of its own (``peers``).  Crontabs are due at whole minutes: one pool has
several groups of them, and each minute a larger one is due.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from benchmarks.bare import bare_rate
from benchmarks.figures import Burst, accounted
from benchmarks.ground import QUEUE, Beats
from benchmarks.lab import Lab, Step, curve_of
from benchmarks.peers import LONGEST_START, peer_storm
from benchmarks.products import OURS, REDBEAT, STOCK, Product
from benchmarks.queues import OnRedis, watch
from benchmarks.results import Storm
from benchmarks.schedules import Group
from benchmarks.watching import cpu_seconds, occurrences_of

__all__ = ["Extent", "period", "steps"]

_BEFORE = 0.2  # seconds before the due from which the queue is looked at
_AFTER = 0.3  # seconds after the last message in which what follows it is done, and counted as CPU
_LARGE = 5_000


@dataclass(frozen=True, slots=True)
class Extent:
    """How large and how often.

    ``rounds`` are the storms of all products in turn, by number of entries; ``nodes`` those of ours on so
    many nodes with ``most`` entries; ``crontabs`` the groups of crontabs, one a minute.  ``bound`` is how
    many seconds a peer may fire.
    """

    rounds: Sequence[tuple[int, int]]
    bound: float
    most: int
    nodes: Sequence[int]
    crontabs: Sequence[int]
    storms: int = 3


def steps(extent: Extent) -> Iterator[Step]:
    """The storms of all products in turn, then ours on several nodes, then crontabs."""
    for entries, rounds in extent.rounds:
        for number in range(1, rounds + 1):
            for product in (OURS, STOCK, REDBEAT):
                if product.installed:
                    yield _step(product, entries, f"{number} of {rounds}", extent)
    if extent.nodes:
        yield _ladder(extent)
    if extent.crontabs:
        yield _of_crontabs(extent.crontabs)


def _step(product: Product, entries: int, which: str, extent: Extent) -> Step:
    title = f"storm of {entries:,}, {product.name}, {which}"
    if product is OURS:
        every = period(entries)
        seconds = 9 + entries / 10_000 + 2.5 * every
        return Step(title, seconds, lambda lab: _of_ours(lab, entries, (1,), storms=2))
    start = 4.0 + entries * (1.6e-3 if product is REDBEAT else 0.2e-3)
    start = min(start, LONGEST_START)
    seconds = start + extent.bound / 2
    return Step(
        title,
        seconds,
        lambda lab: iter([peer_storm(lab, product, "interval", entries, start=start, bound=extent.bound)]),
    )


def _ladder(extent: Extent) -> Step:
    title = f"storm of {extent.most:,} on {', '.join(map(str, extent.nodes))} nodes"
    each = extent.storms * period(extent.most) + extent.most / 8_000
    return Step(
        title,
        10 + len(extent.nodes) * each,
        lambda lab: _of_ours(lab, extent.most, extent.nodes, storms=extent.storms),
    )


def period(entries: int) -> float:
    """Seconds between two storms of ours, in which the first must be over and looked at."""
    return 3.0 if entries <= _LARGE else 3.0 + entries / 8_000


# --- ours ---------------------------------------------------------------------------------------------------


def _of_ours(lab: Lab, entries: int, ladder: Sequence[int], *, storms: int) -> Iterator[Storm]:
    """Storms of one pool, which has as many nodes as ``ladder`` says, one after the other."""
    every = period(entries)
    with lab.beats([Group("interval", entries, every)]) as (_, beats):
        for nodes in ladder:
            lab.say(f"starting, to be {nodes}")
            _grow(beats, nodes)
            for number in range(storms):
                lab.say(f"{nodes} nodes, storm {number + 1} of {storms}")
                due = beats.next_due(every, after=beats.now() + 2 * _BEFORE)
                yield measured(beats, "interval", nodes, entries, due=due, bound=every - 0.5)


def _grow(beats: Beats, nodes: int) -> None:
    for number in range(len(beats.beats) + 1, nodes + 1):
        beats.beat(f"node-{number}")
    beats.wait_for_pool(nodes)


def measured(beats: Beats, kind: str, nodes: int, entries: int, *, due: float, bound: float) -> Storm:
    """One storm on a pool that is ready for it, and the bare push right after it."""
    _wait(beats, due - 2 * _BEFORE)
    beats.redis.unlink(QUEUE)
    _wait(beats, due - _BEFORE)
    pids = beats.pids()
    before = sum(map(cpu_seconds, pids))
    samples = watch(OnRedis(beats), wanted=entries, until=due + bound)
    time.sleep(_AFTER)
    cpu = sum(map(cpu_seconds, pids)) - before
    distinct, twice = accounted(occurrences_of(beats.redis, QUEUE), due)
    bare = bare_rate(beats.redis, beats.url)
    beats.redis.unlink(QUEUE)
    return Storm(
        product=OURS.name,
        kind=kind,
        nodes=nodes,
        entries=entries,
        burst=Burst.of(samples, due=due, wanted=entries),
        distinct=distinct,
        twice=twice,
        cpu=cpu,
        bare=bare,
        curve=curve_of(samples, due),
    )


def _wait(beats: Beats, until: float) -> None:
    time.sleep(max(0.0, until - beats.now()))


def _of_crontabs(sizes: Sequence[int]) -> Step:
    title = f"storms of {', '.join(f'{size:,}' for size in sizes)} crontabs"
    return Step(
        title,
        35 + 60 * len(sizes) + sum(set(sizes)) / 2_500,
        lambda lab: _crontab_storms(lab, sizes),
    )


def _crontab_storms(lab: Lab, sizes: Sequence[int]) -> Iterator[Storm]:
    """A group of crontabs each minute.  Equal sizes that follow each other are one group, due again."""
    now = datetime.now(timezone.utc)
    ready = now + timedelta(seconds=15 + sum(set(sizes)) / 2_500)
    first = ready.replace(second=0, microsecond=0) + timedelta(minutes=1)
    groups: dict[int, Group] = {}
    for minute, size in enumerate(sizes):
        at = (first + timedelta(minutes=minute)).isoformat()
        groups.setdefault(size, Group("crontab", size, 60.0 * sizes.count(size), first=at))
    with lab.beats(list(groups.values())) as (_, beats):
        lab.say(f"starting; the first are due at {first:%H:%M} UTC")
        _grow(beats, 1)
        for minute, size in enumerate(sizes):
            due = first.timestamp() + 60 * minute
            if beats.now() > due - 2 * _BEFORE:
                raise AssertionError(f"the beat was not ready by {first:%H:%M:%S} UTC")
            lab.say(f"{size:,} crontabs, due at {first + timedelta(minutes=minute):%H:%M} UTC")
            yield measured(beats, "crontab", 1, size, due=due, bound=50.0)
