"""What a drill stands on: the dispatch Redis, and the broker where that is another server.

Each ground is a context manager that starts its servers in a directory and ends them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.deployments import MasterAndReplica, asked, sentinels_running
from tests.drills.redis_server import Server, running_server, stepped_server
from tests.rabbitmq import RabbitMQ, running_rabbitmq

__all__ = ["Ground", "MakeGround", "everysec", "one_redis", "rabbitmq", "sentinels", "snapshots", "stepped"]


@dataclass(frozen=True)
class Ground:
    """Servers, and the ``settings`` that a beat needs to find them beside the dispatch Redis's URL.

    ``broker`` is ``None`` where the dispatch Redis is the broker too.
    """

    first: Server
    broker: RabbitMQ | None = None
    trio: MasterAndReplica | None = None
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def server(self) -> Server:
        """The dispatch Redis; with Sentinels the one that is the master now."""
        return self.first if self.trio is None else self.trio.master

    @property
    def url(self) -> str:
        """Where the dispatch Redis is now."""
        return self.server.url

    def software(self) -> tuple[str, ...]:
        """The servers that run here, with their versions."""
        info = asked(self.server, "INFO", "server")
        kind = info.get("server_name", "redis")
        dispatch = f"{str(kind).capitalize()} {info[f'{kind}_version']}"
        return (dispatch,) if self.broker is None else (dispatch, f"RabbitMQ {self.broker.version()}")


#: From a directory and the kind of server: ``redis`` or ``valkey``.
MakeGround = Callable[[Path, str], AbstractContextManager[Ground]]


@contextmanager
def one_redis(directory: Path, kind: str) -> Iterator[Ground]:
    """One Redis that keeps what it acknowledged."""
    with running_server(directory / "redis", kind=kind) as server:
        yield Ground(server)


@contextmanager
def everysec(directory: Path, kind: str) -> Iterator[Ground]:
    """One Redis that may lose the last second or two when it is killed."""
    with running_server(directory / "redis", "--appendfsync", "everysec", kind=kind) as server:
        yield Ground(server)


@contextmanager
def snapshots(directory: Path, kind: str) -> Iterator[Ground]:
    """One Redis without an append-only file: what it has after a start is its last SAVE."""
    with running_server(directory / "redis", kind=kind, appendonly=False) as server:
        yield Ground(server)


@contextmanager
def stepped(directory: Path, _: str) -> Iterator[Ground]:
    """One Valkey that keeps what it acknowledged, with a clock that can be set; a redis-server has none."""
    with stepped_server(directory / "redis") as server:
        yield Ground(server)


@contextmanager
def sentinels(directory: Path, kind: str) -> Iterator[Ground]:
    """A master and a replica, named by three Sentinels to dispatch and broker alike."""
    with sentinels_running(kind) as trio:
        settings = {"broker_url": trio.url, "broker_transport_options": dict(trio.options)}
        yield Ground(trio.first, trio=trio, settings=settings)


@contextmanager
def rabbitmq(directory: Path, kind: str) -> Iterator[Ground]:
    """RabbitMQ as the broker, beside a Redis that keeps what it acknowledged."""
    with running_server(directory / "redis", kind=kind) as server, running_rabbitmq() as broker:
        settings = {"broker_url": broker.url, "dispatch_redis_url": server.url}
        yield Ground(server, broker=broker, settings=settings)
