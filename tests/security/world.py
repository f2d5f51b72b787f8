"""A whole node on a real Redis that is pool and broker, its loop turned by hand; and the commands beside it.

Everything is real but the durations, which are short, and the two threads: heartbeats are sent, and wakes
are heard, between two turns.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from secrets import token_hex
from typing import Any

import redis
from celery import Celery
from celery.beat import Scheduler
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result

from celery_dispatch.celery_bridge.definitions import Definitions
from celery_dispatch.celery_bridge.entries import catalog_of
from celery_dispatch.celery_bridge.identity import identity_of
from celery_dispatch.celery_bridge.outbox import CeleryOutbox
from celery_dispatch.config import Config
from celery_dispatch.core.clock import PoolClock, SystemClock
from celery_dispatch.core.entry import Catalog
from celery_dispatch.core.node import Node
from celery_dispatch.core.pool import Identity, Membership, Timing
from celery_dispatch.core.report import NodeReport
from celery_dispatch.errors import StoreError
from celery_dispatch.manage.cli import dispatch
from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.intents import RedisIntents
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from celery_dispatch.redis_store.pool import RedisPool
from celery_dispatch.redis_store.rows import RedisRows

__all__ = ["NAMES", "Bystander", "LoneNode", "app_on", "told"]

#: The entries of the app, each of them due ten times a second.
NAMES = ("good-1", "good-2", "good-3")

_INTERVAL, _LEASE, _HANDOVER = 0.02, 0.3, 0.02


def app_on(url: str) -> Celery:
    """An app whose broker, and so whose pool, is the Redis of ``url``."""
    app: Any = Celery("guarded", broker=url, set_as_current=False)
    app.conf.beat_schedule = {name: {"task": f"tasks.{name}", "schedule": 0.1} for name in NAMES}
    app.conf.result_expires = None
    return app


def catalog(app: Celery) -> Catalog:
    return catalog_of(app, Config.from_app(app))


class LoneNode:
    """One node of ``app``; ``close()`` it after use.  ``run`` is its loop and its keeper in one."""

    def __init__(
        self, app: Celery, url: str, keys: Keys, *, name: str = "mine", elsewhere: bool = False
    ) -> None:
        self.entries = catalog(app)
        definitions = Definitions(app, Config.from_app(app))
        self.report = NodeReport({"pid": 1})
        self.trouble: StoreError | None = None
        clock = PoolClock(SystemClock())
        timing = Timing(timedelta(seconds=_INTERVAL), timedelta(seconds=_LEASE), timedelta(seconds=_HANDOVER))
        self._client = redis_client(url, {})
        self.membership = Membership(
            Identity(name, "host", self.entries.fingerprint, identity_of(app)),
            pool=RedisPool(self._client, keys),
            clock=clock,
            timing=timing,
            info=self.report.snapshot,
        )
        self._outbox = CeleryOutbox(
            app,
            key_prefix=keys.prefix,
            node=name,
            scheduler=Scheduler(app, lazy=True),
            same_store=lambda connection: not elsewhere,
        )
        self._next_beat = 0.0
        self._node = Node(
            catalog=self.entries,
            make=lambda name, definition: definitions.entry(name, json.loads(definition)),
            membership=self.membership,
            clock=clock,
            ledger=RedisLedger(self._client, keys),
            rows=RedisRows(self._client, keys),
            intents=RedisIntents(self._client, keys),
            outbox=self._outbox,
            report=self.report,
            timing=timing,
            batch_size=500,
            at_most_once=False,
            new_token=token_hex,
            look_again=self.wake,
        )

    def run(self, seconds: float, until: Callable[[], object] = lambda: False) -> bool:
        """Turn for so long, or until something holds; whether it does."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self.turn()
            if until():
                return True
        return bool(until())

    def turn(self) -> None:
        """A heartbeat if it is time, and one pass."""
        if time.monotonic() >= self._next_beat:
            self._beat()
        time.sleep(min(self._node.turn(), 0.005))

    def wake(self) -> None:
        self._next_beat = 0.0

    @property
    def says(self) -> str:
        """What it has to say of its troubles, as people are shown it."""
        shown = self.report.snapshot()
        return "\n".join(map(str, (self.trouble or "", shown["outage"] or "", json.dumps(shown["errors"]))))

    def close(self) -> None:
        self._outbox.close()
        self._client.close()

    def _beat(self) -> None:
        self._next_beat = time.monotonic() + _INTERVAL
        try:
            self.membership.beat()
        except StoreError as error:
            self.trouble = error
        else:
            self.trouble = None


class Bystander:
    """Somebody who may write everything to the Redis; speaks bytes."""

    def __init__(self, url: str, keys: Keys) -> None:
        self.redis: Any = redis.Redis.from_url(url, protocol=2)
        self._own = {key.encode() for key in keys.permanent}

    def messages(self) -> Iterator[dict[str, Any]]:
        """Every message on any queue; what is no message shows as what it is."""
        for key in self.redis.scan_iter(count=1000):
            if key not in self._own and self.redis.type(key) == b"list":
                yield from (json.loads(message) for message in self.redis.lrange(key, 0, -1))

    def fired(self) -> list[tuple[str, str]]:
        """Entry and task of each message."""
        headers = [message["headers"] for message in self.messages()]
        return [(one.get("dispatch_entry", ""), one.get("task", "")) for one in headers]

    def fired_by(self, names: Sequence[str] = NAMES) -> int:
        """How often the one of ``names`` was fired that was fired least."""
        fired = [name for name, _ in self.fired()]
        return min(fired.count(name) for name in names)

    def close(self) -> None:
        self.redis.close()


def told(app: Celery, *arguments: str) -> Result:
    """What ``celery dispatch`` answers to ``arguments``."""
    context = CLIContext(app=app, no_color=True, workdir=None)
    command: Any = dispatch.commands[arguments[0]]
    return CliRunner().invoke(command, list(arguments[1:]), obj=context)
