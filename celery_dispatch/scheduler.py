"""The door: what ``celery beat`` instantiates, and the one place where a node is put together.

Celery's contract, and what follows from it:

* The constructor does no I/O and starts nothing: ``celery beat`` builds a second, lazy instance for its
  banner, an embedded beat is forked after it, and a SIGTERM during construction builds a third.  The node
  starts at the first ``tick()``.
* ``tick()`` lends the node this thread for one pass, waits inside for the next alarm or a wake (never longer
  than ``max_interval``), and returns 0.
* ``close()`` may run inside a signal handler on this very thread, and again afterwards.  It asks the
  keeper, which has a connection of its own, to leave the pool; connections of this thread are closed only
  outside of a pass.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from datetime import datetime, timezone
from importlib.metadata import version
from queue import Empty, SimpleQueue
from secrets import token_hex
from typing import Any

from celery.beat import ScheduleEntry, Scheduler
from kombu import Connection

from celery_dispatch.celery_bridge.broker import masked
from celery_dispatch.celery_bridge.entries import catalog_of
from celery_dispatch.celery_bridge.outbox import CeleryOutbox
from celery_dispatch.config import Config
from celery_dispatch.core.catchup import Patience
from celery_dispatch.core.clock import PoolClock, SystemClock
from celery_dispatch.core.entry import Catalog
from celery_dispatch.core.keeper import Keeper
from celery_dispatch.core.node import Node
from celery_dispatch.core.pool import Identity, Membership
from celery_dispatch.core.report import NodeReport
from celery_dispatch.errors import ConfigError, StoreUnavailable
from celery_dispatch.liveness import TurnFile, directory_for
from celery_dispatch.redis_store.client import redis_client, same_server, translated
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from celery_dispatch.redis_store.listener import RedisListener
from celery_dispatch.redis_store.pool import RedisPool

__all__ = ["DispatchScheduler"]

logger = logging.getLogger(__name__)

_RETRY = 0.5  # seconds between tries to reach Redis at start


class DispatchScheduler(Scheduler):
    """A Celery beat scheduler of which any number may run.

    Set ``beat_scheduler = "celery_dispatch:DispatchScheduler"`` or start ``celery beat -S dispatch``.  Raises
    ``ConfigError`` from the constructor where a setting is wrong, and ``StoreRefused`` from ``tick()`` where
    Redis refuses this node before it ever was in the pool.
    """

    def __init__(self, app: Any, **kwargs: Any) -> None:
        self._config: Config | None = None
        self._catalog: Catalog | None = None
        self._running: _Running | None = None
        super().__init__(app, **kwargs)

    def setup_schedule(self) -> None:
        self._config = Config.from_app(self.app)
        self._catalog = catalog_of(self.app, self._config)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        if self._running is None:
            self._running = _Running(self)
        self._running.turn(longest=float(self.max_interval or 1))
        return 0.0

    def close(self) -> None:
        if self._running is not None:
            self._running.stop()
        super().close()

    def get_schedule(self) -> dict[str, ScheduleEntry]:
        if self._catalog is None:
            return {}
        return {name: entry.payload for name, entry in self._catalog.entries.items()}  # type: ignore[misc]

    def set_schedule(self, schedule: Any) -> None:
        raise ConfigError("The schedule of a dispatch scheduler is beat_schedule; set that instead.")

    schedule = property(get_schedule, set_schedule)

    @property
    def info(self) -> str:
        config = self._config or Config.from_app(self.app)
        return f"    . pool -> {masked(config.redis_url)} ({config.key_prefix})"

    @property
    def config(self) -> Config:
        """The settings, parsed; only on an instance that is not lazy."""
        assert self._config is not None
        return self._config

    @property
    def catalog(self) -> Catalog:
        """The entries of ``beat_schedule``; only on an instance that is not lazy."""
        assert self._catalog is not None
        return self._catalog


class _Running:
    """A node, wired to Redis and Celery, and its two helpers: the keeper's thread and the liveness file."""

    def __init__(self, scheduler: DispatchScheduler) -> None:
        config, catalog, app = scheduler.config, scheduler.catalog, scheduler.app
        node = f"{config.node_name}-{token_hex(4)}"
        keys = Keys(config.key_prefix)
        clock = PoolClock(SystemClock())
        report = NodeReport(_about(config))
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._turning = False
        self._joined = False
        self._waiting = ""
        self._clients = [redis_client(config.redis_url, config.redis_options) for _ in range(3)]
        for_claims, for_heartbeats, for_wakes = self._clients
        membership = Membership(
            Identity(node, socket.gethostname(), catalog.fingerprint),
            pool=RedisPool(for_heartbeats, keys),
            clock=clock,
            lease=config.lease_ttl,
            info=report.snapshot,
        )
        self._keeper = Keeper(
            membership,
            interval=config.heartbeat_interval,
            listener=RedisListener(for_wakes, keys),
            on_view=lambda: self._wakes.put(None),
        )
        self._outbox = CeleryOutbox(
            app,
            key_prefix=config.key_prefix,
            node=node,
            apply_async=scheduler.apply_async,
            verify=lambda connection: _verify(connection, str(app.conf.broker_write_url), for_claims, config),
        )
        self._node = Node(
            catalog=catalog,
            membership=membership,
            clock=clock,
            ledger=RedisLedger(for_claims, keys),
            outbox=self._outbox,
            report=report,
            patience=Patience(config.handover_delay, config.lease_ttl + config.handover_delay),
            batch_size=config.batch_size,
            look_again=self._keeper.wake,
        )
        self._turns = TurnFile(
            directory_for(masked(config.redis_url), config.key_prefix, app.main or ""), node
        )
        self._welcome = f"Node {node} joins the pool {config.key_prefix!r} at {masked(config.redis_url)}"

    def turn(self, *, longest: float) -> None:
        """One pass of the node, then a wait for its next alarm, a wake, or ``longest`` seconds."""
        self._turning = True
        try:
            self._turns.touch(time.monotonic())
            wait = self._node.turn() if self._joined or self._join() else _RETRY
        finally:
            self._turning = False
        try:
            if wait > 0:
                self._wakes.get(timeout=min(wait, longest))
        except Empty:
            return

    def _join(self) -> bool:
        """Whether this node may take a place in the pool: Redis lets it in, and is the broker too.

        Until then nothing is written, so that a beat with a wrong setting leaves no trace.
        """
        try:
            with translated():
                self._clients[0].ping()
            self._outbox.connect()
        except StoreUnavailable as error:
            if not self._waiting:
                logger.error("Waiting for Redis, trying again every %g s: %s", _RETRY, error)
            self._waiting = str(error)
            return False
        logger.log(logging.WARNING if self._waiting else logging.INFO, "%s", self._welcome)
        self._keeper.start()
        self._joined = True
        return True

    def stop(self) -> None:
        """Leave the pool; close this thread's connections too, unless a signal interrupted their use."""
        self._keeper.stop()
        self._turns.remove()
        if not self._turning:
            self._outbox.close()
            for client in self._clients:
                client.close()


def _about(config: Config) -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "name": config.node_name,
        "version": version("celery-dispatch"),
        "started": datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def _verify(connection: Connection, broker_url: str, client: Any, config: Config) -> None:
    """Raise ``ConfigError`` unless the broker is the Redis that the pool lives on."""
    broker: Any = connection.default_channel
    if not same_server(client, broker.client):
        raise ConfigError(
            f"The broker {masked(broker_url)} is not the Redis of the pool, {masked(config.redis_url)}. "
            "This version needs both to be the same server and database: unset dispatch_redis_url, "
            "or point it at the broker."
        )
