from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drills.cluster import Cluster, Spec, every
from tests.drills.collector import Collector, now_us
from tests.drills.oracle import Every
from tests.drills.process import Process, wait_until
from tests.drills.redis_server import Server, running_server
from tests.integration.conftest import MakeCluster

STARTS = 30.0
Instant = Callable[[Cluster, Process], bool]


def says(text: str) -> Instant:
    return lambda _, process: text in process.log


def is_a_member(cluster: Cluster, process: Process) -> bool:
    return process.pid in {member["info"].get("pid") for member in cluster.members().values()}


def in_a_while(seconds: float) -> Callable[[], bool]:
    """True from ``seconds`` on."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def fired(cluster: Cluster, process: Process) -> bool:
    return "Sending due task" in process.log


@pytest.mark.parametrize("more", [0.0, 0.003, 0.01, 0.03], ids=lambda more: f"{more * 1000:g}ms")
def test_a_beat_that_is_stopped_while_it_starts_leaves_no_ghost(
    more: float, server: Server, make_cluster: MakeCluster
) -> None:
    cluster = make_cluster(server, every(20))
    instants: dict[str, Instant] = {
        "starting": says("is starting"),
        "banner": says("maxinterval"),
        "logged": says("beat: Starting"),
        "joining": says("joins the pool"),
        "member": is_a_member,
    }
    for name, instant in instants.items():
        process = cluster.beat(f"{name}-{more}").process
        wait_until(lambda: instant(cluster, process), STARTS, every=0.001)  # noqa: B023
        wait_until(in_a_while(more), 1, every=0.0005)
        process.terminate()
        try:
            status = process.wait(10)
        except AssertionError:
            # Celery ends beat by an exception out of the signal's handler; Python drops it where the signal
            # comes in a callback of its own, as those of imports are, and beat goes on.
            assert "Exception ignored in" in process.log, process.log
            process.terminate()
            status = process.wait(10)
        assert status in (0, -15), process.log
        assert (cluster.nodes(), cluster.members()) == ([], {}), f"stopped at {name!r} + {more} s"
        assert "Traceback" not in process.log or "Exception ignored in" in process.log, process.log


def test_a_beat_that_is_stopped_leaves_at_once(server: Server, make_cluster: MakeCluster) -> None:
    cluster = make_cluster(server, every(5))
    process = cluster.beat("one").process
    wait_until(lambda: fired(cluster, process), STARTS)
    process.terminate()
    assert process.wait(5) == 0
    assert cluster.nodes() == []


def test_a_beat_waits_for_redis_and_says_so(away: Server, make_cluster: MakeCluster) -> None:
    cluster = make_cluster(away, every(5))
    process = cluster.beat("early-bird").process
    wait_until(lambda: "Waiting for Redis" in process.log, STARTS, why=lambda: process.log)
    assert process.alive
    away.start()
    with Collector(away.url) as collector:
        cluster.wait_for_nodes(1)
        wait_until(lambda: len({arrival.entry for arrival in collector.arrivals}) == 5, 10)


def test_a_beat_that_waits_for_redis_can_be_stopped(away: Server, make_cluster: MakeCluster) -> None:
    process = make_cluster(away, every(5)).beat("early-bird").process
    wait_until(lambda: "Waiting for Redis" in process.log, STARTS, why=lambda: process.log)
    process.terminate()
    assert process.wait(10) == 0, process.log


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_wrong_password_ends_with_its_cure(
    password: str, tmp_path: Path, make_cluster: MakeCluster
) -> None:
    with running_server(tmp_path / "locked", "--requirepass", "right") as server:
        credentials = f":{password}@" if password else ""
        url = server.url.replace("redis://", f"redis://{credentials}")
        cluster = make_cluster(server, every(1))
        process = cluster.process("locked-out", "beat", "-l", "INFO", "--pidfile=", url=url)
        assert process.wait(STARTS) not in (0, -15), process.log
    assert "password" in process.log
    assert "dispatch_redis_url" in process.log or "broker_url" in process.log
    if password:
        assert password not in re.sub("wrong (password|number)", "", process.log)


@pytest.mark.parametrize(
    "namespace, conf, words",
    [
        ("", {"dispatch_lease_tll": 10}, ["dispatch_lease_tll", "dispatch_lease_ttl"]),
        ("CELERY", {"dispatch_lease_tll": 10}, ["CELERY_DISPATCH_LEASE_TLL", "CELERY_DISPATCH_LEASE_TTL"]),
        ("", {"dispatch_lease_ttl": 5}, ["dispatch_lease_ttl", "5", "dispatch_heartbeat_interval", "2"]),
        ("", {"dispatch_lease_ttl": "soon"}, ["dispatch_lease_ttl", "'soon'", "number of seconds"]),
        ("", {"dispatch_catch_up": "some"}, ["dispatch_catch_up", "'some'", "latest", "all", "none"]),
        ("", {"broker_url": "amqp://guest@127.0.0.1//"}, ["dispatch_redis_url", "amqp", "are to share"]),
        ("", {"dispatch_batch_size": 9000}, ["dispatch_batch_size", "9000", "5000"]),
    ],
)
def test_a_wrong_setting_is_refused_with_value_and_cure(
    namespace: str, conf: dict[str, object], words: list[str], away: Server, make_cluster: MakeCluster
) -> None:
    cluster = make_cluster(away, every(1), namespace=namespace)
    process = cluster.process("refused", "beat", "-l", "INFO", "--pidfile=", conf=conf)
    assert process.wait(STARTS) not in (0, -15), process.log
    assert [word for word in words if word not in process.log] == [], process.log


def test_the_banner_is_printed_without_redis(away: Server, make_cluster: MakeCluster) -> None:
    cluster = make_cluster(away, every(1))
    process = cluster.beat("banner").process
    wait_until(lambda: "maxinterval" in process.log, STARTS)
    assert "celery_dispatch" in process.log and "DispatchScheduler" in process.log
    assert f"pool -> {away.url}" in process.log


def test_the_alias_on_the_command_line_is_enough(server: Server, make_cluster: MakeCluster) -> None:
    cluster = make_cluster(server, every(1), settings={"beat_scheduler": "celery.beat:PersistentScheduler"})
    process = cluster.beat("alias", "-S", "dispatch").process
    wait_until(lambda: fired(cluster, process), STARTS, why=lambda: process.log)
    cluster.wait_for_nodes(1)


def test_settings_in_the_manner_of_django_are_found(server: Server, make_cluster: MakeCluster) -> None:
    settings = {"dispatch_key_prefix": "shop", "dispatch_lease_ttl": 4, "dispatch_heartbeat_interval": 1}
    cluster = make_cluster(server, every(3), settings=settings, namespace="CELERY")
    process = cluster.beat("django").process
    wait_until(lambda: fired(cluster, process), STARTS, why=lambda: process.log)
    assert [node.rpartition("-")[0] for node in cluster.nodes()] == ["django"]
    lease = cluster.lease_ends()[cluster.nodes()[0]] - now_us(cluster.redis) // 1000
    assert 2000 < lease <= 4000


def test_a_queue_key_of_another_type_spoils_one_entry(server: Server, make_cluster: MakeCluster) -> None:
    entries = every(4)
    cluster = make_cluster(server, {**entries, "spoilt": Spec(Every(1), {"queue": "taken"})})
    cluster.redis.set("taken", "not a list")
    with Collector(server.url) as collector:
        process = cluster.beat("one").process
        wait_until(lambda: len(collector) >= 12, 15, why=lambda: process.log)
        assert {arrival.entry for arrival in collector.arrivals} == set(entries)
        wait_until(lambda: "spoilt" in process.log and "WRONGTYPE" in process.log, 5, why=lambda: process.log)
        cluster.redis.delete("taken")
        wait_until(lambda: cluster.redis.llen("taken") > 0, 15, why=lambda: process.log)
