"""The beats of one product against one Redis, with the benchmark's own app."""

from __future__ import annotations

import json
import math
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks.products import OURS, Product
from benchmarks.schedules import Group
from tests.drills.cluster import Beat, Cluster
from tests.drills.collector import now_us
from tests.drills.process import Process, wait_until
from tests.drills.redis_server import running_server
from tests.drills.releases import Release
from tests.servers import Server

__all__ = ["QUEUE", "Beats", "redis_running"]

QUEUE = "celery"
_START = 180.0  # seconds; 100,000 entries on a busy machine


@contextmanager
def redis_running(directory: Path) -> Iterator[Server]:
    """A Redis that writes nothing to the disk, so that no two runs differ by what the disk does."""
    with running_server(directory / f"redis-{uuid.uuid4().hex[:6]}", appendonly=False) as server:
        yield server


class Beats(Cluster):
    """Beats of ``product`` that run ``groups`` of entries; ended on leaving.

    The log level is Celery's own default for ``celery beat``, WARNING.
    """

    app = "benchmarks.app"

    def __init__(
        self,
        url: str,
        directory: Path,
        groups: Sequence[Group],
        *,
        product: Product = OURS,
        settings: Mapping[str, object] | None = None,
        receiver: bool = False,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(url, directory, {}, settings={**product.settings(url), **(settings or {})})
        self.groups = list(groups)
        self.receiver = receiver

    def environment(
        self,
        *,
        url: str | None = None,
        conf: Mapping[str, object] | None = None,
        release: Release | None = None,
    ) -> dict[str, str]:
        own = dict(conf or {})
        name = str(own.pop("bench_name", own.get("dispatch_node_name", "beat")))
        document = {
            "conf": {"broker_url": self.url, **self.settings, **own},
            "groups": [asdict(group) for group in self.groups],
            "receiver": self.receiver,
            "ready": str(self._file(name, "ready")),
            "hold": str(self._file(name, "hold")),
        }
        path = self.directory / f"app-{uuid.uuid4().hex[:8]}.json"
        path.write_text(json.dumps(document))
        return {"BENCH_APP": str(path)}

    def beat(self, name: str, *arguments: str, hold: bool = False, **options: object) -> Beat:
        """Start a beat; ``hold``: it reads its schedule and then waits for ``release_hold``."""
        if hold:
            self._file(name, "hold").touch()
        conf = {"bench_name": name}
        return super().beat(name, *arguments, "-l", "WARNING", conf=conf)

    def let_go(self, name: str) -> None:
        """End the hold of a beat."""
        self._file(name, "hold").unlink()

    def wait_for_ready(self, name: str, timeout: float = _START) -> None:
        """Until the beat has read its schedule."""
        ready = self._file(name, "ready")
        process = self.beats[name].process
        wait_until(lambda: ready.exists() or not process.alive, timeout, why=self.logs)
        if not process.alive:
            raise AssertionError(f"{name} ended by itself\n{process.log[-2000:]}")

    def is_ready(self, name: str) -> bool:
        """Whether the beat has read its schedule."""
        return self._file(name, "ready").exists()

    def merely_loaded(self) -> Process:
        """A process that has imported the app, and does nothing."""
        code = f"import {self.app} as it, time; it.ready(); time.sleep(600)"
        argv = [sys.executable, "-c", code]
        process = Process(
            "loaded",
            argv,
            env=self.environment(conf={"bench_name": "loaded"}),
            log=self.directory / "loaded.log",
        )
        self.processes.append(process)
        process.start()
        wait_until(lambda: self.is_ready("loaded"), _START, why=self.logs)
        return process

    def wait_for_pool(self, nodes: int) -> None:
        """Until so many nodes are steady and the pool has a cursor for each entry."""
        self.wait_for_nodes(nodes, timeout=_START)
        wait_until(self.has_cursors, _START, why=self.logs)

    def has_cursors(self) -> bool:
        """Whether the pool has a cursor for each entry: on a new pool, the last step of the first start."""
        found: int = self.redis.hlen(self.key("cursor"))
        return found >= sum(group.count for group in self.groups)

    def now(self) -> float:
        """Redis TIME in seconds."""
        return now_us(self.redis) / 1e6

    def next_due(self, seconds: float, *, after: float) -> float:
        """The first instant after ``after`` at which entries with this interval are due, by Redis's clock."""
        since = self.since() / 1000
        return since + seconds * (math.floor((after - since) / seconds) + 1)

    def pids(self) -> list[int]:
        """The processes of the beats that live."""
        return [beat.process.pid for beat in self.beats.values() if beat.process.alive]

    def _file(self, name: str, what: str) -> Path:
        return self.directory / f"{name}.{what}"
