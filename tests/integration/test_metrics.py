"""A real Prometheus scrapes nodes, evaluates the alerts, and answers what the dashboard asks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest

from celery_dispatch.core.clock import PoolClock, SystemClock
from celery_dispatch.core.entry import Fence
from celery_dispatch.core.pool import Role, View
from celery_dispatch.core.report import NodeReport, Skip
from celery_dispatch.core.ring import Ring
from celery_dispatch.metrics import Metrics
from tests.drills.cluster import every
from tests.drills.redis_server import Server
from tests.integration.conftest import MakeCluster
from tests.prometheus import MONITORING, Prometheus, prometheus
from tests.servers import free_port, wait_until

QUICK = {"dispatch_heartbeat_interval": 0.5, "dispatch_lease_ttl": 3}


@pytest.fixture
def report() -> NodeReport:
    return NodeReport({})


@pytest.fixture
def metrics(report: NodeReport) -> Iterator[Metrics]:
    """Those of a node that has an answer from the pool, and is not listed in it."""
    clock, fence, ranks = PoolClock(SystemClock()), Fence("v1", datetime.now(timezone.utc)), Ring().ranks({})
    now = clock.monotonic()
    clock.sample(datetime.now(timezone.utc), sent=now, received=now)
    report.turned(now)
    view = View(
        fence=fence,
        own=fence,
        until=None,
        due_from=None,
        role=Role.IN_FORCE,
        recovery="",
        identity="shop",
        members=(),
        ranks=ranks,
        mine=ranks.of("a-1"),
    )
    metrics = Metrics(report, node="a-1", pool_view=lambda: view, pool_outage=lambda: None, clock=clock)
    metrics.start("127.0.0.1", 0)
    yield metrics
    metrics.stop()


def test_prometheus_reads_what_a_node_counts(report: NodeReport, metrics: Metrics, tmp_path: Path) -> None:
    port = metrics.port
    assert port is not None
    with prometheus(tmp_path, [port]) as server:
        wait_until(lambda: server.value("up") == 1, 20, "a first scrape")
        for _ in range(3):
            report.fire(timedelta(milliseconds=20), helped=False)
        report.skip(2, Skip.LATE)
        wait_until(lambda: server.value("celery_dispatch_fired_total") == 3, 20, "the occurrences fired")
        assert server.value('celery_dispatch_skipped_total{reason="late"}') == 2
        assert server.value('celery_dispatch_lag_seconds_bucket{le="0.025"}') == 3
        assert server.value("celery_dispatch_lag_seconds_count") == 3
        assert server.value('celery_dispatch_node_state{state="absent"}') == 1
        age = server.value("time() - celery_dispatch_last_fire_timestamp_seconds")
        assert age is not None and 0 <= age < 60


def test_prometheus_can_evaluate_every_alert_and_every_panel(
    report: NodeReport, metrics: Metrics, tmp_path: Path
) -> None:
    port = metrics.port
    assert port is not None
    report.fire(timedelta(milliseconds=20), helped=True)
    with prometheus(tmp_path, [port]) as server:
        wait_until(lambda: {rule["health"] for rule in server.rules()} == {"ok"}, 20, "the rules")
        for expression in panel_expressions():
            wait_until(partial(server.query, expression), 20, f"an answer to {expression}")


def panel_expressions() -> list[str]:
    """What the dashboard asks, with its variables filled in."""
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    filled = [re.sub(r"\$(job|instance)", ".*", one).replace("$__rate_interval", "1m") for one in expressions]
    assert not any("$" in one for one in filled)
    return filled


@pytest.mark.timeout(240)
def test_alerts_fire_for_real_beats_that_lose_redis_and_are_killed(
    server: Server, make_cluster: MakeCluster, tmp_path: Path
) -> None:
    ports = free_port(), free_port()
    cluster = make_cluster(server, every(4), settings=QUICK)
    for number, port in enumerate(ports, start=1):
        cluster.beat(f"node-{number}", conf={"dispatch_metrics_port": port})
    cluster.wait_for_nodes(2)
    with prometheus(tmp_path, ports, patience="1s") as judge:
        fired = "sum(celery_dispatch_fired_total) > 8"
        wait_until(lambda: judge.query(fired), 30, "beats that fire")
        wait_until(lambda: steady(judge) == 2, 30, "two steady nodes")
        wait_until(lambda: not judge.alerts("firing"), 30, "the alerts of the start end")

        server.stop()
        outage = {"CeleryDispatchStoreDown", "CeleryDispatchNobodyFires"}
        wait_until(lambda: outage <= judge.alerts(), 30, "the alerts of a Redis that is away")
        server.start()
        wait_until(lambda: steady(judge) == 2, 30, "the beats are back")
        wait_until(lambda: not outage & judge.alerts(), 30, "the alerts end")

        cluster.beats["node-1"].process.kill()
        wait_until(lambda: "CeleryDispatchNoStandby" in judge.alerts(), 30, "the alert of the last node")
        assert "CeleryDispatchAbsent" not in judge.alerts()
        cluster.beats["node-2"].process.kill()
        wait_until(lambda: "CeleryDispatchAbsent" in judge.alerts(), 30, "the alert that no beat runs")


def steady(judge: Prometheus) -> float | None:
    up = "on (instance) celery_dispatch_store_up"
    return judge.value(f'sum(celery_dispatch_node_state{{state="steady"}} * {up})')
