from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import redis

from tests.drills.collector import connect
from tests.drills.growth import LIMITS, Sample, grown, sample
from tests.servers import Server

FLAT: Sample = {
    "memory of a beat (MB)": 60.0,
    "descriptors of a beat": 14,
    "threads of a beat": 3,
    "connections to Redis": 15,
    "keys of the pool": 5,
    "rows of the pool": 2010,
    "bytes of the pool's keys": 300_000,
}
#: A leak of a kind that a fault may cause: so much more with each of 40 rounds.
LEAKS = {
    "memory of a beat (MB)": 0.5,
    "descriptors of a beat": 0.5,
    "threads of a beat": 0.1,
    "connections to Redis": 0.5,
    "keys of the pool": 0.2,
    "rows of the pool": 0.5,
    "bytes of the pool's keys": 500,
}


def run(leak: dict[str, float], rounds: int = 40) -> list[Sample]:
    return [
        {what: value + number * leak.get(what, 0) for what, value in FLAT.items()} for number in range(rounds)
    ]


def test_what_stays_as_it_is_has_not_grown() -> None:
    assert [it.what for it in grown(run({})) if not it.allowed] == []
    assert len(grown(run({}))) == len(LIMITS)


@pytest.mark.parametrize("what", LIMITS)
def test_a_leak_of_each_kind_is_found(what: str) -> None:
    assert [it.what for it in grown(run({what: LEAKS[what]})) if not it.allowed] == [what]


def test_what_is_bought_once_at_the_start_is_no_leak() -> None:
    samples = [{**FLAT, "memory of a beat (MB)": min(60, 30 + 5 * number)} for number in range(40)]
    assert all(it.allowed for it in grown(samples))


def test_one_high_sample_is_no_leak() -> None:
    samples = [*run({}, 39), {**FLAT, "connections to Redis": 90}]
    assert all(it.allowed for it in grown(samples))


def test_of_a_few_samples_nothing_is_said() -> None:
    assert grown(run({"rows of the pool": 100}, rounds=7)) == []


def test_a_sample_counts_this_process_and_the_pools_own_keys(
    server: Server, clean: Callable[[Server], redis.Redis], queues: set[str]
) -> None:
    queues.add("*")
    clean(server)
    client = connect(server.url)
    client.hset("{a}:cursor", mapping={"x": "1", "y": "2"})
    client.zadd("{a}:nodes", {"n": 1})
    client.hset("{b}:cursor", "x", "1")
    client.rpush("celery", "message")
    found = sample(os.getpid(), client, "a")
    client.close()
    assert (found["keys of the pool"], found["rows of the pool"]) == (2, 3)
    assert found["bytes of the pool's keys"] > 100
    assert found["connections to Redis"] >= 1
    assert found.keys() == LIMITS.keys()
