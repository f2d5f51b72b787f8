"""What counts as code of the user on the way to a message; none of it runs while it is looked for."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import celery.beat
import pytest
from celery import Celery
from celery.beat import BeatLazyFunc, ScheduleEntry, Scheduler
from celery.signals import after_task_publish, before_task_publish, task_sent
from kombu import Producer
from kombu.serialization import register, unregister

from celery_dispatch.celery_bridge import user_code
from celery_dispatch.celery_bridge.payload import Payload
from celery_dispatch.celery_bridge.user_code import UserCode

Find = Callable[..., str]


def must_not_run(*args: Any, **kwargs: Any) -> Any:
    pytest.fail("code of the user ran")


@pytest.fixture
def app() -> Celery:
    app = Celery("tested", broker="memory://", set_as_current=False)

    @app.task(name="add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    return app


def entry(app: Celery, *, task: str = "add", args: Any = (1, 2), **kwargs: Any) -> Payload:
    made: Any = ScheduleEntry(name="sums", task=task, schedule=1.0, args=args, app=app, **kwargs)
    return Payload(made.task, made.schedule, made.args, made.kwargs, made.options)


@pytest.fixture
def found(app: Celery) -> Find:
    """``found(task="add", ...)``: what a fresh look says."""

    def found(scheduler: Any = None, **changes: Any) -> str:
        return UserCode(app, scheduler or Scheduler(app, lazy=True)).of(entry(app, **changes))

    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"task": "elsewhere.task"},
        {"task": "celery.backend_cleanup", "args": ()},
        {"kwargs": {"deep": [{"er": 1}]}, "args": [1, {"x": ()}]},
        {"options": {"queue": "q", "headers": {"router": 1}, "priority": 3}},
        {"args": None},
        {"args": 7},
    ],
    ids=str,
)
def test_a_plain_app_has_none(found: Find, changes: dict[str, Any]) -> None:
    assert found(**changes) == ""


def test_routes_by_name_and_pattern_are_none(app: Celery, found: Find) -> None:
    app.conf.task_routes = ({"add": "sums"}, [("other.*", {"queue": "others"})])
    assert found() == ""


@pytest.mark.parametrize("signal", [before_task_publish, after_task_publish, task_sent], ids=lambda s: s.name)
def test_a_receiver_of_a_publish_signal(found: Find, signal: Any) -> None:
    signal.connect(must_not_run)
    try:
        assert found().startswith(f"the signal {signal.name} has a receiver: {__name__}:")
    finally:
        signal.disconnect(must_not_run)
    assert found() == ""


def test_a_receiver_of_another_tasks_messages_is_none(found: Find) -> None:
    before_task_publish.connect(must_not_run, sender="other")
    try:
        assert found() == ""
        assert "receiver" in found(task="other")
    finally:
        before_task_publish.disconnect(must_not_run, sender="other")


@pytest.mark.parametrize(
    "changes",
    [{"args": (1, BeatLazyFunc(must_not_run))}, {"kwargs": {"y": BeatLazyFunc(must_not_run)}}],
    ids=["args", "kwargs"],
)
def test_a_lazy_argument(found: Find, changes: dict[str, Any]) -> None:
    assert "BeatLazyFunc" in found(**changes)


@pytest.mark.parametrize(
    "route",
    [
        must_not_run,
        "tests.unit.test_user_code.must_not_run",
        type("R", (), {"route_for_task": must_not_run})(),
    ],
    ids=["function", "name", "object"],
)
def test_a_router(app: Celery, found: Find, route: Any) -> None:
    app.conf.task_routes = ({"add": "sums"}, route)
    assert "task_routes" in found()


@pytest.mark.parametrize("method", ["apply_async", "shadow_name"])
def test_a_task_class_of_the_users_own(app: Celery, found: Find, method: str) -> None:
    base = type("Once", (app.Task,), {method: must_not_run})

    @app.task(name="once", base=base, shared=False)
    def once() -> None:
        """Does nothing."""

    assert found(task="once", args=()) == f"the task's {method} is not Celery's own"
    assert found() == "", "other tasks are not concerned"


def test_a_patched_task(app: Celery, found: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery.app.task.Task, "apply_async", _wrapped(celery.app.task.Task.apply_async))
    assert found() == "the task's apply_async is not Celery's own"


def test_a_patched_task_instance(app: Celery, found: Find) -> None:
    app.tasks["add"].apply_async = must_not_run
    assert found() == "the task's apply_async is not Celery's own"


def _wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return must_not_run()

    return wrapper


class Proxied:
    """What wrapt makes of a function: every attribute is that of the function."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        must_not_run()


@pytest.mark.parametrize("wrap", [_wrapped, Proxied], ids=["functools", "wrapt"])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Scheduler, "apply_entry"),
        (Scheduler, "apply_async"),
        (Scheduler, "send_task"),
        (Celery, "send_task"),
        (Producer, "publish"),
        (Producer, "_publish"),
        (celery.app.routes.Router, "route"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_a_patch_of_celery_or_kombu(
    found: Find, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, wrap: Callable[[Any], Any]
) -> None:
    monkeypatch.setattr(owner, name, wrap(getattr(owner, name)))
    assert f"{name} is overridden or patched, by " in found()
    assert found().endswith((__name__, "Proxied"))


@pytest.mark.parametrize("name", ["apply_entry", "apply_async", "send_task", "_send_task"])
def test_a_scheduler_of_the_users_own(app: Celery, found: Find, name: str) -> None:
    kind = type("Theirs", (Scheduler,), {name: must_not_run})
    assert f"the scheduler's {name} is overridden" in found(kind(app, lazy=True))


def test_a_sender_of_messages_of_the_users_own(app: Celery, found: Find) -> None:
    app.amqp.send_task_message = must_not_run
    assert "overridden or patched" in found()


def test_tasks_that_run_in_beat_itself(app: Celery, found: Find) -> None:
    app.conf.task_always_eager = True
    assert "task_always_eager" in found()


@pytest.mark.parametrize("by", ["option", "task", "setting"])
def test_a_serializer_of_the_users_own(app: Celery, found: Find, by: str) -> None:
    register("sealed", must_not_run, must_not_run, content_type="application/json", content_encoding="utf-8")
    try:
        if by == "task":
            app.tasks["add"].serializer = "sealed"
        if by == "setting":
            app.conf.task_serializer = "sealed"
        options = {"serializer": "sealed"} if by == "option" else {}
        assert found(task="other" if by == "setting" else "add", options=options) == (
            "the serializer sealed is not kombu's own"
        )
    finally:
        unregister("sealed")


@pytest.mark.parametrize("name", ["json", "pickle", "yaml", "msgpack", "unknown", {"no": "name"}])
def test_serializers_that_kombu_brings_are_none(found: Find, name: object) -> None:
    assert found(options={"serializer": name}) == ""


@pytest.mark.parametrize("option", ["connection", "router"])
def test_options_that_bring_code_of_their_own(found: Find, option: str) -> None:
    assert option in found(options={option: object()})


def test_settings_that_cannot_be_used_are_left_to_rendering(app: Celery, found: Find) -> None:
    app.conf.task_queues = 7
    assert "it cannot be told" in found()


def test_what_is_added_later_is_noticed_soon(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [time.monotonic()]
    monkeypatch.setattr(user_code.time, "monotonic", lambda: seconds[0])
    looking, plain = UserCode(app, Scheduler(app, lazy=True)), entry(app)
    assert looking.of(plain) == ""
    before_task_publish.connect(must_not_run)
    try:
        seconds[0] += 1.0
        assert "receiver" in looking.of(plain)
    finally:
        before_task_publish.disconnect(must_not_run)
    seconds[0] += 1.0
    assert looking.of(plain) == ""


@pytest.mark.parametrize("signal", [before_task_publish, after_task_publish, task_sent], ids=lambda s: s.name)
def test_a_receiver_is_noticed_at_once(app: Celery, monkeypatch: pytest.MonkeyPatch, signal: Any) -> None:
    monkeypatch.setattr(user_code.time, "monotonic", lambda: 1000.0)
    looking, plain = UserCode(app, Scheduler(app, lazy=True)), entry(app)
    assert looking.of(plain) == ""
    signal.connect(must_not_run)
    try:
        assert "receiver" in looking.of(plain)
    finally:
        signal.disconnect(must_not_run)
    assert looking.of(plain) == ""


def test_only_an_apply_entry_that_is_not_celerys_own_has_to_be_called(app: Celery) -> None:
    patched = type("Theirs", (Scheduler,), {"apply_entry": must_not_run})
    other = type("Theirs", (Scheduler,), {"apply_async": must_not_run})
    assert UserCode(app, patched(app, lazy=True)).wraps_sending
    assert not UserCode(app, other(app, lazy=True)).wraps_sending
    assert not UserCode(app, Scheduler(app, lazy=True)).wraps_sending
