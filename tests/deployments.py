"""The ways people run Redis, on real servers: Sentinels with a master and a replica, a Cluster, TLS, users.

Each is a context manager that ends what it started.  All listen on 127.0.0.1.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import trustme

from celery_dispatch.redis_store.client import redis_client, translated
from celery_dispatch.redis_store.keys import Keys
from tests.servers import Server, free_port, wait_until

__all__ = [
    "Authority",
    "ClusterOfServers",
    "MASTER",
    "MasterAndReplica",
    "asked",
    "cluster_running",
    "granted",
    "sentinels_running",
    "tls_running",
]

MASTER = "dispatch"  #: the name under which the Sentinels know the master
_DOWN = 400  #: ms without an answer until a master is thought to be down


def asked(server: Server, *command: str | int) -> Any:
    """The answer of ``server`` to one command."""
    client: Any = redis_client(server.url, server.client_options)
    try:
        return client.execute_command(*command)
    finally:
        client.close()


# --- Sentinel -----------------------------------------------------------------------------------------------


class _Sentinel(Server):
    """A Sentinel that watches ``master``; written to its directory, since it keeps what it learns there."""

    def __init__(self, kind: str, directory: Path, master: Server, authority: Authority | None) -> None:
        super().__init__(kind, directory)
        path = directory / "sentinel.conf"
        path.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {master.port} 2\n"
            f"sentinel down-after-milliseconds {MASTER} {_DOWN}\n"
            f"sentinel failover-timeout {MASTER} 3000\n"
        )
        tls = authority.arguments(self.port) if authority else ()
        if tls:
            self.url, self.client_options = f"rediss://127.0.0.1:{self.port}/0", master.client_options
        self._command = (self._command[0], str(path), "--sentinel", *tls)


class MasterAndReplica:
    """A master, its replica, and three Sentinels; ``url`` and ``options`` are those of a client."""

    def __init__(self, kind: str, stack: ExitStack, authority: Authority | None) -> None:
        at_once = ("--repl-diskless-sync-delay", "0")
        self.first = _started(stack, _server(kind, stack, authority, at_once))
        following = ("--replicaof", "127.0.0.1", str(self.first.port), *at_once)
        self.second = _started(stack, _server(kind, stack, authority, following))
        wait_until(lambda: _has_replica(self.first), 15, "a replica")
        self.sentinels = [
            _started(stack, _Sentinel(kind, _directory(stack), self.first, authority)) for _ in range(3)
        ]
        wait_until(lambda: all(map(self._sees_all, self.sentinels)), 15, "the Sentinels know each other")
        self.url = ";".join(f"sentinel://127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.options: dict[str, Any] = {"master_name": MASTER}
        if authority is not None:
            trusted = {"ssl_ca_certs": authority.file}
            self.options |= {**trusted, "sentinel_kwargs": {"ssl": True, **trusted}}

    @property
    def master(self) -> Server:
        """The server that the Sentinels name now."""
        _, port = asked(self.sentinels[0], "SENTINEL", "get-master-addr-by-name", MASTER)
        return self.first if int(port) == self.first.port else self.second

    @property
    def replica(self) -> Server:
        """The other one, whether it lives or not."""
        return self.second if self.master is self.first else self.first

    def wait_for_promotion(self, *, of: Server) -> None:
        """Until all Sentinels name ``of`` as the master, and it is one."""
        ports = [str(of.port)] * len(self.sentinels)
        wait_until(lambda: self._named_ports() == ports, 30, "the Sentinels agree on a new master")
        wait_until(lambda: asked(of, "ROLE")[0] == "master", 10, "the new master is one")

    def hold_the_replica_back(self) -> None:
        """From now on the replica misses what the master writes, until ``promote_the_replica``."""
        self.replica.pause()
        asked(self.master, "CLIENT", "KILL", "TYPE", "replica")

    def promote_the_replica(self) -> None:
        """Kill the master and wait until the replica has taken its place, with what it has."""
        old, new = self.master, self.replica
        old.kill()
        new.resume()
        self.wait_for_promotion(of=new)

    def _named_ports(self) -> list[str]:
        question = ("SENTINEL", "get-master-addr-by-name", MASTER)
        return [asked(sentinel, *question)[1] for sentinel in self.sentinels]

    def _sees_all(self, sentinel: Server) -> bool:
        row = asked(sentinel, "SENTINEL", "master", MASTER)
        state = row if isinstance(row, dict) else dict(zip(row[::2], row[1::2]))
        return int(state["num-other-sentinels"]) == 2 and int(state["num-slaves"]) == 1


@contextmanager
def sentinels_running(
    kind: str = "valkey", *, authority: Authority | None = None
) -> Iterator[MasterAndReplica]:
    """A master, its replica and three Sentinels; all over TLS with an ``authority``, as ``redis`` only."""
    with ExitStack() as stack:
        yield MasterAndReplica(kind, stack, authority)


# --- Cluster ------------------------------------------------------------------------------------------------


class ClusterOfServers:
    """Three masters with a third of the slots each, and one replica of the one that holds ``keys``."""

    def __init__(self, kind: str, keys: Keys, stack: ExitStack, authority: Authority | None) -> None:
        self._buses = [free_port() for _ in range(4)]
        self.servers = [
            _started(stack, _server(kind, stack, authority, _of_node(bus))) for bus in self._buses
        ]
        first, *others = self.servers
        for server, bus in zip(others, self._buses[1:]):
            asked(first, "CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        wait_until(lambda: all(_known_nodes(server) == 4 for server in self.servers), 20, "all nodes met")
        for number, server in enumerate(self.servers[:3]):
            asked(server, "CLUSTER", "ADDSLOTSRANGE", number * 5462, min(16383, number * 5462 + 5461))
        self.replica = self.servers[3]
        self.owner = self.servers[asked(first, "CLUSTER", "KEYSLOT", keys.pool) // 5462]
        asked(self.replica, "CLUSTER", "REPLICATE", asked(self.owner, "CLUSTER", "MYID"))
        wait_until(lambda: _has_replica(self.owner), 20, "a replica")
        wait_until(lambda: all(map(_is_up, self.servers)), 20, "the Cluster serves")
        scheme = "rediss" if authority else "redis"
        self.url = f"{scheme}+cluster://" + ",".join(
            f"127.0.0.1:{server.port}" for server in self.servers[:3]
        )

    def wait_for_promotion(self) -> None:
        """Until the replica is the owner."""
        wait_until(lambda: asked(self.replica, "ROLE")[0] == "master", 30, "the replica is a master")
        wait_until(lambda: _is_up(self.replica), 10, "the Cluster serves again")


@contextmanager
def cluster_running(
    kind: str = "valkey", *, keys: Keys, authority: Authority | None = None
) -> Iterator[ClusterOfServers]:
    """A Cluster of three masters and a replica; all over TLS with an ``authority``, as ``redis`` only."""
    with ExitStack() as stack:
        yield ClusterOfServers(kind, keys, stack, authority)


def _of_node(bus: int) -> Iterable[str]:
    return (
        *("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "800"),
        *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
    )


def _known_nodes(server: Server) -> int:
    """How many it knows for good; one that it has only heard of has no lasting name yet."""
    lines = str(asked(server, "CLUSTER", "NODES")).strip().splitlines()
    return sum("handshake" not in line for line in lines)


def _is_up(server: Server) -> bool:
    return "cluster_state:ok" in str(asked(server, "CLUSTER", "INFO"))


# --- TLS ----------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority of a test's own, whose certificates are files in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self._directory = directory
        self.file = str(directory / f"ca-{id(self)}.pem")
        self._ca.cert_pem.write_to_path(self.file)

    def certificate(self, name: str) -> tuple[str, str]:
        """The files of a certificate for ``name``, and of its key."""
        issued = self._ca.issue_cert(name)
        cert, key = (str(self._directory / f"{name}-{id(self)}.{end}") for end in ("pem", "key"))
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(cert, append=number > 0)
        issued.private_key_pem.write_to_path(key)
        return cert, key

    def arguments(self, port: int, host: str = "127.0.0.1", *, clients: bool = False) -> tuple[str, ...]:
        """What lets a redis-server speak TLS on ``port`` and nothing else, to replicas and nodes as well.

        ``clients``: they have to show a certificate.
        """
        cert, key = self.certificate(host)
        return (
            *("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "yes" if clients else "no"),
            *("--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", self.file),
            *("--tls-replication", "yes", "--tls-cluster", "yes"),
        )


class _TLSServer(Server):
    """A server that only speaks TLS; its clients trust ``authority``, and show a certificate, if any."""

    def __init__(
        self,
        directory: Path,
        authority: Authority,
        *,
        host: str = "127.0.0.1",
        client: tuple[str, str] | None = None,
        options: Iterable[str] = (),
    ) -> None:
        super().__init__("redis", directory, options=options)
        self.url = f"rediss://127.0.0.1:{self.port}/0"
        own = {"ssl_certfile": client[0], "ssl_keyfile": client[1]} if client else {}
        self.client_options = {**own, "ssl_ca_certs": authority.file, "ssl_check_hostname": False}
        self._command = (*self._command, *authority.arguments(self.port, host, clients=client is not None))


@contextmanager
def tls_running(
    authority: Authority, *, host: str = "127.0.0.1", client: tuple[str, str] | None = None
) -> Iterator[Server]:
    """A redis-server with a certificate for ``host``; with ``client``, that of a client, it wants one."""
    with ExitStack() as stack:
        yield _started(stack, _TLSServer(_directory(stack), authority, host=host, client=client))


# --- users --------------------------------------------------------------------------------------------------


def granted(server: Server, rules: str, *, name: str = "someone") -> str:
    """The URL of a user of ``server`` who has exactly these rights."""
    with translated():
        asked(server, "ACL", "SETUSER", name, "reset", "on", ">secret", *rules.split())
    return server.url.replace("://", f"://{name}:secret@")


# --- what they have in common -------------------------------------------------------------------------------


def _directory(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dispatch-server-")))


def _server(kind: str, stack: ExitStack, authority: Authority | None, options: Iterable[str]) -> Server:
    directory = _directory(stack)
    if authority is None:
        return Server(kind, directory, options=options)
    assert kind == "redis", "the Valkey of the wheel speaks no TLS"
    return _TLSServer(directory, authority, options=options)


def _started(stack: ExitStack, server: Server) -> Any:
    stack.callback(server.kill)
    server.start()
    return server


def _has_replica(master: Server) -> bool:
    """Whether a replica has copied all and follows."""
    return dict(asked(master, "INFO", "replication").get("slave0", {})).get("state") == "online"
