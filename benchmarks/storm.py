"""How fast one beat fires what is due all at once: ``python -m benchmarks.storm``.

All entries share one interval, so all are due at the same instant.  A sampler asks Redis for TIME and the
queue's length in one step, some 500 times a second; the rate is reckoned from the first sample that shows a
message to the first that shows them all.  Stock beat runs after it, with fewer entries: each of its ticks
compares all of them, so 20,000 would take it minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.drills.cluster import Cluster, every
from tests.drills.collector import connect
from tests.drills.process import wait_until
from tests.drills.redis_server import running_server

_SAMPLE = """
local time = redis.call('TIME')
return {time[1] * 1000000 + time[2], redis.call('LLEN', KEYS[1])}
"""
_EVERY = 0.002  # seconds between samples
_STOCK = "celery.beat:PersistentScheduler"
_DISPATCH = "celery_dispatch:DispatchScheduler"


@dataclass(frozen=True, slots=True)
class Storm:
    """What one storm showed; times in seconds."""

    scheduler: str
    entries: int
    rate: float  #: messages a second, from the first to the last
    duration: float  #: from the first to the last
    since_due: float | None  #: from the due to the last, where the due is known
    largest_jump: int  #: messages between two samples


class Sampler:
    """The length of the queue over time."""

    def __init__(self, url: str) -> None:
        self.samples: list[tuple[int, int]] = []
        self._client = connect(url)
        self._script = self._client.register_script(_SAMPLE)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(5)
        self._client.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            answer: Any = self._script(keys=["celery"])
            self.samples.append((int(answer[0]), int(answer[1])))
            time.sleep(_EVERY)


def storm(scheduler: str, entries: int, interval: float, directory: Path) -> Storm:
    """Let ``entries`` entries become due at once, on a fresh server, and time their messages."""
    settings = {"beat_scheduler": scheduler, "dispatch_catch_up": "all", "beat_max_loop_interval": 1}
    if scheduler == _STOCK:
        settings = {"beat_scheduler": scheduler}
    directory.mkdir(parents=True)
    with running_server(directory / "redis", "--appendonly", "no") as server:
        cluster = Cluster(server.url, directory, every(entries, interval), settings=settings)
        with cluster, Sampler(server.url) as sampler:
            beat = cluster.beat("beat").process
            wait_until(
                lambda: sampler.samples and sampler.samples[-1][1] >= entries,
                60 + 3 * interval,
                why=lambda: f"{entries} messages; {sampler.samples[-1:]}\n{beat.log[-2000:]}",
            )
            due = None if scheduler == _STOCK else cluster.since() / 1000 + interval
    return _reckon(scheduler, entries, sampler.samples, due)


def _reckon(scheduler: str, entries: int, samples: Sequence[tuple[int, int]], due: float | None) -> Storm:
    seen = [(at / 1e6, length) for at, length in samples if length]
    first_at, first_length = seen[0]
    last_at = next(at for at, length in seen if length >= entries)
    jumps = [later - earlier for (_, earlier), (_, later) in pairwise(samples)]
    duration = last_at - first_at
    rate = (entries - first_length) / duration if duration else float("inf")
    since_due = None if due is None else last_at - due
    return Storm(scheduler, entries, rate, duration, since_due, max(jumps))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__)
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--stock", type=int, default=1_000, help="entries for stock beat; 0 leaves it out")
    parser.add_argument("--interval", type=float, default=30.0, help="seconds; loading must take less")
    parser.add_argument(
        "--minimum", type=float, default=5_000.0, help="occurrences a second that must be reached"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="storm-"))
    runs = [(_DISPATCH, options.entries, options.interval)]
    if options.stock:
        runs += [(_DISPATCH, options.stock, 8.0), (_STOCK, options.stock, 8.0)]
    storms = [storm(*run, directory / str(number)) for number, run in enumerate(runs)]
    _print(storms)
    if options.json:
        options.json.write_text(json.dumps([asdict(found) for found in storms], indent=2) + "\n")
    return 0 if storms[0].rate >= options.minimum else 1


def _print(storms: Sequence[Storm]) -> None:
    table = Table(title="Due all at once, one beat", title_justify="left")
    headings = (
        "scheduler",
        "entries",
        "occurrences/s",
        "first to last s",
        "due to last s",
        "largest jump",
        "ratio",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "scheduler" else "right")
    base = storms[-1].rate
    for found in storms:
        since_due = "" if found.since_due is None else f"{found.since_due:.2f}"
        table.add_row(
            found.scheduler, f"{found.entries:,}", f"{found.rate:,.0f}", f"{found.duration:.2f}",
            since_due, f"{found.largest_jump:,}", f"{found.rate / base:.1f}",
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    sys.exit(main())
