"""Two real beats on Redis as people run it: TLS, a socket, a limited user, Sentinels, a Cluster."""

from __future__ import annotations

import json
import re
import ssl
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.keys import Keys
from tests.deployments import MASTER, Authority, cluster_running, granted, sentinels_running, tls_running
from tests.drills.cluster import Cluster, every
from tests.drills.process import wait_until
from tests.rabbitmq import running_rabbitmq
from tests.servers import Server, running

ENTRIES = every(6)
QUICK = {"dispatch_heartbeat_interval": 0.5, "dispatch_lease_ttl": 3, "dispatch_catch_up": "all"}

pytestmark = pytest.mark.timeout(180)

Read = Callable[[], list[str]]


@pytest.fixture
def beats(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """``beats(server, settings)``: two beats of the drills' app, ended with the test."""
    clusters: list[Cluster] = []

    def beats(server: Server, settings: Mapping[str, object]) -> Cluster:
        cluster = Cluster(server.url, tmp_path, ENTRIES, settings={**QUICK, **settings})
        clusters.append(cluster)
        for name in ("one", "two"):
            cluster.beat(name)
        return cluster

    yield beats
    for cluster in clusters:
        cluster.close()


def queue(url: str, options: Mapping[str, Any]) -> Read:
    """Reads what was sent to the default queue of a broker."""

    def read() -> list[str]:
        client: Any = redis_client(url, dict(options))
        try:
            return [str(message) for message in reversed(client.lrange("celery", 0, -1))]
        finally:
            client.close()

    return read


def dues(read: Read) -> dict[str, list[datetime]]:
    """The dues of each entry, in the order of their messages."""
    found: dict[str, list[datetime]] = defaultdict(list)
    for message in read():
        headers = json.loads(message)["headers"]
        found[headers["dispatch_entry"]].append(datetime.fromisoformat(headers["dispatch_due"][:-1]))
    return found


def wait_for(read: Read, count: int, cluster: Cluster, timeout: float = 40.0) -> None:
    """Until each entry was fired ``count`` times."""
    wait_until(
        lambda: len(found := dues(read)) == len(ENTRIES) and min(map(len, found.values())) >= count,
        timeout,
        why=lambda: f"{count} messages of each entry; there are {len(read())}\n{cluster.logs()}",
    )


def check(read: Read, cluster: Cluster) -> None:
    """Each entry was fired once for each second of its time."""
    for process in cluster.processes:
        process.terminate()
    for process in cluster.processes:
        assert process.wait(15) == 0, process.log
    for name, found in dues(read).items():
        seconds = sorted((due - min(found)).total_seconds() for due in found)
        assert seconds == [float(second) for second in range(len(seconds))], (name, cluster.logs())


def test_beats_fire_over_tls_with_verification(beats: Callable[..., Cluster], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with tls_running(authority, host="localhost") as server:
        url = server.url.replace("127.0.0.1", "localhost")
        tls = {"ssl_cert_reqs": "required", "ssl_ca_certs": authority.file}
        cluster = beats(server, {"broker_url": url, "broker_use_ssl": tls})
        read = queue(url, tls)
        wait_for(read, 5, cluster)
        check(read, cluster)


def test_a_beat_that_does_not_trust_the_server_says_so_and_waits(
    beats: Callable[..., Cluster], tmp_path: Path
) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path)
    with tls_running(authority, host="localhost") as server:
        url = server.url.replace("127.0.0.1", "localhost")
        tls = {"ssl_cert_reqs": "required", "ssl_ca_certs": other.file}
        cluster = beats(server, {"broker_url": url, "broker_use_ssl": tls})
        wait_until(lambda: "certificate verify failed" in cluster.logs(), 20, why=cluster.logs)
        assert "Sending due task" not in cluster.logs()


def test_beats_fire_over_amqps_with_verification(beats: Callable[..., Cluster], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = (authority.file, *authority.certificate("localhost"))
    with running("valkey") as server, running_rabbitmq(files) as broker:
        url = f"amqps://guest:guest@localhost:{broker.tls_port}//"
        tls = {"ca_certs": authority.file, "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "localhost"}
        cluster = beats(server, {"broker_url": url, "broker_use_ssl": tls, "dispatch_redis_url": server.url})
        taken: list[str] = []

        def read() -> list[str]:
            taken.extend(json.dumps({"headers": message.headers}) for message in broker.take("celery"))
            return taken

        wait_until(lambda: broker.has("celery"), 40, why=cluster.logs)
        wait_for(read, 5, cluster)
        check(read, cluster)


def test_beats_fire_over_a_socket(beats: Callable[..., Cluster], tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with running("redis", options=("--unixsocket", str(path))) as server:
        broker = f"redis+socket://{path}?virtual_host=3"
        cluster = beats(server, {"broker_url": broker})
        read = queue(f"unix://{path}?db=3", {})
        wait_for(read, 5, cluster)
        check(read, cluster)
        assert "standing by" not in cluster.logs()


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_a_user_with_the_documented_rights_and_no_others_can_run_a_beat(
    beats: Callable[..., Cluster], kind: str
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "redis.md").read_text()
    line = re.search(r"^ACL SETUSER beat on >PASSWORD (.*?)^```", page, re.M | re.S)
    assert line is not None
    with running(kind) as server:
        url = granted(server, line[1].replace("\\\n", " "))
        cluster = beats(server, {"broker_url": url})
        read = queue(server.url, {})
        wait_for(read, 5, cluster)
        check(read, cluster)
        assert "no permissions" not in cluster.logs().lower()


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_beats_go_on_when_sentinels_promote_the_replica(beats: Callable[..., Cluster], kind: str) -> None:
    with sentinels_running(kind) as group:
        options = {"master_name": MASTER}
        cluster = beats(group.first, {"broker_url": group.url, "broker_transport_options": options})
        wait_for(queue(group.first.url, {}), 4, cluster)
        before = len(queue(group.first.url, {})())
        group.promote_the_replica()
        read = queue(group.second.url, {})
        wait_for(read, before // len(ENTRIES) + 6, cluster)
        check(read, cluster)


def test_beats_go_on_when_a_cluster_fails_over(beats: Callable[..., Cluster]) -> None:
    keys = Keys("celery-dispatch")
    with cluster_running("redis", keys=keys) as group, running("valkey") as broker:
        cluster = beats(group.owner, {"broker_url": broker.url, "dispatch_redis_url": group.url})
        read = queue(broker.url, {})
        wait_for(read, 4, cluster)
        before = len(read())
        group.owner.kill()
        group.wait_for_promotion()
        wait_for(read, before // len(ENTRIES) + 6, cluster)
        ids = [json.loads(message)["headers"]["id"] for message in read()]
        assert len(ids) - len(set(ids)) <= len(ENTRIES), "only what was on its way may be repeated"
        found = {name: sorted(set(each)) for name, each in dues(read).items()}
        for name, each in found.items():
            seconds = [(due - each[0]).total_seconds() for due in each]
            assert seconds == [float(second) for second in range(len(seconds))], name
