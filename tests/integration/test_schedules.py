"""What beats make of changes, while they run and while things go wrong; judged by the messages themselves.

Claim and message are one write here, so that what is on the queue when a change returns was fired before it.
"""

from __future__ import annotations

import json
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from celery import Celery

from celery_dispatch import Schedules
from celery_dispatch.errors import NameTaken, ScheduleError
from tests.drills.cluster import Cluster, Spec
from tests.drills.oracle import Every
from tests.drills.process import wait_until
from tests.drills.redis_server import Server
from tests.drills.releases import Release

MakeCluster = Callable[..., Cluster]

SHORT: dict[str, object] = {"dispatch_heartbeat_interval": 0.5, "dispatch_lease_ttl": 3}
TOLD = 1.0  # seconds in which a change takes effect on every node
HASTE = 2.0  # seconds that a busy machine may add to it

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def cluster(server: Server, make_cluster: MakeCluster) -> Cluster:
    cluster = make_cluster(server, {"config": Spec(Every(1))}, settings=SHORT)
    cluster.start(3)
    return cluster


@pytest.fixture
def schedules(server: Server) -> Iterator[Schedules]:
    app = Celery("elsewhere", broker=server.url, set_as_current=False)
    app.conf.result_expires = None
    with Schedules(app) as schedules:
        yield schedules
    app.close()


def messages(cluster: Cluster, name: str) -> list[dict[str, Any]]:
    """What was sent of an entry, the oldest first."""
    listed: Any = cluster.redis.lrange("celery", 0, -1)
    sent = [json.loads(message) for message in reversed(listed)]
    return [message for message in sent if message["headers"]["dispatch_entry"] == name]


def due(message: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(message["headers"]["dispatch_due"].replace("Z", "+00:00"))


def now(cluster: Cluster) -> datetime:
    seconds, micros = cluster.redis.time()  # type: ignore[misc]
    return datetime.fromtimestamp(seconds, timezone.utc) + timedelta(microseconds=micros)


def job(number: int = 0, seconds: float = 0.2) -> dict[str, Any]:
    return {"task": "drill.record", "schedule": seconds, "args": [number]}


def fires(cluster: Cluster, name: str, *, beyond: int = 0, within: float = TOLD + HASTE) -> None:
    wait_until(
        lambda: len(messages(cluster, name)) > beyond,
        within,
        why=lambda: f"{name} is fired; there are {len(messages(cluster, name))}\n{cluster.logs()}",
    )


def stays_silent(cluster: Cluster, name: str, seconds: float = 2.0) -> None:
    """Nothing of it is sent any more."""
    before = len(messages(cluster, name))
    time.sleep(seconds)
    assert len(messages(cluster, name)) == before, cluster.logs()


def dues_are_unique(cluster: Cluster, name: str) -> None:
    dues = [due(message) for message in messages(cluster, name)]
    assert len(set(dues)) == len(dues)


def test_a_life_of_a_schedule_on_three_beats(cluster: Cluster, schedules: Schedules) -> None:
    schedules.create("job", allow_unknown_task=True, **job())
    fires(cluster, "job")
    schedules.pause("job", note="a test")
    stays_silent(cluster, "job")
    before = len(messages(cluster, "job"))
    resumed = now(cluster)
    schedules.resume("job")
    fires(cluster, "job", beyond=before + 3)
    assert min(due(message) for message in messages(cluster, "job")[before:]) > resumed - timedelta(
        seconds=0.1
    )
    schedules.delete("job")
    stays_silent(cluster, "job")
    schedules.create("job", allow_unknown_task=True, **job(1))
    fires(cluster, "job", beyond=len(messages(cluster, "job")))
    dues_are_unique(cluster, "job")
    schedules.pause("config")
    stays_silent(cluster, "config", 3)
    schedules.pause_all()
    stays_silent(cluster, "job")
    schedules.resume_all()
    fires(cluster, "job", beyond=len(messages(cluster, "job")))


def test_nothing_of_an_old_definition_is_fired_that_was_not_due_before_the_update_though_nodes_die(
    cluster: Cluster, schedules: Schedules
) -> None:
    schedules.create("job", allow_unknown_task=True, **job(0, 0.1))
    fires(cluster, "job")
    changed: list[datetime] = []
    for number in range(1, 30):
        if number == 10:
            cluster.beats["node-1"].process.kill()
        if number == 20:
            cluster.beats["node-2"].process.pause()
        schedules.update("job", args=[number])
        changed.append(now(cluster))
        time.sleep(0.1)
    cluster.beats["node-2"].process.resume()
    fires(cluster, "job", beyond=len(messages(cluster, "job")) + 5)
    for message in messages(cluster, "job"):
        (number,) = json.loads(_body(message))[0]
        assert number == 29 or due(message) <= changed[number]
    dues_are_unique(cluster, "job")


def test_beats_that_missed_the_notification_follow_within_a_second(
    cluster: Cluster, schedules: Schedules
) -> None:
    schedules.create("early", allow_unknown_task=True, **job())
    fires(cluster, "early")
    for number in range(3):
        cluster.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        schedules.create(f"job-{number}", allow_unknown_task=True, **job())
        fires(cluster, f"job-{number}")


def test_a_beat_that_slept_through_changes_fires_nothing_of_what_was(
    cluster: Cluster, schedules: Schedules
) -> None:
    names = [f"job-{number}" for number in range(20)]
    schedules.create_many({name: job() for name in names}, allow_unknown_task=True)
    for name in names:
        fires(cluster, name)
    cluster.beats["node-1"].process.pause()
    for name in names:
        schedules.delete(name)
    before = {name: len(messages(cluster, name)) for name in names}
    time.sleep(5)  # longer than a lease
    cluster.beats["node-1"].process.resume()
    cluster.wait_for_nodes(3)
    time.sleep(1)
    assert {name: len(messages(cluster, name)) for name in names} == before


def test_rows_survive_a_redis_that_was_emptied(cluster: Cluster, schedules: Schedules) -> None:
    schedules.create("job", allow_unknown_task=True, **job())
    schedules.create("gone", allow_unknown_task=True, **job())
    fires(cluster, "gone")
    schedules.delete("gone")
    paused = schedules.pause("config").version
    wait_until(lambda: all(member["info"]["catalog"] >= paused for member in cluster.members().values()), 15)
    sent = {name: len(messages(cluster, name)) for name in ("gone", "config")}
    assert sent["gone"]
    cluster.redis.delete(
        *(cluster.key(name) for name in ("pool", "cursor", "entries", "changes", "nodes", "members"))
    )
    wait_until(lambda: cluster.redis.hlen(cluster.key("entries")) == 3, 15)
    fires(cluster, "job", beyond=len(messages(cluster, "job")), within=15)
    time.sleep(1)
    assert {name: len(messages(cluster, name)) for name in sent} == sent
    dues_are_unique(cluster, "job")


def deploy(cluster: Cluster, name: str, *entries: str) -> Release:
    """Beats of a release with these entries, each due every second, take the place of those that run."""
    old = [beat.process for beat in cluster.beats.values() if beat.process.alive]
    release = Release({entry: Spec(Every(1)) for entry in entries})
    for number in (1, 2):
        cluster.beat(f"{name}-{number}", release=release)
    cluster.wait_for_renewals(len(old) + 2)
    for process in old:
        process.terminate()
    cluster.wait_for_nodes(2)
    return release


def in_force_since(cluster: Cluster) -> datetime:
    return datetime.fromtimestamp(cluster.since() / 1000, timezone.utc)


def first_argument(message: dict[str, Any]) -> object:
    return json.loads(_body(message))[0][0]


def shadowed(cluster: Cluster, release: Release) -> list[str]:
    """What the doctor says is shadowed."""
    findings = json.loads(cluster.run("dispatch", "doctor", "--json", release=release).out)["findings"]
    return [
        name
        for each in findings
        if "is shadowed" in each["what"] or "are shadowed" in each["what"]
        for name in each["evidence"]
    ]


def test_a_config_that_brings_the_name_of_a_run_time_entry_shadows_it_until_it_drops_the_name(
    server: Server, make_cluster: MakeCluster, schedules: Schedules
) -> None:
    settings = {**SHORT, "dispatch_catch_up": "all"}
    cluster = make_cluster(server, {"config": Spec(Every(1))}, settings=settings)
    cluster.start(2)
    for name in ("job", "removed"):
        schedules.create(name, allow_unknown_task=True, **job(0))
        fires(cluster, name)
    schedules.pause("config", note="through every deploy")
    with pytest.raises(NameTaken):
        schedules.create("config", allow_unknown_task=True, **job())

    brings = deploy(cluster, "brings", "config", "job", "removed")
    taken = in_force_since(cluster)
    fires(cluster, "job", beyond=len(messages(cluster, "job")) + 2, within=6)
    assert shadowed(cluster, brings) == ["job", "removed"]
    schedules.update("job", args=[1])
    schedules.delete("removed")
    assert shadowed(cluster, brings) == ["job"]
    with pytest.raises(NameTaken):
        schedules.create("removed", allow_unknown_task=True, **job())
    with pytest.raises(ScheduleError, match="of the config"):
        schedules.update("removed", args=[2])
    refused = cluster.run(
        "dispatch", "add", "removed", "--task", "drill.record", "--every", "1", release=brings
    )
    assert refused.status == 1
    assert "is an entry of beat_schedule" in refused.out + refused.err
    for name in ("job", "removed"):
        fires(cluster, name, beyond=len(messages(cluster, name)) + 3, within=8)

    drops = deploy(cluster, "drops", "config")
    given_back = in_force_since(cluster)
    fires(cluster, "job", beyond=len(messages(cluster, "job")) + 5)
    stays_silent(cluster, "removed")
    assert shadowed(cluster, drops) == []
    for name in ("job", "removed"):
        dues_are_unique(cluster, name)
        for message in messages(cluster, name):
            says = 0 if due(message) < taken else name if due(message) < given_back else 1
            assert first_argument(message) == says, due(message)
    dues = sorted(due(message) for message in messages(cluster, "job"))
    for begin, end, seconds in ((taken, given_back, 1), (given_back, now(cluster), 0.2)):
        there = [each for each in dues if begin <= each < end]
        assert there[0] - begin <= timedelta(seconds=seconds)
        assert {later - each for each, later in pairwise(there)} == {timedelta(seconds=seconds)}
    stays_silent(cluster, "config")
    schedules.resume("config")
    fires(cluster, "config", beyond=len(messages(cluster, "config")))


def _body(message: dict[str, Any]) -> bytes:
    return b64decode(message["body"])
