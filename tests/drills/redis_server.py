"""The Redis of a drill: keeps its data, port and directory over a stop, a kill and a start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.drills.clocks import clock_environment, set_clock
from tests.servers import Server

__all__ = ["Server", "SteppedServer", "new_server", "program_kind", "running_server", "stepped_server"]


def program_kind() -> str:
    """``redis-server`` where there is one."""
    return "redis" if shutil.which("redis-server") else "valkey"


def new_server(directory: Path, *options: str, kind: str = "", appendonly: bool = True) -> Server:
    """A server that nobody has started yet; ``kind`` is one of ``tests.servers.KINDS``, or what there is.

    With an append-only file each write is on the disk before it is acknowledged, unless ``options`` say
    otherwise: with ``everysec`` a killed Redis may lose what it acknowledged while an fsync was running.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return Server(kind or program_kind(), directory, appendonly=appendonly, options=options)


@contextmanager
def running_server(
    directory: Path, *options: str, kind: str = "", appendonly: bool = True
) -> Iterator[Server]:
    """A server that is started now, and ended with the context."""
    server = new_server(directory, *options, kind=kind, appendonly=appendonly)
    try:
        server.start()
        yield server
    finally:
        server.kill()


class SteppedServer(Server):
    """A Valkey whose clock can be set."""

    def __init__(self, directory: Path) -> None:
        super().__init__("valkey", directory, appendonly=True)
        self._steps = directory / "clock"
        self.set_clock(0)
        settings = (f"{name}={value}" for name, value in clock_environment(self._steps).items())
        self._command = ("env", *settings, *self._command)

    def set_clock(self, seconds: float) -> None:
        """Step the clock so that it is so far from the right time."""
        set_clock(self._steps, f"{seconds:+g}s")


@contextmanager
def stepped_server(directory: Path) -> Iterator[SteppedServer]:
    """A server with a clock that can be set, started now, and ended with the context."""
    directory.mkdir(parents=True, exist_ok=True)
    server = SteppedServer(directory)
    try:
        server.start()
        yield server
    finally:
        server.kill()
