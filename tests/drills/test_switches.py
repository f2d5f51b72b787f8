from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis

from tests.drills.process import wait_until
from tests.drills.switches import Switch, Switches, held
from tests.servers import Server

POOL, MEMBERS = "drill:pool", "drill:members"


@pytest.fixture
def switches(server: Server, client: redis.Redis, queues: set[str]) -> Iterator[Switches]:
    queues.update({POOL, MEMBERS})
    watching = Switches(lambda: server.url, pool=POOL, members=MEMBERS)
    watching.start()
    yield watching
    watching.stop()


def say(client: redis.Redis, config: str, since: int) -> None:
    client.hset(POOL, mapping={"config": config, "since": str(since)})


def test_each_switch_is_seen_once_with_a_beat_that_runs_its_config(
    switches: Switches, client: redis.Redis
) -> None:
    client.hset(MEMBERS, mapping={f"{it}-1-0a": json.dumps({"config": it}) for it in ("old", "new")})
    say(client, "old", 1000)
    wait_until(lambda: len(switches.found) == 1, 5)
    say(client, "new", 2000)
    wait_until(lambda: len(switches.found) == 2, 5)
    client.delete(POOL)
    say(client, "old", 1000)
    say(client, "old", 3000)
    wait_until(lambda: len(switches.found) == 3, 5)
    assert [(it.config, it.since, it.beat) for it in switches.found] == [
        ("old", 1000, "old-1"), ("new", 2000, "new-1"), ("old", 3000, "old-1"),
    ]  # fmt: skip


def test_a_switch_that_was_replaced_before_its_instant_took_no_place() -> None:
    first, replaced, third = (
        Switch("a", since=1000, seen=1000, beat=""),
        Switch("b", since=5000, seen=4000, beat=""),
        Switch("c", since=5500, seen=4500, beat=""),
    )
    assert held([first, replaced, third]) == [first, third]
    assert held([first, replaced]) == [first, replaced]
    assert held([]) == []
