"""The Redis of a drill: keeps its data, port and directory over a stop, a kill and a start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import Server

__all__ = ["Server", "new_server", "program_kind", "running_server"]


def program_kind() -> str:
    """``redis-server`` where there is one."""
    return "redis" if shutil.which("redis-server") else "valkey"


def new_server(directory: Path, *options: str, appendonly: bool = True) -> Server:
    """A server that nobody has started yet.

    With an append-only file each write is on the disk before it is acknowledged, unless ``options`` say
    otherwise: with ``everysec`` a killed Redis may lose what it acknowledged while an fsync was running.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return Server(program_kind(), directory, appendonly=appendonly, options=options)


@contextmanager
def running_server(directory: Path, *options: str, appendonly: bool = True) -> Iterator[Server]:
    """A server that is started now, and ended with the context."""
    server = new_server(directory, *options, appendonly=appendonly)
    try:
        server.start()
        yield server
    finally:
        server.kill()
