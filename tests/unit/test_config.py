"""Settings: found wherever Celery finds them, checked once, every problem told at once."""

from __future__ import annotations

import socket
import ssl
import sys
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured
from celery.schedules import schedule
from kombu import Connection

from celery_dispatch.celery_bridge.broker import masked
from celery_dispatch.celery_bridge.codecs import ScheduleCodec
from celery_dispatch.config import Config
from celery_dispatch.core.entry import CatchUp
from celery_dispatch.errors import ConfigError

REDIS = "redis://localhost:6379/0"


def config(broker: Any = REDIS, **settings: Any) -> Config:
    app = Celery("t", broker=broker, set_as_current=False)
    app.conf.update(settings)
    return Config.from_app(app)


def refusal(broker: Any = REDIS, **settings: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        config(broker, **settings)
    return str(refused.value)


def problems(message: str) -> list[str]:
    return message.split("\n  - ")[1:]


def test_defaults_are_those_of_the_reference() -> None:
    assert config() == Config(
        redis_url=REDIS,
        redis_options={},
        key_prefix="celery-dispatch",
        config_version=None,
        heartbeat_interval=timedelta(seconds=2),
        lease_ttl=timedelta(seconds=10),
        handover_delay=timedelta(milliseconds=500),
        delivery="at_least_once",
        catch_up=CatchUp.LATEST,
        catch_up_window=None,
        batch_size=500,
        node_name=socket.gethostname(),
        metrics_port=None,
        metrics_address="127.0.0.1",
        report_interval=None,
    )


def test_every_setting_is_read() -> None:
    given = {
        "redis_url": "rediss://u:p@h:1/2",
        "redis_options": {"socket_timeout": 3},
        "key_prefix": "p",
        "config_version": "v1",
        "heartbeat_interval": 1,
        "lease_ttl": timedelta(seconds=4),
        "handover_delay": 0.25,
        "delivery": "at_most_once",
        "catch_up": "all",
        "catch_up_window": 60,
        "batch_size": 7,
        "node_name": "n",
        "metrics_port": 9_800,
        "metrics_address": "0.0.0.0",
        "report_interval": 60,
        "schedule_codecs": {"own": ScheduleCodec(schedule, vars, lambda said: schedule(**said))},
    }
    read = config(**{f"dispatch_{name}": value for name, value in given.items()})
    assert read == Config(
        **{
            **given,
            "heartbeat_interval": timedelta(seconds=1),
            "handover_delay": timedelta(milliseconds=250),
            "catch_up": CatchUp.ALL,
            "catch_up_window": timedelta(minutes=1),
            "report_interval": timedelta(minutes=1),
        }
    )


def test_delivery_says_what_happens_to_a_message_that_may_have_been_sent() -> None:
    assert not config().at_most_once
    assert config(dispatch_delivery="at_most_once").at_most_once


# --- where settings are found -------------------------------------------------------------------------------


class Lower:
    broker_url = REDIS
    dispatch_lease_ttl = 20


class Upper:
    CELERY_BROKER_URL = REDIS
    CELERY_DISPATCH_LEASE_TTL = 20
    DISPATCH_LEASE_TTL = 30  # another library's


class UpperUnknown(Upper):
    CELERY_DISPATCH_LEASE_TIME = 20


class UpperWrong(Upper):
    CELERY_DISPATCH_LEASE_TTL = "20"
    CELERY_DISPATCH_BATCH_SIZE = 0
    CELERY_TASK_ALWAYS_EAGER = True


def app_of(source: Any, namespace: str | None = None) -> Celery:
    app = Celery("t", set_as_current=False)
    app.config_from_object(source, namespace=namespace)
    return app


def module_of(source: type, monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("settings_of_this_test")
    vars(module).update({name: value for name, value in vars(source).items() if not name.startswith("_")})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__name__


@pytest.mark.parametrize(("source", "namespace"), [(Lower, None), (Upper, "CELERY"), (Upper, "CELERY_")])
def test_settings_are_read_from_objects_and_modules(
    source: type, namespace: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Config.from_app(app_of(source, namespace)).lease_ttl == timedelta(seconds=20)
    module = module_of(source, monkeypatch)
    assert Config.from_app(app_of(module, namespace)).lease_ttl == timedelta(seconds=20)


def test_settings_are_read_from_assignments_before_and_after_loading() -> None:
    app = Celery("t", broker=REDIS, set_as_current=False)
    app.conf.dispatch_batch_size = 7
    app.conf["dispatch_key_prefix"] = "a"
    assert (Config.from_app(app).batch_size, Config.from_app(app).key_prefix) == (7, "a")
    app.conf.dispatch_key_prefix = "b"
    assert Config.from_app(app).key_prefix == "b"


def test_assignment_goes_before_the_object_under_a_namespace() -> None:
    app = app_of(Upper, "CELERY")
    app.conf.dispatch_lease_ttl = 40
    assert Config.from_app(app).lease_ttl == timedelta(seconds=40)


def test_settings_are_read_from_defaults_that_were_added() -> None:
    app = Celery("t", broker=REDIS, set_as_current=False)
    app.add_defaults({"dispatch_batch_size": 9})
    assert Config.from_app(app).batch_size == 9


def test_none_means_not_set() -> None:
    assert config(dispatch_redis_url=None, dispatch_lease_ttl=None) == config()


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lease_ttl", "10", "number of seconds or a timedelta"),
        ("lease_ttl", True, "number of seconds"),
        ("lease_ttl", float("nan"), "at least 0.15 s"),
        ("lease_ttl", float("inf"), "at most 86400 s"),
        ("heartbeat_interval", 0, "at least 0.05 s"),
        ("heartbeat_interval", timedelta(seconds=-1), "at least 0.05 s"),
        ("handover_delay", -0.1, "at least 0 s"),
        ("catch_up_window", 0, "at least 0.001 s"),
        ("catch_up_window", "1h", "number of seconds"),
        ("catch_up", "ALL", "'latest', 'all' or 'none'"),
        ("catch_up", ["all"], "'latest', 'all' or 'none'"),
        ("delivery", "once", "'at_least_once' or 'at_most_once'"),
        ("batch_size", 0, "1 to 5000"),
        ("batch_size", 5001, "1 to 5000"),
        ("batch_size", 1.0, "1 to 5000"),
        ("batch_size", True, "1 to 5000"),
        ("key_prefix", "", "1 to 128"),
        ("key_prefix", "a{b", "without braces"),
        ("key_prefix", "a b", "white space"),
        ("key_prefix", "a\x00", "control characters"),
        ("key_prefix", "a\n", "white space"),
        ("key_prefix", b"a", "must be text"),
        ("config_version", 3, "must be text"),
        ("node_name", "two words", "without white space"),
        ("redis_options", ["a"], "must be a dict"),
        ("redis_options", {1: 2}, "must be a dict"),
        ("redis_url", 5, "must be a URL"),
        ("redis_url", "localhost:6379", "must begin with redis://"),
        ("redis_url", "http://h", "must begin with redis://"),
        ("redis_url", "redis+sentinel://h", "must begin with redis://"),
        ("redis_url", "redis://h:port/0", "cannot be read"),
        ("redis_url", "redis://h/zero", "number of a database"),
        ("redis_url", "redis://a,redis://b", "Sentinels"),
        ("redis_url", "redis+cluster://a,b/1", "only that"),
        ("redis_url", "unix://", "names no socket"),
        ("metrics_port", 0, "1 to 65535"),
        ("metrics_port", 65_536, "1 to 65535"),
        ("metrics_port", "9800", "1 to 65535"),
        ("metrics_address", "", "such as '0.0.0.0'"),
        ("report_interval", 0.5, "at least 1 s"),
        ("report_interval", 86_401, "at most 86400 s"),
    ],
)
def test_wrong_value_is_named_with_its_cure(name: str, value: Any, words: str) -> None:
    [problem] = problems(refusal(**{f"dispatch_{name}": value}))
    assert problem.startswith(f"dispatch_{name} = ") and words in problem


def test_unknown_setting_is_refused_with_a_suggestion() -> None:
    [problem] = problems(refusal(dispatch_lease_tll=3))
    assert problem == "dispatch_lease_tll: there is no such setting; did you mean dispatch_lease_ttl?"
    [problem] = problems(refusal(dispatch_zzzz="secret"))
    assert "remove it" in problem and "secret" not in problem


def test_function_of_a_configuration_module_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("settings_of_this_test")
    vars(module).update(broker_url=REDIS, dispatch_request=lambda: None, dispatch_module=socket)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert Config.from_app(app_of(module.__name__)) == config()


def test_problems_are_told_by_the_names_that_were_written() -> None:
    with pytest.raises(ConfigError) as refused:
        Config.from_app(app_of(UpperWrong, "CELERY"))
    told = problems(str(refused.value))
    assert [problem.split(" ")[0] for problem in told] == [
        "CELERY_DISPATCH_LEASE_TTL",
        "CELERY_DISPATCH_BATCH_SIZE",
        "CELERY_TASK_ALWAYS_EAGER",
    ]
    with pytest.raises(ConfigError, match=r"CELERY_DISPATCH_LEASE_TIME: .* mean CELERY_DISPATCH_LEASE_TTL\?"):
        Config.from_app(app_of(UpperUnknown, "CELERY"))


def test_every_problem_is_told_at_once() -> None:
    message = refusal(
        "amqp://localhost//",
        dispatch_nonsense=1,
        dispatch_batch_size=0,
        dispatch_lease_ttl=3,
        dispatch_heartbeat_interval=2,
        dispatch_handover_delay=5,
        task_always_eager=True,
    )
    assert len(problems(message)) == 6


def test_error_is_one_that_celery_reports_as_configuration() -> None:
    with pytest.raises(ImproperlyConfigured):
        config(dispatch_batch_size=0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dispatch_lease_ttl": 5}, "use at least 6 s"),
        ({"dispatch_heartbeat_interval": 4}, "use at least 12 s"),
        (
            {"dispatch_lease_ttl": 6, "dispatch_handover_delay": 6},
            "not shorter than dispatch_lease_ttl = 6 s",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], words: str) -> None:
    [problem] = problems(refusal(**settings))
    assert words in problem


def test_lease_of_exactly_three_heartbeats_is_enough() -> None:
    assert config(dispatch_lease_ttl=6).lease_ttl == timedelta(seconds=6)


def test_eager_tasks_are_refused() -> None:
    [problem] = problems(refusal(task_always_eager=True))
    assert problem.startswith("task_always_eager") and "unset" in problem


# --- the broker ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broker", "expected"),
    [
        ("redis://", "redis://127.0.0.1:6379/0"),
        ("redis://:p%40%3As%2Fs@h:6380/3", "redis://:p%40%3As%2Fs@h:6380/3"),
        ("redis://user:pw@h", "redis://user:pw@h:6379/0"),
        ("redis://[::1]:7000/1", "redis://[::1]:7000/1"),
        ("rediss://h/1", "rediss://h:6379/1"),
        ("redis+socket:///tmp/r.sock", "unix:///tmp/r.sock?db=0"),
        ("redis+socket://:pw@/tmp/r.sock?virtual_host=5", "unix://:pw@/tmp/r.sock?db=5"),
    ],
)
def test_redis_broker_is_the_dispatch_redis(broker: str, expected: str) -> None:
    assert config(broker).redis_url == expected


def test_tls_options_of_the_broker_are_taken_over_and_own_options_go_first() -> None:
    app = Celery("t", broker="rediss://h/1", set_as_current=False)
    app.conf.update(broker_use_ssl={"ssl_ca_certs": "/ca", "ssl_certfile": "/c"})
    app.conf.dispatch_redis_options = {"ssl_certfile": "/d"}
    assert dict(Config.from_app(app).redis_options) == {"ssl_ca_certs": "/ca", "ssl_certfile": "/d"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"ssl_cert_reqs": ssl.CERT_NONE}),  # what kombu makes of it, and says in its log
        ({"broker_use_ssl": {"ssl_ca_certs": "/ca"}}, {"ssl_ca_certs": "/ca"}),
    ],
)
def test_a_broker_with_tls_is_verified_as_kombu_verifies_it(
    settings: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert dict(config("rediss://h/1", **settings).redis_options) == expected


def test_tls_that_kombu_does_not_use_is_not_used() -> None:
    assert config("redis://h", broker_use_ssl=True).redis_url == "redis://h:6379/0"
    assert config("redis://h", broker_use_ssl={"ssl_ca_certs": "/ca"}).redis_url == "rediss://h:6379/0"


@pytest.mark.parametrize(
    ("broker", "expected"),
    [
        ("sentinel://h1", "sentinel://h1:26379/0"),
        ("sentinel://h1:1;sentinel://h2", "sentinel://h1:1;h2:26379/0"),
        ("sentinel://u:p%3Bw@h1:1/2;sentinel://u:p%3Bw@[::1]:2/2", "sentinel://u:p%3Bw@h1:1;[::1]:2/2"),
        (["sentinel://h1:1", "sentinel://h2:2"], "sentinel://h1:1;h2:2/0"),
    ],
)
def test_sentinels_of_the_broker_find_the_dispatch_redis(broker: Any, expected: str) -> None:
    of_sentinel = {"master_name": "m", "sentinel_kwargs": {"password": "s"}, "min_other_sentinels": 1}
    read = config(broker, broker_transport_options={**of_sentinel, "visibility_timeout": 60})

    assert (read.redis_url, dict(read.redis_options)) == (expected, of_sentinel)


def test_sentinels_without_the_name_of_a_master_are_refused_where_it_is_missing() -> None:
    [problem] = problems(refusal("sentinel://:secret@h"))
    assert problem.startswith("broker_transport_options lacks 'master_name'")
    [problem] = problems(refusal(dispatch_redis_url="sentinel://:secret@h"))
    assert problem.startswith("dispatch_redis_options lacks 'master_name'")
    assert config(dispatch_redis_url="sentinel://h?master_name=m")
    assert config(dispatch_redis_url="sentinel://h", dispatch_redis_options={"master_name": "m"})


BROKERS = [
    "amqp://u:secret@h//",
    "memory://",
    "filesystem://",
    "amqp://a;amqp://b",
    "redis://a;redis://:secret@b",
]


@pytest.mark.parametrize("broker", [*BROKERS, ["redis://a", "rediss://b"]])
def test_a_broker_that_is_not_one_redis_needs_the_url_of_one(broker: Any) -> None:
    [problem] = problems(refusal(broker))
    assert "dispatch_redis_url" in problem and "share" in problem and "secret" not in problem
    assert config(broker, dispatch_redis_url=REDIS).redis_url == REDIS


def test_a_transport_that_does_not_exist_is_a_problem_among_others() -> None:
    told = problems(refusal("nonsense://:secret@h", dispatch_batch_size=0))
    assert len(told) == 2 and "broker_url" in told[1] and "secret" not in told[1]


class Provider:
    """Stands for a source of credentials, such as one for a cloud's identities."""


def test_the_brokers_source_of_credentials_is_taken_over() -> None:
    if not hasattr(Connection(), "credential_provider"):
        pytest.skip("kombu knows them from 5.6 on")
    broker = f"redis://h?credential_provider={__name__}:Provider"
    assert isinstance(config(broker).redis_options["credential_provider"], Provider)


def test_broker_database_that_is_no_number_is_refused() -> None:
    [problem] = problems(refusal("redis://:secret@h/zero"))
    assert "number of a database" in problem and "secret" not in problem


# --- passwords ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@h:port",
        "redis://user:sec/ret;secret@h/zero",
        "sentinel://:a@secret@h",
        "ftp://h/0?password=secret",
        ":secret@localhost",
        "redis://user:secret?secret@h:port",
    ],
)
def test_password_is_in_no_message(url: str) -> None:
    assert "secret" not in refusal(dispatch_redis_url=url)
    assert "ret" not in masked(url)


def test_options_that_may_hold_a_password_are_not_shown() -> None:
    assert "secret" not in refusal(dispatch_redis_options=[{"password": "secret"}])


def test_password_is_not_in_the_repr() -> None:
    shown = config("redis://:secret@h", dispatch_redis_options={"password": "secret"})
    assert "secret" in shown.redis_url and "secret" not in repr(shown)


def test_masked_url_still_says_where() -> None:
    assert masked("rediss://u:p@h:1/2?x=y") == "rediss://**@h:1/2?…"
    assert masked(REDIS) == REDIS
    assert masked("sentinel://:p@h1:1;sentinel://h2/0?x=y") == "sentinel://**@h1:1;sentinel://h2/0?…"
    assert masked("sentinel://:p@h1;sentinel://:p@h2") == "sentinel://**@h2"
