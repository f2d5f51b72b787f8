"""The Redis of a drill: keeps its data, port and directory over a stop, a kill and a start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import Server

__all__ = ["Server", "new_server", "running_server"]

#: What Redis itself does where it is only told to keep an append-only file.
_FSYNC = ("--appendfsync", "everysec")


def new_server(directory: Path, *options: str) -> Server:
    """A server with an append-only file that nobody has started yet; ``redis-server`` where there is one."""
    directory.mkdir(parents=True, exist_ok=True)
    kind = "redis" if shutil.which("redis-server") else "valkey"
    return Server(kind, directory, appendonly=True, options=(*_FSYNC, *options))


@contextmanager
def running_server(directory: Path, *options: str) -> Iterator[Server]:
    """A server that is started now, and ended with the context."""
    server = new_server(directory, *options)
    try:
        server.start()
        yield server
    finally:
        server.kill()
