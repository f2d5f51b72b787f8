"""A stream: thousands of occurrences a second that are due one by one, on one node."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from math import log

from benchmarks.figures import arrivals
from benchmarks.ground import QUEUE
from benchmarks.lab import Lab, Step
from benchmarks.results import Steady
from benchmarks.schedules import Group
from benchmarks.watching import cpu_seconds, occurrences_of, watched
from tests.drills.checker import percentile

__all__ = ["steps"]

_EVERY = 0.002  # seconds between two looks
_SETTLE = 6.0  # seconds until the stream is even: all entries begin at the same instant
_PERCENTS = (*range(100), 99.5, 99.9, 100)
_MEAN_RATE = log(1.3 / 0.7) / 0.6  # of an entry of a stream, in its base interval


def steps(rate: float, seconds: float) -> Iterator[Step]:
    title = f"{rate:,.0f} a second for {seconds:.0f} s"
    yield Step(title, seconds + 30, lambda lab: _stream(lab, rate, seconds))


def _stream(lab: Lab, rate: float, seconds: float) -> Iterator[Steady]:
    entries = round(rate / _MEAN_RATE)
    with lab.beats([Group("stream", entries, 1.0)]) as (server, beats):
        lab.say("starting")
        process = beats.beat("node-1").process
        beats.wait_for_pool(1)
        lab.say("letting it become even")
        time.sleep(max(0.0, beats.since() / 1000 + _SETTLE - beats.now()))
        lab.say("measuring")
        beats.redis.unlink(QUEUE)
        pids = process.pid, server.pid
        before = [cpu_seconds(pid) for pid in pids]
        began = beats.now()
        samples = list(watched(beats.redis, QUEUE, every=_EVERY, until=began + seconds))
        cpu = [cpu_seconds(pid) - spent for pid, spent in zip(pids, before)]
        lab.say("reading what was sent")
        process.terminate()
        process.wait(20)
        took = samples[-1].at - began
        at = arrivals(samples, samples[-1].length)
        sent = occurrences_of(beats.redis, QUEUE)
        lags = sorted(arrived - due / 1000 for arrived, (_, due) in zip(at, sent))
        yield Steady(
            entries=entries,
            wanted=rate,
            seconds=took,
            rate=len(at) / took,
            p50=percentile(lags, 50),
            p99=percentile(lags, 99),
            worst=percentile(lags, 100),
            twice=sum(count - 1 for count in Counter(sent).values()),
            cpu=cpu[0] / took,
            redis_cpu=cpu[1] / took,
            lags=[(float(percent), percentile(lags, percent)) for percent in _PERCENTS],
        )
