"""What is kept of each config, on real servers."""

from __future__ import annotations

import pytest
import redis

from celery_dispatch.redis_store import facets
from celery_dispatch.redis_store.facets import Facets
from celery_dispatch.redis_store.keys import Keys

ROWS = {f"entry:e{i}": f"{i:08x} {i + 1:08x}" for i in range(1200)}


def test_rows_are_read_back_as_they_were_published(client: redis.Redis, keys: Keys) -> None:
    kept = Facets(client, keys)
    kept.publish("v1", ROWS)
    assert kept.read("v1") == ROWS
    assert kept.read("v2") is None


def test_rows_live_for_a_day_from_the_last_time_they_were_published(client: redis.Redis, keys: Keys) -> None:
    kept = Facets(client, keys)
    kept.publish("v1", ROWS)
    client.pexpire(keys.facets("v1"), 60_000)
    kept.publish("v1", ROWS)
    assert client.ttl(keys.facets("v1")) > 86_000


def test_rows_that_are_kept_are_not_written_again(client: redis.Redis, keys: Keys) -> None:
    kept = Facets(client, keys)
    kept.publish("v1", ROWS)
    before = client.info("commandstats")["cmdstat_hset"]["calls"]
    kept.publish("v1", ROWS)
    assert client.info("commandstats")["cmdstat_hset"]["calls"] == before


def test_rows_of_a_writer_that_died_half_way_are_not_shown(client: redis.Redis, keys: Keys) -> None:
    kept = Facets(client, keys)
    client.hset(keys.facets("v1"), mapping=dict(list(ROWS.items())[:500]))
    client.expire(keys.facets("v1"), 60)
    assert kept.read("v1") is None
    kept.publish("v1", ROWS)
    assert kept.read("v1") == ROWS


def test_two_configs_under_one_fingerprint_are_not_taken_for_one(client: redis.Redis, keys: Keys) -> None:
    kept = Facets(client, keys)
    kept.publish("v1", ROWS)
    kept.publish("v1", {"entry:other": "1"})
    assert kept.read("v1") is None


def test_no_more_is_kept_than_its_bound(
    client: redis.Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facets, "MOST_ROWS", 100)
    Facets(client, keys).publish("v1", ROWS)
    assert not client.exists(keys.facets("v1"))
