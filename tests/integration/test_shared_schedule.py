"""Three beats, default settings, one schedule of every kind; one run, judged from many sides."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.drills.checker import Arrival, judge
from tests.drills.cluster import Cluster, Spec
from tests.drills.collector import Collector, now_us
from tests.drills.oracle import Cron, Every, expected
from tests.drills.process import wait_until
from tests.drills.redis_server import running_server

ZONE = "Asia/Kolkata"  # half an hour off the hour: a crontab read in UTC would be found out
BOUND = 700.0  # ms; three beats and a collector share the machine with the tests

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class History:
    """What arrived, and the instants between which it is judged."""

    cluster: Cluster
    arrivals: list[Arrival]
    nodes: list[str]
    anchor: int
    steady: int
    until: int

    def of(self, entry: str) -> list[Arrival]:
        found = [arrival for arrival in self.arrivals if arrival.entry == entry]
        assert found, f"no message of {entry}"
        return found


def entries(boundary: datetime) -> dict[str, Spec]:
    there = boundary.astimezone(ZoneInfo(ZONE))
    later = there + timedelta(hours=5, minutes=30)
    return {
        **{f"every-{seconds:g}": Spec(Every(seconds)) for seconds in (0.5, 1, 1.5, 2, 3, 5, 7)},
        **{f"number-{seconds:g}": Spec(Every(seconds), plain=True) for seconds in (1.25, 4)},
        **{f"relative-{seconds}": Spec(Every(seconds, relative=True)) for seconds in (2, 5)},
        **{f"priority-{step}": Spec(Every(2), {"priority": step}) for step in (0, 3, 6, 9)},
        "minutely": Spec(Cron("* * * * *", ZONE)),
        "odd-minutes": Spec(Cron("1-59/2 * * * *", ZONE)),
        "even-minutes": Spec(Cron("*/2 * * * *", ZONE)),
        "now-there": Spec(Cron(f"{there.minute} {there.hour} * * *", ZONE)),
        "later-there": Spec(Cron(f"{later.minute} {later.hour} * * *", ZONE)),
        "elsewhere": Spec(Every(2), {"queue": "reports", "expires": 30}),
        "labelled": Spec(Every(2), {"headers": {"tenant": "blue"}}),
        "yearly": Spec(Cron("0 0 1 1 *", ZONE)),
    }


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory, _clusters: list[Cluster]) -> Iterator[History]:
    """Runs until a minute has begun while the pool was steady."""
    directory: Path = tmp_path_factory.mktemp("shared")
    boundary = (datetime.now(timezone.utc) + timedelta(seconds=80)).replace(second=0, microsecond=0)
    settings = {"dispatch_catch_up": "all", "timezone": ZONE}
    with running_server(directory / "redis") as server:
        cluster = Cluster(server.url, directory, entries(boundary), settings=settings)
        _clusters.append(cluster)
        collector = Collector(server.url, queues=["celery", "reports"], priorities=True)
        with cluster, collector:
            cluster.start(3)
            nodes, steady = cluster.nodes(), now_us(cluster.redis) // 1000
            assert steady < boundary.timestamp() * 1000, "the beats took too long to start"
            until = round(boundary.timestamp() * 1000) + 3000
            wait_until(lambda: now_us(cluster.redis) // 1000 > until + BOUND + 500, 90)
            anchor = cluster.since()
            cluster.close()
            collector.stop()
            yield History(cluster, collector.arrivals, nodes, anchor, steady, until)
        _clusters.remove(cluster)


def test_every_occurrence_arrives_once_and_in_time(history: History) -> None:
    verdict = judge(
        history.cluster.schedule,
        history.arrivals,
        anchor=history.anchor,
        until=history.until,
        lag_from=history.steady + 1000,
    )
    assert verdict.problems(bound=BOUND) == []
    assert verdict.expected > 100


def test_crontabs_fire_in_the_zone_of_the_app(history: History) -> None:
    fired = {arrival.entry for arrival in history.arrivals}
    crontabs = {name for name, rule in history.cluster.schedule.items() if isinstance(rule, Cron)}
    wanted = expected(history.cluster.schedule, anchor=history.anchor, until=history.until)
    assert fired & crontabs == {name for name, _ in wanted} & crontabs
    assert {"minutely", "now-there"} <= fired
    assert not {"later-there", "yearly"} & fired


def test_the_entries_are_shared_out_and_stay_with_their_owner(history: History) -> None:
    nodes = Counter(
        arrival.node for arrival in history.arrivals if arrival.at > (history.steady + 1000) * 1000
    )
    assert set(nodes) == set(history.nodes)
    owners = {(a.entry, a.node) for a in history.arrivals if a.at > (history.steady + 1000) * 1000}
    strays = Counter(entry for entry, _ in owners)
    assert sum(count - 1 for count in strays.values()) <= 2, strays


def test_a_message_says_what_it_is(history: History) -> None:
    for arrival in history.arrivals:
        assert arrival.headers["dispatch_entry"] == arrival.headers["periodic_task_name"] == arrival.entry
        assert arrival.headers["celery_beat_task"] is True
        assert arrival.headers["task"] == "drill.record"
        assert str(arrival.headers["dispatch_due"]).endswith("Z")
        assert uuid.UUID(arrival.task_id).version == 5
    assert len({arrival.task_id for arrival in history.arrivals}) == len(history.arrivals)


@pytest.mark.parametrize("step", [0, 3, 6, 9])
def test_a_priority_takes_its_own_queue(history: History, step: int) -> None:
    for arrival in history.of(f"priority-{step}"):
        assert arrival.queue == (f"celery\x06\x16{step}" if step else "celery")
        assert arrival.properties["priority"] == step


def test_options_reach_the_message(history: History) -> None:
    for arrival in history.of("elsewhere"):
        assert arrival.queue == "reports"
        expires = datetime.fromisoformat(str(arrival.headers["expires"])).timestamp()
        assert 29 <= expires - arrival.at / 1e6 <= 31
    for arrival in history.of("labelled"):
        assert arrival.headers["tenant"] == "blue"
    assert all("tenant" not in arrival.headers for arrival in history.of("every-2"))


def test_each_message_has_the_log_line_of_stock_beat(history: History) -> None:
    lines = "\n".join(process.log for process in history.cluster.processes)
    said = Counter(
        line.partition("Sending due task ")[2].split()[0]
        for line in lines.splitlines()
        if "Sending due" in line
    )
    assert said == Counter(arrival.entry for arrival in history.arrivals)
