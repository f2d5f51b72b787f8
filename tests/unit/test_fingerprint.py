"""Definitions and fingerprints: equal across processes, different where what is sent differs."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import subprocess
import sys
import threading
import zoneinfo
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.beat import BeatLazyFunc
from celery.schedules import crontab, schedule, solar
from kombu import Exchange, Queue

from celery_dispatch.celery_bridge.fingerprint import definition_of, fingerprint_of
from celery_dispatch.config import Config
from celery_dispatch.errors import EntryError

UTC = timezone.utc


def define(**changed: Any) -> str:
    fields: dict[str, Any] = {
        "task": "t",
        "schedule": schedule(5),
        "args": (1, "a"),
        "kwargs": {"b": [1, 2]},
        "options": {"queue": "q"},
        "dispatch": {},
        "zone": ZoneInfo("Europe/Paris"),
    }
    return definition_of(**{**fields, **changed})


def route(first: object, second: object) -> None: ...


class Colour(Enum):
    RED = 1
    BLUE = 2


class Plain:
    def __init__(self, value: object) -> None:
        self.value = value


class Locked(Plain):
    def __init__(self, value: object) -> None:
        super().__init__(value)
        self.lock = threading.Lock()


DIFFERENT = {
    "task": [{"task": "u"}, {"task": "t2"}],
    "args": [{"args": ()}, {"args": (1,)}, {"args": ("1", "a")}, {"args": [b"1", "a"]}],
    "kwargs": [{"kwargs": {}}, {"kwargs": {"b": [2, 1]}}, {"kwargs": {"b": {1, 2}}}],
    "schedule": [
        {"schedule": schedule(6)},
        {"schedule": schedule(5, relative=True)},
        {"schedule": crontab()},
    ],
    "options": [{"options": {"queue": "r"}}, {"options": {"queue": Queue("q", max_priority=3)}}],
    "dispatch": [{"dispatch": {"catch_up": "all"}}, {"dispatch": {"catch_up_window": timedelta(seconds=3)}}],
    "values": [
        {"args": [value]}
        for value in (
            datetime(2025, 1, 1, tzinfo=UTC),
            date(2025, 1, 1),
            timedelta(seconds=1),
            timedelta(seconds=2),
            Colour.RED,
            Colour.BLUE,
            b"x",
            {1: "x"},
            {(1, 2): "x", "a": 1},
            Decimal("1.0"),
            PurePosixPath("/a"),
            re.compile("a"),
            re.compile("b"),
            Plain(1),
            Plain({"a", "b"}),
            Locked(1),
            route,
            BeatLazyFunc(route, 1),
            BeatLazyFunc(route, 2),
            BeatLazyFunc(date, 1),
            functools.partial(route, 1),
            functools.partial(route, second=2),
            Plain(1).__eq__,
            frozenset({"a"}),
            None,
            True,
            1.5,
        )
    ],
}


def test_each_difference_gives_another_definition() -> None:
    changes = [change for changes in DIFFERENT.values() for change in changes]
    definitions = [define(), *(define(**change) for change in changes)]
    assert len(set(definitions)) == len(definitions)
    assert all(re.fullmatch("[0-9a-f]{15}", definition) for definition in definitions)


@pytest.mark.parametrize(
    "same",
    [
        {"args": [1, "a"]},
        {"schedule": schedule(timedelta(seconds=5))},
        {"schedule": schedule(5.0, app=Celery("x", set_as_current=False))},
        {"zone": ZoneInfo("UTC")},
    ],
)
def test_what_sends_the_same_has_the_same_definition(same: dict[str, Any]) -> None:
    assert define(**same) == define()


@pytest.mark.parametrize(
    "own",
    [crontab("0"), schedule(60, relative=True), solar("sunset", 1, 2)],
    ids=["crontab", "relative", "solar"],
)
def test_time_zone_is_part_of_all_but_plain_intervals(own: Any) -> None:
    assert define(schedule=own) != define(schedule=own, zone=ZoneInfo("UTC"))


def test_crontab_is_compared_by_its_times_and_its_class() -> None:
    class Other(crontab):
        pass

    assert define(schedule=crontab("*/20")) == define(schedule=crontab([0, 20, 40]))
    assert define(schedule=crontab("*/20")) != define(schedule=Other("*/20"))


def test_zone_without_a_name_is_told_by_its_offsets() -> None:
    files = [zone_file("Europe/Paris"), zone_file("Europe/Paris"), zone_file("America/New_York")]
    one, same, other = (define(schedule=crontab("0"), zone=ZoneInfo.from_file(file)) for file in files)
    assert one == same != other


def zone_file(key: str) -> io.BytesIO:
    for root in zoneinfo.TZPATH:
        path = os.path.join(root, key)
        if os.path.exists(path):
            with open(path, "rb") as file:
                return io.BytesIO(file.read())
    pytest.skip("no time zone files here")


def test_part_without_a_state_goes_by_its_class() -> None:
    assert define(args=[Locked(1)]) == define(args=[Locked(1)]) != define(args=[Locked(2)])
    assert define(args=[(n for n in "a")]) == define(args=[(n for n in "b")])


def test_object_that_holds_half_the_program_goes_by_its_class() -> None:
    big = Plain([list(range(100)) for _ in range(100)])
    assert define(args=[big]) == define(args=[Plain([big, 1])])


def test_object_that_refers_to_itself_is_told_quickly() -> None:
    one, other = Plain(0), Plain(1)
    one.value, other.value = [other, other, other], [one, one, one]
    assert define(args=[one]) == define(args=[one])


def test_arguments_that_contain_themselves_are_an_error_of_the_entry() -> None:
    endless: list[Any] = []
    endless += [endless, endless]
    with pytest.raises(EntryError, match="contain themselves"):
        define(args=endless)


# --- the whole config ---------------------------------------------------------------------------------------


def make_app(**conf: Any) -> Celery:
    app = Celery("t", broker="redis://", set_as_current=False)
    app.conf.update(conf)
    return app


def whole(definitions: dict[str, str] | None = None, **conf: Any) -> str:
    app = make_app(**conf)
    return fingerprint_of(
        {"a": "1", "b": "2"} if definitions is None else definitions, app, Config.from_app(app)
    )


def test_fingerprint_changes_with_entries_and_routing() -> None:
    fingerprints = [
        whole(),
        whole({"a": "1"}),
        whole({"a": "1", "b": "3"}),
        whole(timezone="Europe/Paris"),
        whole(task_routes={"t.*": {"queue": "q"}}),
        whole(task_routes=(route,)),
        whole(task_routes={re.compile("t"): "q"}),
        whole(task_default_queue="q"),
        whole(task_default_exchange="q"),
        whole(task_default_priority=3),
        whole(task_serializer="yaml"),
        whole(task_queues=[Queue("q")]),
        whole(task_queues=[Queue("q", Exchange("e"))]),
        whole(broker_transport_options={"global_keyprefix": "p"}),
        whole(broker_transport_options={"priority_steps": [0, 5]}),
        whole(dispatch_catch_up="all"),
    ]
    assert len(set(fingerprints)) == len(fingerprints)


def test_fingerprint_does_not_depend_on_order_or_on_what_routes_nothing() -> None:
    assert whole() == whole({"b": "2", "a": "1"})
    assert whole() == whole(broker_transport_options={"visibility_timeout": 3}, dispatch_batch_size=7)
    assert whole(task_queues=[Queue("a"), Queue("b")]) == whole(task_queues=[Queue("b"), Queue("a")])


def test_configured_version_is_the_fingerprint() -> None:
    assert whole(dispatch_config_version="v1.2") == "v1.2"
    assert whole({}, dispatch_config_version="v1.2", timezone="Europe/Paris") == "v1.2"


# --- other processes ----------------------------------------------------------------------------------------

PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
import test_fingerprint as tests
print(json.dumps(tests.of_this_process()))
"""


def of_this_process() -> list[str]:
    changes = [change for changes in DIFFERENT.values() for change in changes]
    words = {"alpha", "beta", "gamma", "delta", b"bytes", 3, ("a", 1)}
    routes = [route, dict.fromkeys(sorted(map(str, words), key=hash), "q"), Plain(words)]
    own = crontab(day_of_week="mon,tue,sun", hour={1, 2, 23}, minute="*/7")
    definitions = [define(**change) for change in changes]
    definitions += [define(args=[words, dict.fromkeys(words, 1), Plain(words)]), define(schedule=own)]
    queues = {Queue(name, Exchange("e"), routing_key=name) for name in ("a", "b", "c")}
    named = dict(zip(map(str, range(99)), definitions))
    return [*definitions, whole(named, task_routes=routes, task_queues=queues)]


def test_fingerprints_are_equal_in_other_processes() -> None:
    answers = []
    for seed in ("0", "1", "4242"):
        program = [sys.executable, "-c", PROGRAM, os.path.dirname(__file__)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        answer = subprocess.run(
            program, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        answers.append(json.loads(answer.stdout))
    assert len(answers[0]) > 40
    assert answers[0] == answers[1] == answers[2]
