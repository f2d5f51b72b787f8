"""One storm of stock beat or RedBeat, all of whose entries are due at one stated instant."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from benchmarks.figures import Burst, Sample
from benchmarks.ground import Beats
from benchmarks.lab import Lab, curve_of
from benchmarks.products import Product
from benchmarks.queues import OnRedis, Queue, watch
from benchmarks.results import Storm
from benchmarks.schedules import Group
from benchmarks.watching import cpu_seconds

__all__ = ["LONGEST_START", "peer_storm"]

LONGEST_START = 40.0  # seconds that a product may take to read its schedule
_PERIOD = 3600.0  # seconds; the interval of the entries, of which one is seen
_BEFORE = 0.2  # seconds before the due from which the queue is looked at
_AFTER = 0.3  # seconds after the last message that count as CPU


def peer_storm(
    lab: Lab,
    product: Product,
    kind: str,
    entries: int,
    *,
    start: float,
    bound: float,
    queue_of: Callable[[Beats], Queue] = OnRedis,
    **options: Any,
) -> Storm:
    """``start`` is how many seconds it has to read its schedule, thrice as many if they were too few.

    It may fire for ``bound`` seconds.  ``options`` are those of its beats.
    """
    due = time.time() + start
    last_run = datetime.fromtimestamp(due - _PERIOD, timezone.utc).isoformat()
    group = Group("interval", entries, _PERIOD, last_run=last_run)
    with lab.beats([group], product=product, **options) as (_, beats):
        lab.say(f"{product.name}: starting; all are due in {start:.0f} s")
        process = beats.beat("beat").process
        time.sleep(max(0.0, due - _BEFORE - time.time()))
        if beats.is_ready("beat"):
            lab.say(f"{product.name}: firing")
            queue, before = queue_of(beats), cpu_seconds(process.pid)
            queue.empty()
            samples = watch(queue, wanted=entries, until=due + bound)
            time.sleep(_AFTER)
            burst = Burst.of(samples, due=due, wanted=entries)
            cpu = cpu_seconds(process.pid) - before
            note = "" if burst.finished else f"stopped after {bound:.0f} s"
            return Storm(
                product.name, kind, 1, entries, burst, cpu=cpu, curve=curve_of(samples, due), note=note
            )
    if start < LONGEST_START:
        longer = min(3 * start, LONGEST_START)
        return peer_storm(
            lab, product, kind, entries, start=longer, bound=bound, queue_of=queue_of, **options
        )
    nothing = Burst.of([Sample(due + bound, 0)], due=due, wanted=entries)
    note = f"had not read its schedule after {start:.0f} s"
    return Storm(product.name, kind, 1, entries, nothing, note=note)
