"""Storms: many entries that are due at the same instant.

Ours counts intervals from the pool's anchor, so one pool sees a storm at each interval.  Stock beat and
RedBeat count them from an entry's last run, which is therefore set so that all are due at one stated instant;
each of their storms has a process of its own.  Crontabs are due at whole minutes: one pool has as many
groups of them as there are minutes, and each minute a larger group is due.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from benchmarks.bare import bare_rate
from benchmarks.figures import Burst, Sample
from benchmarks.ground import QUEUE, Beats
from benchmarks.lab import Lab, Step, curve_of
from benchmarks.products import OURS, REDBEAT, STOCK, Product
from benchmarks.results import Storm
from benchmarks.schedules import Group
from benchmarks.watching import cpu_seconds, names_of, until_all, watched

__all__ = ["Extent", "measured", "steps", "watch"]

_BEFORE = 0.2  # seconds before the due from which the queue is looked at
_AFTER = 0.3  # seconds after the last message in which what follows it is done, and counted as CPU
_PERIOD = 3600.0  # seconds; the interval of a peer's entries, of which one is seen
_SAMPLES = 0.002, 0.01  # seconds between two looks at a small storm and at a large one
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
    start = min(start, 4 * extent.bound)
    seconds = start + extent.bound / 2
    return Step(title, seconds, lambda lab: _of_peer(lab, product, entries, start=start, bound=extent.bound))


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
    samples = watch(beats, wanted=entries, until=due + bound)
    time.sleep(_AFTER)
    cpu = sum(map(cpu_seconds, pids)) - before
    names = names_of(beats.redis, QUEUE)
    bare = bare_rate(beats.redis, beats.url)
    beats.redis.unlink(QUEUE)
    return Storm(
        product=OURS.name,
        kind=kind,
        nodes=nodes,
        entries=entries,
        burst=Burst.of(samples, due=due, wanted=entries),
        distinct=len(set(names)),
        twice=len(names) - len(set(names)),
        cpu=cpu,
        bare=bare,
        curve=curve_of(samples, due),
    )


def watch(
    beats: Beats, *, wanted: int, until: float, during: Callable[[Sample], None] = lambda sample: None
) -> list[Sample]:
    """The queue until it has ``wanted`` messages; ``during`` is told of each sample."""
    samples = []
    every = _SAMPLES[wanted > _LARGE]
    for sample in until_all(watched(beats.redis, QUEUE, every=every, until=until), wanted):
        samples.append(sample)
        during(sample)
    return samples


def _wait(beats: Beats, until: float) -> None:
    time.sleep(max(0.0, until - beats.now()))


def _of_crontabs(sizes: Sequence[int]) -> Step:
    title = f"storms of {', '.join(f'{size:,}' for size in sizes)} crontabs"
    return Step(
        title,
        30 + 45 + 60 * len(sizes) + sum(set(sizes)) / 2_500,
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


# --- others -------------------------------------------------------------------------------------------------


def _of_peer(lab: Lab, product: Product, entries: int, *, start: float, bound: float) -> Iterator[Storm]:
    """One storm; the product has ``start`` seconds to read its schedule, and at a second try thrice that."""
    storm = _peer_storm(lab, product, entries, start=start, bound=bound)
    if not storm.burst.fired and start < 4 * bound:
        storm = _peer_storm(lab, product, entries, start=min(3 * start, 4 * bound), bound=bound)
    yield storm


def _peer_storm(lab: Lab, product: Product, entries: int, *, start: float, bound: float) -> Storm:
    due = time.time() + start
    last_run = datetime.fromtimestamp(due - _PERIOD, timezone.utc).isoformat()
    group = Group("interval", entries, _PERIOD, last_run=last_run)
    with lab.beats([group], product=product) as (_, beats):
        lab.say(f"starting; all are due in {start:.0f} s")
        process = beats.beat("beat").process
        _wait(beats, due - _BEFORE)
        if not beats.is_ready("beat"):
            nothing = Burst.of([Sample(due + bound, 0)], due=due, wanted=entries)
            note = f"had not read its schedule after {start:.0f} s"
            return Storm(product.name, "interval", 1, entries, nothing, note=note)
        before = cpu_seconds(process.pid)
        lab.say("firing")
        samples = watch(beats, wanted=entries, until=due + bound)
        time.sleep(_AFTER)
        burst = Burst.of(samples, due=due, wanted=entries)
        return Storm(
            product=product.name,
            kind="interval",
            nodes=1,
            entries=entries,
            burst=burst,
            cpu=cpu_seconds(process.pid) - before,
            curve=curve_of(samples, due),
            note="" if burst.finished else f"stopped after {bound:.0f} s",
        )
