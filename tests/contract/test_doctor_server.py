"""What real servers say of themselves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import redis

from celery_dispatch.errors import StoreRefused, StoreUnavailable
from celery_dispatch.manage.doctor.server import read_server
from celery_dispatch.redis_store.client import redis_client
from tests.servers import Server, free_port, running


def test_server_is_read(client: redis.Redis) -> None:
    read = read_server(client)
    assert read.version is not None and tuple(map(int, read.version.split(".")[:2])) >= (6, 2)
    assert (read.mode, read.role, read.replicas, read.min_replicas) == ("standalone", "master", 0, 0)
    assert (read.append_only, read.append_fsync, read.save) == (False, "everysec", "")
    assert (read.max_memory, read.policy, read.failing, read.refused) == (0, "noeviction", (), ())
    assert read.used_memory > 0
    assert abs(read.ahead) < timedelta(seconds=1)


def test_durability_and_eviction_are_read() -> None:
    options = ("--appendfsync", "no", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with running(
        "valkey", options=(*options, "--appendonly", "yes", "--min-replicas-to-write", "0")
    ) as server:
        client = redis_client(server.url, {})
        read = read_server(client)
        client.close()
    assert (read.append_only, read.append_fsync) == (True, "no")
    assert (read.max_memory, read.policy) == (100 * 2**20, "allkeys-lru")


def test_replica_is_read_as_one(server_of: Callable[[str], Server], clean: object) -> None:
    master = server_of("valkey")
    with running("valkey", options=("--replicaof", f"127.0.0.1 {master.port}")) as replica:
        client = redis_client(replica.url, {})
        assert read_server(client).role == "slave"
        client.close()


def test_user_who_may_not_ask_is_told_what_was_refused(client: redis.Redis, server: Server) -> None:
    client.execute_command("ACL", "SETUSER", "watcher", "on", ">pw", "~*", "+@read", "+time")
    try:
        watcher = redis_client(f"redis://watcher:pw@127.0.0.1:{server.port}/0", {})
        read = read_server(watcher)
        watcher.close()
    finally:
        client.execute_command("ACL", "DELUSER", "watcher")
    assert read.refused[:2] == ("INFO", "CONFIG GET appendfsync")
    assert (read.version, read.append_only, read.policy) == (None, None, None)


def test_wrong_login_and_silence_are_errors(client: redis.Redis, server: Server) -> None:
    with pytest.raises(StoreRefused):
        read_server(redis_client(f"redis://nobody:pw@127.0.0.1:{server.port}/0", {}))
    with pytest.raises(StoreUnavailable):
        read_server(redis_client(f"redis://127.0.0.1:{free_port()}/0", {}))
