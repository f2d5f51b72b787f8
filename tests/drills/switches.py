"""Notes each config that comes into force, as the pool says it in Redis.

A switch is written ahead, for an instant to come, so it is seen before it takes place.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import redis

from tests.drills.collector import connect, now_us

__all__ = ["Switch", "Switches", "held"]

_EVERY = 0.05  # seconds between two looks
_TEXT = "utf-8"


@dataclass(frozen=True, slots=True)
class Switch:
    """A config, the instant it comes into force, when that was seen (both ms), and a beat that runs it."""

    config: str
    since: int
    seen: int
    beat: str


def held(found: Sequence[Switch]) -> list[Switch]:
    """Those that took place: one that was replaced before its instant never did."""
    return [*(it for it, following in pairwise(found) if following.seen > it.since), *found[-1:]]


class Switches:
    """Watches a pool until stopped; survives that Redis is away."""

    def __init__(self, find: Callable[[], str], *, pool: str, members: str) -> None:
        self._find = find
        self._pool, self._members = pool, members
        self._found: list[Switch] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drill-switches", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)

    @property
    def found(self) -> tuple[Switch, ...]:
        """Every switch so far, the first config included; one that Redis forgot and was told counts once."""
        return tuple(self._found)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with contextlib.closing(connect(self._find())) as client:
                    while not self._stopping.wait(_EVERY):
                        self._look(client)
            except redis.RedisError:
                self._stopping.wait(_EVERY)

    def _look(self, client: redis.Redis) -> None:
        answer: Any = client.hmget(self._pool, "config", "since")
        config, since = ((value or b"").decode(_TEXT) for value in answer)
        known = {(switch.config, switch.since) for switch in self._found}
        if config and since and (config, int(since)) not in known:
            beat = self._beat_with(client, config)
            self._found.append(Switch(config, int(since), now_us(client) // 1000, beat))

    def _beat_with(self, client: redis.Redis, config: str) -> str:
        rows: Any = client.hgetall(self._members)
        for node, row in rows.items():
            if json.loads(row).get("config") == config:
                return str(node.decode(_TEXT).rpartition("-")[0])
        return ""
