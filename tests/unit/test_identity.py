"""The line that says whose pool it is."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from celery_dispatch.celery_bridge.identity import identity_of


def identity(url: Any, main: str | None = "proj", **conf: Any) -> str:
    app = Celery(main, broker=url, set_as_current=False)
    app.conf.update(conf)
    return identity_of(app)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", "proj on redis db 0"),
        ("redis://:secret@cache.example:6380/3", "proj on redis db 3"),
        ("rediss://user:secret@h/3?ssl_cert_reqs=none", "proj on redis db 3"),
        ("redis+socket:///run/redis.sock?virtual_host=2", "proj on redis db 2"),
        ("redis+socket:///run/redis.sock", "proj on redis db 0"),
        ("sentinel://h1:26379/1;sentinel://h2:26379/1", "proj on redis db 1"),
        ("amqp://", "proj on amqp /"),
        ("amqp://guest:secret@rabbit:5672//", "proj on amqp /"),
        ("amqp://guest:secret@rabbit:5672/staging", "proj on amqp staging"),
        ("pyamqp://guest@rabbit/%2Fstaging", "proj on amqp /staging"),
        ("amqps://guest@rabbit/staging", "proj on amqp staging"),
        ("amqp://a/v;amqp://b/v", "proj on amqp v"),
        (["amqp://b/v", "amqp://a/v"], "proj on amqp v"),
        ("memory://", "proj on memory /"),
        ("amqp://h/a%0Ab", "proj on amqp a?b"),
    ],
)
def test_it_names_the_transport_and_the_place(url: Any, expected: str) -> None:
    assert identity(url) == expected


def test_an_app_without_a_name() -> None:
    assert identity("redis://localhost", main=None) == "on redis db 0"


def test_settings_beside_the_url_count() -> None:
    assert identity("amqp://h", broker_vhost="staging") == identity("amqp://h/staging")


def test_the_brokers_host_password_and_order_do_not_count() -> None:
    one = identity("amqp://a:x@h1:1/v;amqp://a:x@h2:2/v")
    assert one == identity("amqp://b:y@h2:2/v;amqp://b:y@h1:1/v") == identity("amqps://h3/v")


def test_the_url_for_publishing_counts() -> None:
    assert identity("redis://h/1", broker_write_url="amqp://h/v") == "proj on amqp v"
