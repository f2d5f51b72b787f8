"""TLS on a real server: verified unless the options say otherwise, and clear about what is wrong."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_dispatch.errors import ConfigError, StoreRefused, StoreUnavailable
from celery_dispatch.redis_store.client import redis_client, translated
from tests.deployments import Authority, tls_running
from tests.servers import Server, running


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that signed the servers' certificates."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[Server]:
    """A server that only speaks TLS, with a certificate for 127.0.0.1."""
    with tls_running(authority) as server:
        yield server


def answer(url: str, **options: Any) -> object:
    """What a client of ``url`` is answered."""
    client = redis_client(url, options)
    try:
        with translated():
            return client.ping()  # type: ignore[no-untyped-call]
    finally:
        client.close()


@pytest.mark.parametrize("required", [None, "required", "CERT_REQUIRED", ssl.CERT_REQUIRED])
def test_a_certificate_of_the_right_authority_is_accepted(
    server: Server, authority: Authority, required: object
) -> None:
    options = {} if required is None else {"ssl_cert_reqs": required}

    assert answer(server.url, ssl_ca_certs=authority.file, **options)


def test_a_certificate_of_another_authority_is_refused_with_the_cure(server: Server, tmp_path: Path) -> None:
    another = Authority(tmp_path)
    for options in ({"ssl_ca_certs": another.file}, {}):
        with pytest.raises(StoreRefused, match=r"TLS verification.*ssl_ca_certs"):
            answer(server.url, **options)


def test_a_certificate_for_another_host_is_refused_with_the_cure(authority: Authority) -> None:
    with tls_running(authority, host="redis.example") as server:
        trusted = {"ssl_ca_certs": authority.file}
        with pytest.raises(StoreRefused, match=r"TLS verification.*another host.*ssl_check_hostname"):
            answer(server.url, **trusted)
        assert answer(server.url, **trusted, ssl_check_hostname=False)


@pytest.mark.parametrize("required", ["none", "CERT_NONE", ssl.CERT_NONE])
def test_verification_is_left_out_where_the_options_say_so(server: Server, required: object) -> None:
    assert answer(server.url, ssl_cert_reqs=required)
    assert answer(f"{server.url}?ssl_cert_reqs=none")


def test_a_server_may_want_a_certificate_of_the_client(authority: Authority) -> None:
    mine = authority.certificate("beat.example")
    with tls_running(authority, client=mine) as server:
        trusted = {"ssl_ca_certs": authority.file}
        assert answer(server.url, **trusted, ssl_certfile=mine[0], ssl_keyfile=mine[1])
        with pytest.raises(StoreUnavailable, match=r"ssl_certfile|reset by peer|Broken pipe|closed"):
            answer(server.url, **trusted)


def test_tls_on_one_side_only_is_an_outage(server: Server) -> None:
    with running("redis") as plain, pytest.raises(StoreUnavailable):
        answer(plain.url.replace("redis://", "rediss://"))
    with pytest.raises(StoreUnavailable):
        answer(server.url.replace("rediss://", "redis://"))


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_that_is_not_there_is_named(option: str) -> None:
    with pytest.raises(ConfigError, match=rf"{option}.*'/nowhere\.pem'"):
        redis_client("rediss://127.0.0.1", {option: "/nowhere.pem"})


def test_a_certificate_requirement_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="CERT_MAYBE"):
        redis_client("rediss://127.0.0.1", {"ssl_cert_reqs": "CERT_MAYBE"})
