"""A real Prometheus scrapes a node, evaluates the alerts, and answers what the dashboard asks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from celery_dispatch.core.clock import PoolClock, SystemClock
from celery_dispatch.core.entry import Fence
from celery_dispatch.core.pool import Role, View
from celery_dispatch.core.report import NodeReport, Skip
from celery_dispatch.core.ring import Ring
from celery_dispatch.metrics import Metrics
from tests.servers import free_port, wait_until

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"
CONFIG = """
global: {{scrape_interval: 250ms, evaluation_interval: 250ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: beats
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Prometheus:
    """A Prometheus server on the loopback interface, asked over its API."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._base}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except URLError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        url = f"{self._base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        return list(self.get("query", query=expression)["result"])

    def value(self, expression: str) -> float | None:
        """The value of the only series that ``expression`` gives, ``None`` for none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if len(found) == 1 else None


@contextmanager
def prometheus(directory: Path, target: int) -> Iterator[Prometheus]:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    config, port = directory / "prometheus.yml", free_port()
    config.write_text(CONFIG.format(rules=MONITORING / "alerts.yml", port=target))
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    server = Prometheus(port)
    try:
        wait_until(server.is_ready, 30, "a Prometheus that serves")
        yield server
    finally:
        process.terminate()
        process.wait(20)


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


def test_prometheus_scrapes_a_node_and_notices_when_it_is_gone(
    report: NodeReport, metrics: Metrics, tmp_path: Path
) -> None:
    port = metrics.port
    assert port is not None
    with prometheus(tmp_path, port) as server:
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
        assert server.query("absent(celery_dispatch_turns_total)") == []

        metrics.stop()
        wait_until(lambda: server.query("absent(celery_dispatch_turns_total)"), 20, "an absent node")
        wait_until(lambda: alert(server, "CeleryDispatchAbsent") == "pending", 20, "the alert")


def alert(server: Prometheus, name: str) -> str | None:
    states = [alert["state"] for alert in server.get("alerts")["alerts"]
              if alert["labels"]["alertname"] == name]  # fmt: skip
    return states[0] if states else None


def test_prometheus_can_evaluate_every_alert_and_every_panel(
    report: NodeReport, metrics: Metrics, tmp_path: Path
) -> None:
    port = metrics.port
    assert port is not None
    report.fire(timedelta(milliseconds=20), helped=True)
    with prometheus(tmp_path, port) as server:
        wait_until(lambda: {rule["health"] for rule in rules(server)} == {"ok"}, 20, "the rules")
        for expression in panel_expressions():
            wait_until(partial(server.query, expression), 20, f"an answer to {expression}")


def rules(server: Prometheus) -> list[dict[str, Any]]:
    return [rule for group in server.get("rules")["groups"] for rule in group["rules"]]


def panel_expressions() -> list[str]:
    """What the dashboard asks, with its variables filled in."""
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    filled = [re.sub(r"\$(job|instance)", ".*", one).replace("$__rate_interval", "1m") for one in expressions]
    assert not any("$" in one for one in filled)
    return filled
