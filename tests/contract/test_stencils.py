"""Prepared messages are those that Celery builds, but for the delivery tag."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from celery import Celery, Task
from celery.schedules import maybe_schedule
from celery.signals import before_task_publish
from celery.utils.saferepr import saferepr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kombu import Exchange, Queue
from kombu.serialization import register, registry, unregister  # type: ignore[attr-defined]
from kombu.utils import json as kombu_json

from celery_dispatch.celery_bridge.letters import Letters, _is_simple
from celery_dispatch.celery_bridge.outbox import CeleryOutbox
from celery_dispatch.celery_bridge.payload import Payload
from celery_dispatch.core.entry import Entry, Occurrence
from celery_dispatch.core.ports import Command
from celery_dispatch.errors import EntryError
from tests.outboxes import DUE, NOW, make
from tests.servers import Server
from tests.unit.world import Every

# --- what is drawn ------------------------------------------------------------------------------------------

_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
_typed = (
    st.binary(max_size=8) | st.datetimes() | st.decimals(allow_nan=False) | st.uuids() | st.just({1: "one"})
)
_values = st.recursive(
    _scalars | _typed,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_seconds = st.integers(0, 10_000) | st.floats(0, 10_000)
_instants = st.datetimes(
    datetime(2030, 1, 2),  # noqa: DTZ001  # what is drawn gets its zone below
    datetime(2031, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([timezone.utc, None]),
)
_link = st.sampled_from([{"task": "add", "args": [1], "options": {}}])
_options: dict[str, st.SearchStrategy[Any]] = {
    "queue": st.sampled_from(["celery", "second", "topics", "everyone", "brief", "100%s"]),
    "exchange": st.sampled_from(["", "news", "all", "straight"]),
    "exchange_type": st.sampled_from(["direct", "topic"]),
    "routing_key": st.sampled_from(["celery", "second", "news.today", "nowhere"]),
    "priority": st.integers(0, 9) | st.none(),
    "countdown": _seconds,
    "eta": _instants,
    "expires": _seconds | _instants,
    "expiration": st.integers(1, 100) | st.floats(0.1, 100),
    "headers": st.none()
    | st.dictionaries(st.text(max_size=8) | st.sampled_from(["id", "eta", "stamps"]), _scalars),
    "serializer": st.sampled_from(["json", "pickle", "yaml"]),
    "compression": st.sampled_from(["zlib", None]),
    "time_limit": st.integers(1, 100) | st.none(),
    "soft_time_limit": st.integers(1, 100) | st.none(),
    "link": _link,
    "link_error": _link,
    "ignore_result": st.booleans(),
    "shadow": st.text(max_size=10) | st.none(),
    "stamped_headers": st.just(["stamp"]),
    "stamp": st.text(max_size=5),
    "reply_to": st.text(max_size=10),
    "task_id": st.sampled_from(["mine"]),
    "root_id": st.sampled_from(["root"]),
    "group_id": st.sampled_from(["group"]),
    "argsrepr": st.text(max_size=10),
    "kwargsrepr": st.text(max_size=10),
    "delivery_mode": st.sampled_from([1, 2, "transient"]),
    "retry": st.booleans(),
    "user_id": st.text(max_size=5),
}
_settings: dict[str, st.SearchStrategy[Any]] = {
    "task_protocol": st.sampled_from([1, 2]),
    "task_serializer": st.sampled_from(["json", "pickle", "yaml"]),
    "task_compression": st.sampled_from([None, "zlib"]),
    "task_send_sent_event": st.booleans(),
    "task_default_priority": st.sampled_from([None, 3]),
    "task_routes": st.sampled_from([None, {"add": {"queue": "second"}, "some*": {"queue": "brief"}}]),
    "task_default_queue": st.sampled_from(["celery", "second"]),
    "timezone": st.sampled_from(["UTC", "Europe/Berlin"]),
    "broker_transport_options": st.sampled_from([{}, {"global_keyprefix": "pre%d."}]),
}
_tasks = st.sampled_from(["add", "any", "prior", "expiring", "own", "stranger"])


@dataclass(frozen=True)
class Drawn:
    """Entries that have task and options in common, and what is set beside them."""

    task: str
    options: dict[str, Any]
    arguments: list[tuple[list[Any], dict[str, Any]]]
    names: list[str]
    conf: dict[str, Any] = field(default_factory=dict)
    router: bool = False
    receiver: bool = False

    def occurrences(self, app: Celery) -> Iterator[tuple[Occurrence, datetime]]:
        """Each entry a few times, at instants of their own."""
        schedule = maybe_schedule(1.0, app=app)
        payloads = [
            Payload(self.task, schedule, args, kwargs, self.options) for args, kwargs in self.arguments
        ]
        for turn in range(3):
            for number, (name, payload) in enumerate(zip(self.names, payloads)):
                at = timedelta(milliseconds=1001 * turn + 7 * number)
                entry = Entry(name, Every(1.0), "d", payload=payload)
                yield Occurrence(entry, DUE + at), NOW + at


def _some(of: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    names = st.lists(st.sampled_from(sorted(of)), unique=True, max_size=4)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: of[name] for name in chosen}))


_arguments = st.tuples(
    st.lists(_values, max_size=3), st.dictionaries(st.text(max_size=5), _values, max_size=2)
)
_drawn = st.builds(
    Drawn,
    task=_tasks,
    options=_some(_options),
    arguments=st.lists(_arguments, min_size=4, max_size=4),
    names=st.lists(st.text(min_size=1, max_size=10), min_size=4, max_size=4, unique=True),
    conf=_some(_settings),
    router=st.booleans(),
    receiver=st.booleans(),
)


# --- the world ----------------------------------------------------------------------------------------------


class Own(Task):  # type: ignore[type-arg]
    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        headers = {**(options.pop("headers", None) or {}), "arguments": len(args)}
        return super().apply_async(args, kwargs, headers=headers, **options)


def _app(server: Server, conf: dict[str, Any]) -> Celery:
    app = Celery("tested", broker=server.url, set_as_current=False)
    app.conf.update(conf)
    app.conf.task_queues = [
        Queue("celery"),
        Queue("second"),
        Queue("100%s"),
        Queue("topics", Exchange("news", type="topic"), routing_key="news.#"),
        Queue("everyone", Exchange("all", type="fanout")),
        Queue("straight", Exchange("straight", type="direct"), routing_key="celery"),
        Queue("brief", queue_arguments={"x-expires": 60_000}),
    ]

    def add(x: int, y: int) -> None: ...

    def anything(*args: Any, **kwargs: Any) -> None: ...

    app.task(name="add", shared=False)(add)
    app.task(name="any", shared=False)(anything)
    app.task(name="prior", shared=False, ignore_result=True, time_limit=9)(anything)
    app.task(name="expiring", shared=False, expires=30)(anything)
    app.task(name="own", shared=False, base=Own)(anything)
    return app


def _outcome(outbox: CeleryOutbox, occurrence: Occurrence, now: datetime) -> object:
    try:
        commands = outbox.render(occurrence, now=now)
    except EntryError as error:
        return str(error)
    return [(command.op, command.key, _normal(command)) for command in commands]


def _normal(command: Command) -> object:
    if command.op == "PEXPIRE":
        return command.value
    message: dict[str, Any] = json.loads(command.value)
    headers = message["headers"]
    assert message["properties"].pop("delivery_tag")
    if headers.get("expires"):
        message["properties"].pop("expiration", None)  # Celery's may be a millisecond short, being a float's
    if "hostname" in headers:  # an event: the time is in it
        message.pop("body")
    return json.dumps(message)


def _check(server: Server, drawn: Drawn) -> int:
    """How many of the messages of ``drawn`` Celery built; all are what it builds.

    Celery's clock stands still meanwhile: what it counts from now must be the same in both messages.
    """
    app = _app(server, drawn.conf)
    preparing, plain = make(app), make(app)
    plain._stencils.message = lambda occurrence, now: None  # type: ignore[method-assign]
    built = 0
    captured = preparing._captured

    def counted(*args: Any) -> Any:
        nonlocal built
        built += 1
        return captured(*args)

    def receiver(headers: dict[str, Any], body: Any, **_: Any) -> None:
        headers["seen"] = str(body)

    preparing._captured = counted  # type: ignore[method-assign]
    if drawn.router:
        app.conf.task_routes = (lambda name, args, kwargs, *_, **__: {"priority": len(args)},)
    if drawn.receiver:
        before_task_publish.connect(receiver)
    try:
        preparing.connect()
        plain.connect()
        for occurrence, now in drawn.occurrences(app):
            instant = now.astimezone(app.timezone)
            app.now = lambda at=instant: at  # type: ignore[method-assign,misc]
            assert _outcome(preparing, occurrence, now) == _outcome(plain, occurrence, now)
    finally:
        before_task_publish.disconnect(receiver)
        preparing.close()
        plain.close()
        app.close()
    return built


# --- the tests ----------------------------------------------------------------------------------------------

_PLAIN = [([1, "x"], {}), ([2, "100%"], {}), ([3, None], {}), ([4, [5, {"a": 0.5}]], {})]
_NAMES = ["a", 'quote "', "per % cent %s", "snow ☃"]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(drawn=_drawn)
@example(Drawn("any", {"expires": 5.5}, _PLAIN, _NAMES, {"task_protocol": 1}))
@example(Drawn("any", {"expires": DUE + timedelta(days=1)}, _PLAIN, _NAMES, {"task_protocol": 1}))
@example(Drawn("expiring", {}, _PLAIN, _NAMES, {"task_protocol": 1}, receiver=True))
def test_every_message_is_the_one_that_celery_builds(server: Server, queues: set[str], drawn: Drawn) -> None:
    queues.add("*")
    _check(server, drawn)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"queue": "second", "priority": 6},
        {"queue": "everyone"},
        {"queue": "brief"},
        {"queue": "100%s"},
        {"expires": 60, "countdown": 1.5},
        {"expiration": 30},
        {"headers": {"tenant": "100 % you", "n": [1, None]}, "shadow": "dark"},
        {"time_limit": 5, "soft_time_limit": 3, "ignore_result": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("task", ["add", "stranger", "prior"])
def test_celery_builds_two_of_a_shape_and_the_rest_are_filled_in(
    server: Server, queues: set[str], task: str, options: dict[str, Any]
) -> None:
    queues.add("*")
    assert _check(server, Drawn(task, options, _PLAIN, _NAMES)) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"queue": "topics", "routing_key": "news.today"},
        {"exchange": "straight", "routing_key": "celery"},
        {"serializer": "pickle"},
        {"compression": "zlib"},
        {"eta": datetime(2030, 2, 1, tzinfo=timezone.utc)},
        {"expires": 0.5},
        {"headers": {"id": "mine"}},
        {"link": {"task": "add"}},
        {"task_id": "mine"},
        {"stamped_headers": ["stamp"], "stamp": "x"},
    ],
    ids=str,
)
def test_what_is_not_known_to_be_the_same_is_built_by_celery(
    server: Server, queues: set[str], options: dict[str, Any]
) -> None:
    queues.add("*")
    assert _check(server, Drawn("any", options, _PLAIN, _NAMES)) == 12


@pytest.mark.parametrize("header", ["argsrepr", "kwargsrepr", "root_id", "dispatch_due"])
def test_headers_of_the_users_own_are_not_covered(server: Server, queues: set[str], header: str) -> None:
    queues.add("*")
    arguments: list[tuple[list[Any], dict[str, Any]]] = [([], {}), ([], {}), ([1], {"a": 1}), ([2], {"b": 2})]
    own = {"argsrepr": "()"}.get(header, "{}")
    assert _check(server, Drawn("any", {"headers": {header: own}}, arguments, _NAMES)) == 12


@pytest.mark.parametrize(
    ("name", "kind", "encoding", "by_setting"),
    [
        ("sealed", "application/json", "utf-8", True),
        ("sealed", "application/json", "utf-8", False),
        ("sealed", "application/x-sealed", "utf-8", False),
        ("json", "application/json", "utf-8", True),
        ("json", "application/json", "utf-16", True),
    ],
)
def test_a_serializer_of_the_users_own_is_never_left_out(
    server: Server, queues: set[str], name: str, kind: str, encoding: str, by_setting: bool
) -> None:
    queues.add("*")

    def seal(data: object) -> str:
        text = str(kombu_json.dumps(data))
        return text if "secret" not in text else json.dumps(text[::-1])

    arguments: list[tuple[list[Any], dict[str, Any]]] = [
        ([n, "secret" if n > 1 else ""], {}) for n in range(4)
    ]
    before = registry._encoders["json"], dict(registry.name_to_type), dict(registry.type_to_name)
    register(name, seal, json.loads, content_type=kind, content_encoding=encoding)
    drawn = Drawn("any", {} if by_setting else {"serializer": name}, arguments, _NAMES)
    try:
        assert _check(server, replace(drawn, conf={"task_serializer": name} if by_setting else {})) == 12
    finally:
        if name != "json":
            unregister(name)
        registry._encoders["json"] = before[0]
        registry.name_to_type, registry.type_to_name = before[1:]


@pytest.mark.parametrize("value", [Decimal(1), b"x", DUE, {1: 2}], ids=str)
def test_arguments_that_are_not_plain_data_are_serialised_by_celery(
    server: Server, queues: set[str], value: object
) -> None:
    queues.add("*")
    assert _check(server, Drawn("any", {}, [([value], {})] * 4, _NAMES)) == 12


def test_long_arguments_are_not_kept_twice(server: Server, queues: set[str]) -> None:
    queues.add("*")
    assert _check(server, Drawn("any", {}, [(["x" * 4000], {})] * 4, _NAMES)) == 12


def test_what_was_written_for_an_entry_is_forgotten_when_nobody_fires_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("celery_dispatch.celery_bridge.letters.time.monotonic", lambda: clock[0])
    app = Celery(set_as_current=False)
    letters = Letters(app)
    letters.look()
    used, left, *_ = [occurrence for occurrence, _ in Drawn("any", {}, _PLAIN, _NAMES).occurrences(app)]
    first = letters.of(used), letters.of(left)
    for hour in (1.1, 2.2):
        clock[0] = hour * 3600
        letters.look()
        assert letters.of(used) is first[0]
    assert letters.of(left) == first[1]
    assert letters.of(left) is not first[1]


def test_wrong_arguments_are_still_refused_one_by_one(server: Server, queues: set[str]) -> None:
    queues.add("*")
    assert _check(server, Drawn("add", {}, [*_PLAIN[:3], ([1, 2, 3], {})], _NAMES)) == 2 + 3


def test_changed_routes_are_followed_within_a_second(
    server: Server, queues: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queues.add("*")
    app, clock = _app(server, {}), [1000.0]
    monkeypatch.setattr("celery_dispatch.celery_bridge.stencils.time.monotonic", lambda: clock[0])
    outbox = make(app)
    outbox.connect()
    occurrences = list(Drawn("any", {}, _PLAIN, _NAMES).occurrences(app))
    before = [outbox.render(occurrence, now=now)[0].key for occurrence, now in occurrences]
    app.conf.task_default_queue = "second"
    app.amqp.flush_routes()
    app.amqp.__dict__.pop("router", None)
    app.amqp.__dict__.pop("_default_queue", None)
    clock[0] += 1.01
    after = [outbox.render(occurrence, now=now)[0].key for occurrence, now in occurrences]
    outbox.close()
    app.close()
    assert (set(before), set(after)) == ({"celery"}, {"second"})


def test_no_delivery_tag_is_given_twice(server: Server, queues: set[str]) -> None:
    queues.add("*")
    app = _app(server, {})
    outbox = make(app)
    outbox.connect()
    occurrences = list(Drawn("any", {}, _PLAIN, _NAMES).occurrences(app)) * 60
    tags = {
        json.loads(outbox.render(o, now=now)[0].value)["properties"]["delivery_tag"] for o, now in occurrences
    }
    outbox.close()
    app.close()
    assert len(tags) == len(occurrences)


_simple = st.none() | st.booleans() | st.integers() | st.text("abcXYZ019_ .,:/@-", max_size=100)


@settings(deadline=None)
@given(values=st.lists(_simple, min_size=1, max_size=10))
def test_simple_arguments_are_shown_as_celery_shows_them(values: list[object]) -> None:
    assert all(map(_is_simple, values))
    assert repr(values) == saferepr(values, 10_000)
