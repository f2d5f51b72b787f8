"""Cursors that are written from outside of the pool, on real servers."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
import redis

from celery_dispatch.core.entry import Cursor
from celery_dispatch.errors import StoreError
from celery_dispatch.redis_store.codec import decode_cursor, encode_cursor
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.planting import Planting

LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
OLD = Cursor.anchor("a", LONG_AGO, "import@here")
NEW = replace(OLD, due=LONG_AGO + timedelta(hours=1), revision=2)


@pytest.fixture
def planting(client: redis.Redis, keys: Keys) -> Planting:
    return Planting(client, keys)


def stored(client: redis.Redis, keys: Keys, name: str) -> object:
    raw = client.hget(keys.cursor, name)
    return None if raw is None else decode_cursor(str(raw))


def test_a_cursor_is_written_where_none_is_or_the_one_that_was_read(
    planting: Planting, client: redis.Redis, keys: Keys
) -> None:
    assert planting.plant({"report": (None, OLD)}) == {"report"}
    assert stored(client, keys, "report") == OLD
    assert planting.plant({"report": (OLD, NEW)}) == {"report"}
    assert stored(client, keys, "report") == NEW


def test_one_that_a_node_was_faster_with_stays_and_the_others_are_written(
    planting: Planting, client: redis.Redis, keys: Keys
) -> None:
    fired = replace(OLD, due=LONG_AGO + timedelta(days=1), fired=1)
    client.hset(keys.cursor, mapping={"fired": encode_cursor(fired), "odd": "nonsense"})
    wanted = {name: (expected, NEW) for name, expected in (("fired", OLD), ("odd", None), ("new", None))}
    assert planting.plant(wanted) == {"new"}
    assert stored(client, keys, "fired") == fired
    assert client.hget(keys.cursor, "odd") == "nonsense"


def test_who_never_heard_the_answer_repeats_it_and_hears_the_same(planting: Planting) -> None:
    assert planting.plant({"report": (OLD, NEW)}) == set()
    assert planting.plant({"report": (None, OLD)}) == {"report"}
    assert planting.plant({"report": (OLD, NEW)}) == {"report"}
    assert planting.plant({"report": (OLD, NEW)}) == {"report"}
    assert planting.plant({"report": (None, OLD)}) == set()


def test_more_than_one_step_takes_are_planted_in_several(
    planting: Planting, client: redis.Redis, keys: Keys
) -> None:
    names = [f"entry-{number}" for number in range(2_500)]
    assert planting.plant(dict.fromkeys(names, (None, OLD))) == set(names)
    assert client.hlen(keys.cursor) == 2_500
    assert planting.plant({}) == set()


def test_a_key_of_another_type_is_an_error_and_stays(
    planting: Planting, client: redis.Redis, keys: Keys
) -> None:
    client.set(keys.cursor, "somebody's")
    with pytest.raises(StoreError):
        planting.plant({"report": (None, OLD)})
    assert client.get(keys.cursor) == "somebody's"
