"""What people read where no Sentinel names a master."""

from __future__ import annotations

import re

import pytest
import redis
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from celery_dispatch.celery_bridge.outages import in_words, is_outage, is_refused_login
from celery_dispatch.redis_store.located import SentinelLocator
from celery_dispatch.sentinels import explained

NOBODY = [("127.0.0.1", 1), ("127.0.0.1", 2)]


def raised(name: str = "mymaster") -> MasterNotFoundError:
    with pytest.raises(MasterNotFoundError) as caught:
        Sentinel(NOBODY, sentinel_kwargs={"retry": Retry(NoBackoff(), 0)}).discover_master(name)  # type: ignore[no-untyped-call]
    return caught.value


def test_it_says_what_each_sentinel_answered_and_nothing_of_the_driver() -> None:
    error = explained(raised())

    assert type(error) is ConnectionError
    assert re.fullmatch(
        "no Sentinel says who the master 'mymaster' is: "
        r"127\.0\.0\.1:1: [^<>]*ConnectionError[^<>]*; 127\.0\.0\.1:2: [^<>]*ConnectionError[^<>]*",
        str(error),
    )


def test_sentinels_that_know_no_such_master_are_named_with_the_cure() -> None:
    error = explained(MasterNotFoundError("No master found for 'other'"))

    assert str(error).startswith("the Sentinels name no master 'other' that is up")
    assert "SENTINEL MASTERS" in str(error)


def test_a_refused_login_of_sentinels_is_one() -> None:
    client = redis.Redis(host="h", port=5)
    text = f"No master found for 'm' : {client!r} - AuthenticationError('invalid username')"

    assert isinstance(explained(MasterNotFoundError(text)), AuthenticationError)


def test_it_is_found_in_what_kombu_wraps() -> None:
    wrapped = OperationalError("redis said something long")
    wrapped.__cause__ = raised()
    said = in_words(wrapped)

    assert str(said).startswith("no Sentinel says")
    assert is_outage(said)
    assert not is_refused_login(said)


def test_other_errors_of_a_broker_stay_as_they_are() -> None:
    error = OSError("connection refused")

    assert in_words(error) is error


def test_another_master_is_logged_once_and_by_whom_it_is_to_be(caplog: pytest.LogCaptureFixture) -> None:
    answers = [("10.0.0.1", 6379), ("10.0.0.1", 6379), ("10.0.0.2", 6380), ("10.0.0.2", 6380)]
    for says_master in (True, False):
        locator = SentinelLocator(NOBODY, "mymaster", others=0, options={}, says_master=says_master)
        found = iter(answers)
        locator._sentinel.discover_master = lambda name: next(found)  # noqa: B023
        assert [locator() for _ in answers] == answers

    assert [record.getMessage() for record in caplog.records] == [
        "The Sentinels name another master of 'mymaster': 10.0.0.2:6380, and no more 10.0.0.1:6379"
    ]
