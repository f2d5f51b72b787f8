"""The page that Prometheus scrapes, and the alerts and the dashboard that are made for it."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from celery_dispatch.core.clock import PoolClock
from celery_dispatch.core.entry import Fence
from celery_dispatch.core.pool import Role, View
from celery_dispatch.core.ports import Member, MemberState
from celery_dispatch.core.report import ErrorKind, NodeReport, Skip
from celery_dispatch.core.ring import Ring
from celery_dispatch.errors import ConfigError
from celery_dispatch.metrics import STATES, Metrics, NodeSeries, check_available
from celery_dispatch.testing import ManualClock
from tests.programs import program

DOCS = Path(__file__).parents[2] / "docs"
MONITORING = DOCS / "monitoring"
START = datetime(2030, 1, 1, tzinfo=timezone.utc)
NAME = re.compile(r"\bcelery_dispatch_[a-z_]+\b")


@dataclass
class Page:
    """A node's page, and what it is made of; everything may be set by a test."""

    node: str = "a-1"
    view: View | None = None
    pool_outage: str | None = None
    report: NodeReport = field(default_factory=lambda: NodeReport({}))
    local: ManualClock = field(default_factory=lambda: ManualClock(1000.0))

    def __post_init__(self) -> None:
        self.clock = PoolClock(self.local)
        self._registry = CollectorRegistry()
        self._registry.register(
            NodeSeries(
                self.report,
                node=self.node,
                pool_view=lambda: self.view,
                pool_outage=lambda: self.pool_outage,
                clock=self.clock,
            )
        )

    def hear(self, server: datetime = START) -> None:
        """A heartbeat is answered."""
        self.clock.sample(server, sent=self.local.monotonic(), received=self.local.monotonic())

    def text(self) -> str:
        return generate_latest(self._registry).decode()

    def series(self) -> dict[str, float]:
        return parsed(self.text())


def parsed(text: str) -> dict[str, float]:
    """``name{label=value}`` without the common prefix, with its value."""
    return {
        sample.name.removeprefix("celery_dispatch_")
        + "".join(f"{{{key}={value}}}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def full_page(page: Page) -> Page:
    """A page on which every series is to be seen."""
    page.hear()
    page.view = view(member("a-1"))
    page.report.turned(1000.0)
    page.report.fire(timedelta(), helped=False)
    return page


def member(node: str, *, config: str = "v1", app: str = "shop", draining: bool = False) -> Member:
    return Member(
        id=node,
        host="host",
        config=config,
        identity=app,
        state=MemberState.STEADY,
        draining=draining,
        joined=START,
        lease_end=START + timedelta(seconds=10),
        info={},
    )


def view(*members: Member, role: Role = Role.IN_FORCE, recovery: str = "") -> View:
    fence, ranks = Fence("v1", START), Ring().ranks({})
    return View(
        fence=fence,
        own=fence if role is Role.IN_FORCE else None,
        until=None,
        due_from=None,
        role=role,
        recovery=recovery,
        identity="shop",
        members=members,
        ranks=ranks,
        mine=ranks.of("a-1"),
    )


def names_in(text: str) -> set[str]:
    return set(NAME.findall(text))


def sample_names(page: Page) -> set[str]:
    return {
        sample.name for family in text_string_to_metric_families(page.text()) for sample in family.samples
    }


def promtool(*arguments: str, text: str = "") -> None:
    """Run Prometheus' own checker and expect it to be content."""
    command = [program("promtool", package="prometheus"), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=110, cwd=MONITORING)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


# --- what the page says -------------------------------------------------------------------------------------


def test_page_follows_the_conventions_of_prometheus(full_page: Page) -> None:
    promtool("check", "metrics", text=full_page.text())


def test_counters_are_those_of_the_report(page: Page) -> None:
    report = page.report
    for helped in (False, False, True):
        report.fire(timedelta(seconds=0.3), helped=helped)
    report.skip(4, Skip.LATE)
    report.skip(2, Skip.DROPPED)
    report.claim_lost()
    report.taken_over(5)
    report.recovery(datetime(2030, 1, 1, tzinfo=timezone.utc))
    report.count_error(ErrorKind.BROKER)
    report.error("e1", "no route")
    report.turned(1000.0)
    expected = {
        "fired_total": 3,
        "takeovers_total": 1,
        "skipped_total{reason=late}": 4,
        "skipped_total{reason=window}": 0,
        "skipped_total{reason=dropped}": 2,
        "skipped_total{reason=left}": 0,
        "skipped_total{reason=paused}": 0,
        "claims_lost_total": 1,
        "intents_taken_over_total": 5,
        "recoveries_total": 1,
        "errors_total{kind=broker}": 1,
        "errors_total{kind=entry}": 1,
        "errors_total{kind=store}": 0,
        "errors_total{kind=fenced}": 0,
        "entries_in_error": 1,
        "turns_total": 1,
    }
    assert expected.items() <= page.series().items()


def test_gauges_are_those_of_the_report(page: Page) -> None:
    page.report.owned, page.report.standby, page.report.loading, page.report.open_intents = 7, 6, 5, 4
    expected = {
        "entries{rank=owner}": 7,
        "entries{rank=standby}": 6,
        "entries{rank=loading}": 5,
        "intents_open": 4,
    }
    assert expected.items() <= page.series().items()


def test_lag_is_a_histogram_whose_buckets_add_up(page: Page) -> None:
    for seconds in (0.004, 0.3, 0.3, 7200.0):
        page.report.fire(timedelta(seconds=seconds), helped=False)
    series = page.series()
    counted = {
        bound: series[f"lag_seconds_bucket{{le={bound}}}"] for bound in ("0.005", "0.25", "0.5", "+Inf")
    }
    assert counted == {"0.005": 1, "0.25": 1, "0.5": 3, "+Inf": 4}
    assert series["lag_seconds_count"] == 4
    assert series["lag_seconds_sum"] == pytest.approx(7200.604)


def test_sign_of_life_moves_with_every_turn(page: Page) -> None:
    before = page.series()["turns_total"]
    page.report.turned(1000.0)
    assert page.series()["turns_total"] == before + 1


def test_instants_are_told_by_the_clock_of_the_pool(page: Page) -> None:
    page.report.turned(1000.0)
    page.report.fire(timedelta(), helped=False)
    assert "last_turn_timestamp_seconds" not in page.series(), "the pool's time is not known yet"
    page.local.advance(5)
    page.hear()
    page.report.turned(1002.0)
    series = page.series()
    assert series["last_turn_timestamp_seconds"] == START.timestamp() - 3
    assert series["last_fire_timestamp_seconds"] == START.timestamp() - 5


def test_steps_of_the_servers_clock_are_counted(page: Page) -> None:
    page.hear(START)
    page.hear(START - timedelta(seconds=30))
    assert page.series()["clock_steps_total"] == 1


def test_page_names_version_node_and_config(full_page: Page) -> None:
    names = full_page.series()
    assert any(re.fullmatch(r"build_info\{node=a-1\}\{version=\d+\.\d+.*\}", name) for name in names)
    assert names["config_in_force_info{config=v1}"] == 1


# --- the pool -----------------------------------------------------------------------------------------------


def states(page: Page) -> set[str]:
    return {state for state in STATES if page.series()[f"node_state{{state={state}}}"] == 1}


def test_node_that_has_no_lease_is_absent(page: Page) -> None:
    assert states(page) == {"absent"}
    page.view = view(member("b-2"))
    assert states(page) == {"absent"}
    assert page.series()["nodes{state=steady}"] == 1


@pytest.mark.parametrize(
    ("me", "state"),
    [
        (member("a-1"), "steady"),
        (replace(member("a-1"), state=MemberState.JOINING), "joining"),
        (replace(member("a-1"), state=MemberState.CUT_OFF), "cut_off"),
        (member("a-1", draining=True), "draining"),
        (member("a-1", config="v2"), "standing_by"),
        (member("a-1", app="other", config="v2"), "foreign"),
    ],
)
def test_node_is_in_one_state_and_counted_in_it(page: Page, me: Member, state: str) -> None:
    page.view = view(me, member("b-2"))
    assert states(page) == {state}
    assert page.series()[f"nodes{{state={state}}}"] == (2 if state == "steady" else 1)


def test_page_says_whether_the_node_runs_the_config_in_force(page: Page) -> None:
    page.view = view(member("a-1"))
    assert page.series()["runs_config_in_force"] == 1
    page.view = view(member("a-1", config="v2"), role=Role.STANDING_BY)
    assert page.series()["runs_config_in_force"] == 0


def test_page_says_that_the_pool_recovers(page: Page) -> None:
    page.view = view(member("a-1"))
    assert page.series()["recovering"] == 0
    page.view = view(member("a-1"), recovery="r1")
    assert page.series()["recovering"] == 1


def test_pool_that_has_no_config_yet_names_none(page: Page) -> None:
    page.view = replace(view(member("a-1")), fence=None)
    assert not any(name.startswith("config_in_force_info") for name in page.series())
    assert states(page) == {"standing_by"}


# --- faults -------------------------------------------------------------------------------------------------


def up(page: Page) -> tuple[float, float]:
    series = page.series()
    return series["store_up"], series["broker_up"]


def test_store_is_up_from_the_first_answer_on(page: Page) -> None:
    assert up(page) == (0, 1)
    page.hear()
    assert up(page) == (1, 1)


def test_store_is_down_while_heartbeats_or_claims_get_no_answer(page: Page) -> None:
    page.hear()
    page.pool_outage = "Redis is away"
    assert up(page) == (0, 1)
    page.pool_outage, page.report.outage = None, "Redis is away"
    assert up(page) == (0, 1)


def test_broker_that_is_away_does_not_make_the_store_look_down(page: Page) -> None:
    page.hear()
    page.report.outage = page.report.broker_outage = "the broker is away"
    assert up(page) == (1, 0)


# --- serving ------------------------------------------------------------------------------------------------


Serve = Callable[..., Metrics]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(node, port=0, …)``: metrics that were started; stopped after the test."""
    started: list[Metrics] = []

    def serve(
        node: str, port: int = 0, *, report: NodeReport | None = None, address: str = "127.0.0.1"
    ) -> Metrics:
        metrics = Metrics(
            report or NodeReport({}),
            node=node,
            pool_view=lambda: None,
            pool_outage=lambda: None,
            clock=PoolClock(ManualClock(1000.0)),
        )
        started.append(metrics)
        metrics.start(address, port)
        return metrics

    yield serve
    for metrics in started:
        metrics.stop()


def scraped(metrics: Metrics) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics.port}/metrics", timeout=5) as answer:
        return parsed(answer.read().decode())


def test_two_nodes_of_one_process_serve_a_page_each_and_leave_the_default_registry_alone(
    serve: Serve,
) -> None:
    report = NodeReport({})
    one, other = serve("a-1"), serve("b-2", report=report)
    report.fire(timedelta(), helped=False)
    assert (scraped(one)["fired_total"], scraped(other)["fired_total"]) == (0, 1)
    assert not any(name.startswith(("process_", "python_")) for name in scraped(one))
    assert not names_in(generate_latest().decode())


def test_port_that_is_taken_is_logged_once_with_the_cure_and_stops_nothing(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    one = serve("a-1")
    other = serve("b-2", one.port)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"Node b-2 serves no metrics: it cannot listen on 127.0.0.1 port {one.port}" in record.message
    assert "dispatch_metrics_port" in record.message
    assert other.port is None
    assert scraped(one)["fired_total"] == 0, "the page that was there first is still served"


def test_address_of_another_host_is_logged_with_the_cure_and_stops_nothing(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    assert serve("a-1", address="192.0.2.1").port is None
    assert "192.0.2.1" in caplog.text
    assert "dispatch_metrics_address" in caplog.text


def test_port_is_free_again_after_stop_which_may_be_repeated(serve: Serve) -> None:
    metrics = serve("a-1")
    port = metrics.port
    metrics.stop()
    metrics.stop()
    assert metrics.port is None
    assert serve("a-1", port).port == port


def test_without_the_package_the_node_goes_on_and_names_the_cure(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert serve("a-1").port is None
    assert 'pip install "celery-dispatch[metrics]"' in caplog.text


def test_check_at_start_refuses_the_setting_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    check_available()
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r'pip install "celery-dispatch\[metrics\]"'):
        check_available()


def test_module_does_not_load_the_package_before_it_is_needed() -> None:
    code = "import sys, celery_dispatch.metrics; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# --- alerts, dashboard, documentation -----------------------------------------------------------------------


def test_alerts_and_dashboard_use_only_series_that_exist(full_page: Page) -> None:
    known = sample_names(full_page)
    for file in ("alerts.yml", "alerts_test.yml", "grafana-dashboard.json"):
        used = names_in((MONITORING / file).read_text())
        assert used, file
        assert used - known == set(), file


def test_dashboard_shows_every_series(full_page: Page) -> None:
    shown = names_in((MONITORING / "grafana-dashboard.json").read_text())
    assert sample_names(full_page) - shown == set()


def test_dashboard_is_one_that_grafana_can_read() -> None:
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    boxes = [panel["gridPos"] for panel in panels]
    cells = [(x, y) for box in boxes for x in range(box["x"], box["x"] + box["w"])
             for y in range(box["y"], box["y"] + box["h"])]  # fmt: skip
    assert max(x for x, _ in cells) < 24
    assert len(set(cells)) == len(cells), "panels lie over each other"
    for panel in panels:
        assert panel["type"] == "row" or (panel["title"] and panel["description"] and panel["targets"])


def test_alerts_are_valid_and_fire_when_they_should() -> None:
    promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts_test.yml")


def rules() -> list[dict[str, object]]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


def test_every_alert_says_what_is_wrong_and_where_to_read_on() -> None:
    for rule in rules():
        annotations, labels = rule["annotations"], rule["labels"]
        assert isinstance(annotations, dict) and isinstance(labels, dict)
        assert set(annotations) == {"summary", "description", "runbook"}, rule["alert"]
        assert annotations["runbook"].startswith("docs/how-to/what-to-do-when.md"), rule["alert"]
        assert labels["severity"] in ("critical", "warning"), rule["alert"]


def test_every_alert_has_a_test_and_a_row_in_the_documentation() -> None:
    tested, page = (MONITORING / "alerts_test.yml").read_text(), (DOCS / "how-to/monitoring.md").read_text()
    for rule in rules():
        assert f'alertname="{rule["alert"]}"' in tested
        assert f"`{rule['alert']}`" in page


def test_documentation_has_every_series_and_no_other(full_page: Page) -> None:
    page = (DOCS / "how-to/monitoring.md").read_text()
    families = {family.name for family in text_string_to_metric_families(full_page.text())}
    listed = set(re.findall(r"^\| `(celery_dispatch_[a-z_]+)", page, re.MULTILINE))
    assert {name.removesuffix("_total") for name in listed} == families
    assert names_in(page) - sample_names(full_page) - listed == set()
