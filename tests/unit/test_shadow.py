"""Shadow mode: the record that stands in the place of a message."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta, timezone

import pytest
from celery import Celery

from celery_dispatch.celery_bridge.identity import identity_of
from celery_dispatch.celery_bridge.payload import Payload
from celery_dispatch.config import Config
from celery_dispatch.core.entry import Entry, Occurrence
from celery_dispatch.errors import ConfigError, EntryError
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.shadow import ShadowOutbox, ShadowRecord
from celery_dispatch.testing import MemoryOutbox, MemoryStore
from tests.unit.world import Every

UTC = timezone.utc
DUE = datetime(2026, 11, 21, 23, 59, 59, 900_000, tzinfo=UTC)
NOW = DUE + timedelta(milliseconds=250, microseconds=7)


def _occurrence() -> Occurrence:
    return Occurrence(Entry("tick", Every(10.0), "d", payload=Payload("proj.tick", 10, (), {}, {})), DUE)


@pytest.fixture
def inner() -> MemoryOutbox:
    outbox = MemoryOutbox(MemoryStore())
    outbox.connect()
    return outbox


@pytest.fixture
def outbox(inner: MemoryOutbox) -> ShadowOutbox:
    return ShadowOutbox(inner, key=Keys("p").shadow)


def test_the_record_is_written_with_the_claim_and_names_the_occurrence(outbox: ShadowOutbox) -> None:
    assert outbox.path(_occurrence()).one_write
    push, expire = outbox.render(_occurrence(), now=NOW)
    assert (push.op, push.key) == ("LPUSH", "{p}:shadow:2026-11-22")
    assert ShadowRecord.decode(push.value) == ShadowRecord("tick", DUE, DUE + timedelta(milliseconds=250))
    assert (expire.op, expire.key, expire.value) == ("PEXPIRE", push.key, str(3 * 86_400_000))


def test_an_entry_that_cannot_be_rendered_is_in_error_as_it_would_be(
    inner: MemoryOutbox, outbox: ShadowOutbox
) -> None:
    inner.failing["tick"] = "no route"
    with pytest.raises(EntryError, match="no route"):
        outbox.render(_occurrence(), now=NOW)


def test_code_of_the_user_is_not_run(inner: MemoryOutbox, outbox: ShadowOutbox) -> None:
    inner.user_code.add("tick")
    inner.failing["tick"] = "the user's code ran"
    assert outbox.path(_occurrence()).one_write
    assert len(outbox.render(_occurrence(), now=NOW)) == 2


def test_nothing_is_published(outbox: ShadowOutbox) -> None:
    with pytest.raises(RuntimeError):
        outbox.publish([()])


def test_the_log_says_what_would_be_sent(outbox: ShadowOutbox, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        outbox.sent(_occurrence())
    assert [record.getMessage() for record in caplog.records] == ["Would send due task tick (proj.tick)"]


@pytest.mark.parametrize(
    "text", ["", "{}", "[1, 2]", '["a", 2, "n"]', "[1, 2, 3]", json.dumps([10**30, 1, "n"])]
)
def test_a_row_that_is_no_record_is_told_apart(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        ShadowRecord.decode(text)


def test_a_pool_in_shadow_is_another_pool() -> None:
    app = Celery("proj", set_as_current=False, broker="redis://localhost/3")
    assert identity_of(app, shadow=True) == identity_of(app) + " in shadow"


def test_the_setting_is_a_switch() -> None:
    app = Celery("proj", set_as_current=False, broker="redis://localhost/3")
    assert not Config.from_app(app).shadow
    app.conf.dispatch_shadow = True
    assert Config.from_app(app).shadow
    app.conf.dispatch_shadow = "yes"
    with pytest.raises(ConfigError, match="dispatch_shadow = 'yes': must be True or False"):
        Config.from_app(app)
