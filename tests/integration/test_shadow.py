"""Shadow mode with real beats: everything but the message, and an exact report of it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import redis
from click.testing import CliRunner

from celery_dispatch.manage.cli_shadow import shadow
from tests.drills.cluster import Cluster, every
from tests.drills.redis_server import Server
from tests.integration.conftest import MakeCluster
from tests.servers import wait_until

QUICK = {"dispatch_heartbeat_interval": 0.5, "dispatch_lease_ttl": 3, "dispatch_catch_up": "all"}


def _report(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    done = cluster.run("dispatch", "shadow", *arguments, "--json")
    assert done.status == 0, done.out + done.err
    document: dict[str, Any] = json.loads(done.out)
    return document


def test_each_occurrence_is_recorded_once_and_none_is_sent_even_when_a_node_dies(
    server: Server, make_cluster: MakeCluster
) -> None:
    cluster = make_cluster(server, every(6), settings={**QUICK, "dispatch_shadow": True})
    cluster.start(2)
    wait_until(lambda: _recorded(cluster) > 20, 20, "the first records")
    cluster.beats["node-1"].process.kill()
    before = _recorded(cluster)
    wait_until(lambda: _recorded(cluster) > before + 40, 30, "records of the node that is left")

    report = _report(cluster)
    assert report["total"] == sum(entry["count"] for entry in report["entries"])
    assert (len(report["entries"]), report["unreadable"]) == (6, 0)
    for entry in report["entries"]:
        (whole,) = _report(cluster, entry["name"])["entries"]
        dues = [datetime.fromisoformat(due.replace("Z", "+00:00")) for due in whole["dues"]]
        assert {later - due for due, later in pairwise(dues)} == {timedelta(seconds=1)}
    assert cluster.redis.exists("celery") == 0
    assert 0 < cluster.redis.ttl(_lists(cluster)[0]) <= 3 * 86_400
    assert "in shadow mode: it sends nothing" in cluster.logs()
    assert "Would send due task" in cluster.logs()


def test_a_beat_in_shadow_mode_never_takes_part_in_a_pool_that_sends(
    server: Server, make_cluster: MakeCluster
) -> None:
    cluster = make_cluster(server, every(2), settings=QUICK)
    cluster.start(1)
    cluster.beat("shadow", conf={"dispatch_shadow": True})
    wait_until(lambda: cluster.members_called("shadow"), 20, "the beat in shadow mode is listed")
    (member,) = cluster.members_called("shadow")
    assert member["identity"].endswith(" in shadow")
    sent: Any = cluster.redis.llen("celery")
    wait_until(lambda: int(cluster.redis.llen("celery")) > sent + 4, 20, "the pool goes on sending")  # type: ignore[arg-type]
    assert _lists(cluster) == []


def _lists(cluster: Cluster) -> list[bytes]:
    client: redis.Redis = cluster.redis
    return list(client.scan_iter("*:shadow:*"))


def _recorded(cluster: Cluster) -> int:
    return sum(int(cluster.redis.llen(key)) for key in _lists(cluster))  # type: ignore[arg-type]


def test_the_report_says_where_nothing_was_recorded(server: Server, make_cluster: MakeCluster) -> None:
    cluster = make_cluster(server, every(1))
    done = cluster.run("dispatch", "shadow")
    assert done.status == 0
    assert "Do beats run with dispatch_shadow = True?" in done.out


def test_an_instant_without_a_zone_is_refused() -> None:
    result = CliRunner().invoke(shadow, ["--since", "2026-11-21T03:00:00", "--json"])
    assert result.exit_code == 2
    assert "has no time zone" in json.loads(result.stdout)["error"]
