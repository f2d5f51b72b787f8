"""``celery worker -B``: the beat of a worker is a node like any other, in a process and in a thread."""

from __future__ import annotations

import pytest

from tests.drills.checker import judge
from tests.drills.cluster import Cluster, every
from tests.drills.collector import now_us, runs
from tests.drills.process import Process, wait_until
from tests.drills.redis_server import Server
from tests.integration.conftest import MakeCluster

STARTS = 40.0
SETTINGS = {"dispatch_catch_up": "all"}
# Gossip and heartbeat stay on: without their timers a worker of Celery 5.5 with threads and a prefetch of 1
# falls asleep after its first tasks, with stock beat as well.
QUIET = ("--without-mingle",)


def embedded(cluster: Cluster, name: str, mode: str, pool: str) -> Process:
    return cluster.process(
        name, "worker", "-B", "-P", pool, "-c", "1", "-l", "INFO", "-n", f"{name}@%h",
        f"--schedule={cluster.directory / name}.db", *QUIET,
        env={"DRILL_EMBED": mode}, conf={"dispatch_node_name": name},
    )  # fmt: skip


@pytest.mark.parametrize("mode, pool", [("process", "prefork"), ("process", "threads"), ("thread", "solo")])
def test_a_worker_with_a_beat_fires_and_leaves_in_order(
    mode: str, pool: str, server: Server, make_cluster: MakeCluster
) -> None:
    cluster = make_cluster(server, every(5), settings=SETTINGS)
    worker = embedded(cluster, "both", mode, pool)
    wait_until(lambda: len(list(runs(cluster.redis))) >= 15, STARTS, why=lambda: worker.log)
    (member,) = cluster.members().values()
    assert (member["info"]["pid"] == worker.pid) is (mode == "thread")
    worker.terminate()
    assert worker.wait(15) == 0, worker.log
    wait_until(lambda: cluster.nodes() == [], 3, why=cluster.logs)
    assert "Traceback" not in worker.log, worker.log


def test_workers_with_beats_share_one_schedule(server: Server, make_cluster: MakeCluster) -> None:
    cluster = make_cluster(server, every(30), settings=SETTINGS)
    embedded(cluster, "one", "process", "prefork")
    embedded(cluster, "two", "thread", "solo")
    cluster.beat("three")
    cluster.wait_for_nodes(3, STARTS)
    until = now_us(cluster.redis) // 1000 + 3000
    wait_until(lambda: now_us(cluster.redis) // 1000 > until + 1000, 10)

    def problems() -> list[str]:
        found = list(runs(cluster.redis))
        return judge(cluster.schedule, found, anchor=cluster.since(), until=until).problems()

    wait_until(lambda: problems() == [], 10, why=lambda: f"{problems()}\n{cluster.logs()}")
    assert len({run.node for run in runs(cluster.redis)}) == 3
