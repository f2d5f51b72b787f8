"""The Redis of a drill: keeps its data, port and directory over a stop, a kill and a start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import Server

__all__ = ["Server", "new_server", "running_server"]


def new_server(directory: Path, *options: str) -> Server:
    """A server with an append-only file that nobody has started yet; ``redis-server`` where there is one.

    Each write is on the disk before it is acknowledged.  With ``everysec`` a killed Redis may lose what it
    acknowledged while an fsync was running, and the drills judge what holds as long as it loses nothing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    kind = "redis" if shutil.which("redis-server") else "valkey"
    return Server(kind, directory, appendonly=True, options=options)


@contextmanager
def running_server(directory: Path, *options: str) -> Iterator[Server]:
    """A server that is started now, and ended with the context."""
    server = new_server(directory, *options)
    try:
        server.start()
        yield server
    finally:
        server.kill()
