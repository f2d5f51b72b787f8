"""The example project keeps what its README says: its files agree, its tasks run, and so does the demo."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from demo.live import Change
from demo.pool import PoolReader
from demo.processes import Fleet, embedded_valkey
from demo.runs import Run, RunLog
from demo.verdict import Grid, judge
from tests.deployments import MASTER, sentinels_running
from tests.rabbitmq import RabbitMQ

EXAMPLE = Path(__file__).resolve().parents[2] / "example_project"
MANIFESTS = sorted((EXAMPLE / "kubernetes").glob("*.yaml"))
PROBE = ["celery", "-A", "proj", "dispatch", "health"]


def wait_until(predicate: Callable[[], bool], timeout: float, what: str) -> None:
    until = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < until, f"{what}: not within {timeout:g} s"
        time.sleep(0.05)


def in_project(code: str, **environment: str) -> Any:
    """What ``code`` prints as JSON, run in a process of its own beside ``proj``."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=EXAMPLE,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- the files agree --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app() -> dict[str, Any]:
    return in_project(
        "import json; from proj import app; app.loader.import_default_modules(); c = app.conf;"
        "print(json.dumps({'tasks': sorted(app.tasks), 'queues': [q.name for q in c.task_queues],"
        " 'routes': c.task_routes, 'schedule': {n: e['task'] for n, e in c.beat_schedule.items()},"
        " 'limit': c.task_time_limit}))"
    )


def containers() -> list[dict[str, Any]]:
    documents = [document for path in MANIFESTS for document in yaml.safe_load_all(path.read_text())]
    return [
        {**container, "pod": document["spec"]["template"]["spec"], "of": document["metadata"]["name"]}
        for document in documents
        if document["kind"] in ("Deployment", "StatefulSet")
        for container in document["spec"]["template"]["spec"]["containers"]
    ]


def commands() -> dict[str, list[str]]:
    """Every way to start the processes, each as one list of words per process."""
    compose = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())["services"].values()
    return {
        "Procfile": (EXAMPLE / "Procfile").read_text().splitlines(),
        "compose.yaml": [" ".join(service.get("command", [])) for service in compose],
        "kubernetes": [" ".join(container.get("command", [])) for container in containers()],
    }


def test_every_scheduled_and_every_routed_task_exists(app: dict[str, Any]) -> None:
    assert set(app["schedule"].values()) | set(app["routes"]) <= set(app["tasks"])


def test_every_route_leads_to_a_declared_queue(app: dict[str, Any]) -> None:
    assert {route["queue"] for route in app["routes"].values()} <= set(app["queues"])


@pytest.mark.parametrize("way", ["Procfile", "compose.yaml", "kubernetes"])
def test_every_queue_has_a_worker_of_its_own_and_there_is_a_beat(app: dict[str, Any], way: str) -> None:
    lines = commands()[way]
    served = [match[1] for line in lines if (match := re.search(r"worker .*--queues (\S+)", line))]
    assert sorted(served) == sorted(app["queues"])
    assert sum("celery -A proj beat" in line for line in lines) == 1


def test_workers_are_given_the_time_that_a_task_may_take(app: dict[str, Any]) -> None:
    workers = [container for container in containers() if container["name"] == "worker"]
    assert workers
    assert all(worker["pod"]["terminationGracePeriodSeconds"] >= app["limit"] for worker in workers)


def test_the_probes_of_beat_ask_the_health_command() -> None:
    (beat,) = (container for container in containers() if container["name"] == "beat")
    compose = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())["services"]["beat"]
    assert beat["livenessProbe"]["exec"]["command"] == [*PROBE, "--live"]
    assert beat["readinessProbe"]["exec"]["command"] == [*PROBE, "--ready"]
    assert compose["healthcheck"]["test"] == ["CMD", *PROBE, "--live"]


def test_both_deployments_start_three_beats() -> None:
    documents = list(yaml.safe_load_all((EXAMPLE / "kubernetes" / "beat.yaml").read_text()))
    compose = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())["services"]
    assert documents[0]["spec"]["replicas"] == compose["beat"]["deploy"]["replicas"] == 3


def test_compose_starts_rabbitmq_only_if_it_is_asked_to() -> None:
    services = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())["services"]
    assert [name for name, service in services.items() if "profiles" in service] == ["rabbitmq"]
    assert services["rabbitmq"]["profiles"] == ["rabbitmq"]
    assert not any("rabbitmq" in service.get("depends_on", {}) for service in services.values())
    for name in ("beat", "worker-default", "worker-reports"):
        assert services[name]["environment"] == {
            "CELERY_BROKER_URL": "${BROKER_URL:-redis://redis:6379/0}",
            "DISPATCH_REDIS_URL": "redis://redis:6379/0",
        }


# --- the tasks do what they say ---------------------------------------------------------------------------


def test_a_task_that_keeps_failing_is_tried_again_five_times() -> None:
    tried = in_project(
        "import json, random; from unittest import mock; import proj; from proj.tasks import fetch_rates\n"
        "with mock.patch.object(random, 'random', side_effect=lambda: calls.append(1) or 0.0):\n"
        "    calls = []; state = fetch_rates.apply(['EUR']).state\n"
        "print(json.dumps([state, len(calls)]))"
    )
    assert tried == ["FAILURE", 6]


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[str]:
    with embedded_valkey(tmp_path / "valkey") as url:
        yield url


def test_the_join_runs_once_after_all_shards(valkey: str, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    environment = {"CELERY_BROKER_URL": valkey, "CELERY_RESULT_BACKEND": valkey}
    options = "worker --queues reports --loglevel INFO --pool threads --concurrency 4 --without-mingle"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "proj", *options.split()],
            cwd=EXAMPLE,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        in_project("from proj.tasks import build_report; build_report.delay(4); print('null')", **environment)
        wait_until(lambda: bool(re.search(r"join_report\[\S+\] succeeded", log.read_text())), 30, "the join")
        assert "4 shards, 406 in total" in log.read_text()
        assert len(re.findall(r"join_report\[\S+\] received", log.read_text())) == 1
    finally:
        worker.terminate()
        worker.wait(20)


# --- through RabbitMQ -------------------------------------------------------------------------------------

REDIS, AMQP = "redis://127.0.0.1:1/0", "amqp://guest:guest@127.0.0.1:1//"


@pytest.mark.parametrize("broker, urgent_is", [(REDIS, "small"), (AMQP, "large")])
def test_what_is_urgent_has_the_number_that_the_broker_takes_for_urgent(broker: str, urgent_is: str) -> None:
    heartbeat, normal, clean_up = in_project(
        "import json; from proj import app; s = app.conf.beat_schedule;"
        "print(json.dumps([s['heartbeat']['options']['priority'], app.conf.task_default_priority,"
        " s['clean-up']['options']['priority']]))",
        CELERY_BROKER_URL=broker,
    )
    numbers = [heartbeat, normal, clean_up]
    assert numbers == sorted(numbers, reverse=urgent_is == "large")
    assert len(set(numbers)) == 3


@pytest.mark.parametrize("broker, pool", [(REDIS, REDIS), (AMQP, "redis://127.0.0.1:2/0")])
def test_one_variable_moves_the_messages_and_leaves_pool_and_results_on_redis(broker: str, pool: str) -> None:
    found = in_project(
        "import json; from proj import app; from celery_dispatch import Config;"
        "print(json.dumps([app.conf.broker_url, Config.from_app(app).redis_url, app.conf.result_backend]))",
        CELERY_BROKER_URL=broker,
        DISPATCH_REDIS_URL="redis://127.0.0.1:2/0",
    )
    assert found == [broker, pool, pool]


def test_through_sentinels_messages_pool_and_results_are_where_the_master_is() -> None:
    with sentinels_running() as sentinels:
        ports = in_project(
            "import json; from proj import app; from celery_dispatch import Config\n"
            "from celery_dispatch.redis_store.client import redis_client\n"
            "config = Config.from_app(app)\n"
            "with app.connection_for_write() as broker:\n"
            "    clients = [broker.default_channel.client, app.backend.client,\n"
            "               redis_client(config.redis_url, config.redis_options)]\n"
            "    print(json.dumps([client.info('server')['tcp_port'] for client in clients]))",
            CELERY_BROKER_URL=sentinels.url,
            REDIS_MASTER_NAME=MASTER,
        )
        assert ports == [sentinels.first.port] * 3


@pytest.fixture
def fleet(rabbitmq: RabbitMQ, valkey: str, tmp_path: Path) -> Iterator[Fleet]:
    """Beats and a worker of the demo's schedule, with the example's own settings for RabbitMQ."""
    fleet = Fleet(broker_url=rabbitmq.url, redis_url=valkey, logs=tmp_path)
    yield fleet
    fleet.stop_all(patience=4)
    for queue in ("default", "reports"):
        if rabbitmq.has(queue):
            rabbitmq.delete(queue)


@pytest.mark.timeout(120)
def test_on_rabbitmq_the_others_fire_for_a_killed_beat(fleet: Fleet, valkey: str, tmp_path: Path) -> None:
    client: Any = redis.Redis.from_url(valkey, socket_timeout=5)
    entries, step = in_project(
        "import json; from demo.app import ENTRIES, STEP_MS; print(json.dumps([ENTRIES, STEP_MS]))"
    )
    log, pool = RunLog(client), PoolReader(valkey)
    fleet.start_worker(pool="prefork")  # a worker of Celery 5.5 with threads falls asleep on RabbitMQ
    for name in ("one", "two"):
        fleet.start_beat(name)
    wait_until(lambda: list(pool.view(entries).states.values()) == ["steady"] * 2, 40, "two steady beats")
    wait_until(lambda: len(log.read()) + len(log.runs) > 60, 40, "the first runs")
    fleet.kill("one")
    killed = now_ms(client)
    wait_until(lambda: bool(log.read()) and max(run.due for run in log.runs) > killed + 4000, 20, "more runs")
    fleet.stop_beats(patience=10)
    wait_until(lambda: not log.read(), 10, "the last run")
    grids = [Grid(name, began, step) for name, began in pool.began(entries).items()]
    verdict = judge(log.runs, grids, until=killed + 3000)
    assert (verdict.lost, verdict.early, verdict.unexpected) == ((), (), ()), said(tmp_path)
    task_ids = {(run.entry, run.due, run.task_id) for run in log.runs}
    assert len(task_ids) == len({(run.entry, run.due) for run in log.runs})  # a repeat has the same id


def now_ms(client: Any) -> int:
    seconds, micros = client.time()
    return int(seconds * 1000 + micros // 1000)


def said(directory: Path) -> str:
    """What the processes of a fleet have logged."""
    return "\n".join(log.read_text(errors="replace")[-3000:] for log in sorted(directory.glob("*.log")))


# --- the demo ---------------------------------------------------------------------------------------------

GRIDS = [Grid("a", 10_000, 1000), Grid("b", 10_500, 1000)]


def runs(*occurrences: tuple[str, int], lag: int = 7, number: int = 0) -> list[Run]:
    node = "beat-1-00c0ffee"
    return [Run(entry, due, node, f"{entry}@{due}", due + lag, number) for entry, due in occurrences]


ALL = runs(("a", 11_000), ("a", 12_000), ("b", 11_500))


def test_the_verdict_is_good_when_every_occurrence_ran_once() -> None:
    verdict = judge(ALL, GRIDS, until=12_000)
    assert (verdict.expected, verdict.ran, verdict.good) == (3, 3, True)


@pytest.mark.parametrize("missing", range(3))
def test_the_verdict_names_what_was_lost(missing: int) -> None:
    verdict = judge(ALL[:missing] + ALL[missing + 1 :], GRIDS, until=12_000)
    assert verdict.lost == ((ALL[missing].entry, ALL[missing].due),)
    assert not verdict.good


def test_an_entry_that_never_ran_is_lost_altogether() -> None:
    assert len(judge(ALL[:2], GRIDS, until=12_600).lost) == 2


def test_the_verdict_names_what_was_doubled_even_after_the_end_of_the_count() -> None:
    late = runs(("a", 13_000), ("a", 13_000))
    verdict = judge([*ALL, *late], GRIDS, until=12_000)
    assert verdict.doubled == (("a", 13_000),)
    assert not verdict.good


def test_a_run_before_its_due_is_early() -> None:
    verdict = judge([*ALL[:2], *runs(("b", 11_500), lag=-1)], GRIDS, until=12_000)
    assert len(verdict.early) == 1
    assert not verdict.good


@pytest.mark.parametrize("stray", [("a", 11_001), ("a", 10_000), ("c", 11_000)])
def test_a_run_off_the_grid_spoils_the_verdict(stray: tuple[str, int]) -> None:
    verdict = judge([*ALL, *runs(stray)], GRIDS, until=12_000)
    assert len(verdict.unexpected) == 1
    assert not verdict.good


def test_a_count_of_nothing_is_not_good() -> None:
    assert not judge([], [], until=12_000).good


# Due every 200 ms from 10 s on, every 100 ms from 12.05 s on, and paused at 14 s.
CHANGED = [
    Grid("c", 10_000, 200, since=10_000, until=12_050, number=1),
    Grid("c", 10_000, 100, since=12_050, until=14_000, number=2),
]
OLD = runs(*[("c", due) for due in range(10_200, 12_050, 200)], number=1)
NEW = runs(*[("c", due) for due in range(12_100, 14_000, 100)], number=2)


def test_what_ran_by_the_definition_of_its_time_is_good() -> None:
    verdict = judge(OLD + NEW, CHANGED, until=20_000)
    assert verdict.good
    assert verdict.expected == 2 + 5  # not what was due shortly before each change


@pytest.mark.parametrize(
    "stray",
    [
        runs(("c", 12_100), number=1),  # the old definition is due no more
        runs(("c", 12_000), number=2),  # the new one not yet
        runs(("c", 14_100), number=2),  # it is paused
        runs(("c", 13_150), number=2),
    ],
)
def test_a_run_by_a_definition_that_was_not_in_force_spoils_the_verdict(stray: list[Run]) -> None:
    gone = {(run.entry, run.due) for run in stray}
    others = [run for run in OLD + NEW if (run.entry, run.due) not in gone]
    verdict = judge(others + stray, CHANGED, until=20_000)
    assert verdict.unexpected == tuple(stray)
    assert not verdict.good


@pytest.mark.parametrize("missing", [OLD[1], NEW[0], NEW[4]])
def test_what_was_due_between_two_changes_must_have_run(missing: Run) -> None:
    verdict = judge([run for run in OLD + NEW if run != missing], CHANGED, until=20_000)
    assert verdict.lost == ((missing.entry, missing.due),)


def test_a_change_is_followed_when_every_entry_ran_by_it() -> None:
    change = Change("changed", {"c": 12_050, "d": 12_060}, number=2)
    assert change.followed(OLD + NEW) == ""
    both = change.followed([*OLD, *NEW, *runs(("d", 12_150), lag=500, number=2)])
    assert both == "by beat-1 after 57 ms, by beat-1 after 590 ms"


def start_demo(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "demo", *options],
        cwd=EXAMPLE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(demo: subprocess.Popen[str]) -> str:
    """Ask it to end, which ends what it started; what it printed since the last read."""
    demo.terminate()
    return demo.communicate(timeout=30)[0]


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
        if parent == pid:
            found.append(int(stat.parent.name))
    return found


@pytest.mark.timeout(90)
def test_the_demo_survives_its_kill_and_the_changes_and_says_so() -> None:
    demo = start_demo("--kill-at", "3", "--join-at", "6", "--end-at", "11")
    try:
        output, _ = demo.communicate(timeout=80)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the demo does not end: {end(demo)}")
    assert demo.returncode == 0, output
    assert "every occurrence ran exactly once" in output
    assert re.search(r"lost +0 ", output)
    assert re.search(r"doubled +0 ", output)
    assert "SIGKILL for beat-" in output
    three = r"live-\d\d, live-\d\d and live-\d\d"
    followed = r"\* that was fired (by beat-\d after \d+ ms(, )?){3}\n"
    for change in (f"created {three}, one for each beat: due every 200", f"changed {three}: due every 100"):
        assert re.search(rf"\* {change} ms\n(.*\n)*?.*{followed}", output), output
    assert re.search(rf"\* paused {three}: none of them is fired any more\n", output)


@pytest.mark.timeout(60)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_behind(number: signal.Signals) -> None:
    demo = start_demo()
    try:
        # the Valkey, the worker and three beats
        wait_until(lambda: len(children_of(demo.pid)) == 5, 20, "five processes")
        children = children_of(demo.pid)
        demo.send_signal(number)
        output, _ = demo.communicate(timeout=30)
    finally:
        if demo.poll() is None:
            end(demo)
    assert demo.returncode == 130, output
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
