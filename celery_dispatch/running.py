"""A running node: the one place where its parts are built and handed to each other.

Connections are opened by the first turn.  A node takes its place in the pool, and writes anything at all,
only when Redis has let it in and the broker answers, so that a beat with a wrong setting leaves no trace.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import socket
import time
from contextlib import nullcontext
from datetime import datetime, timezone
from importlib.metadata import version
from queue import Empty, SimpleQueue
from secrets import token_hex
from typing import Any

from celery import Celery
from kombu import Connection

from celery_dispatch import metrics
from celery_dispatch.celery_bridge.broker import masked
from celery_dispatch.celery_bridge.definitions import Definitions
from celery_dispatch.celery_bridge.facets import facets_of
from celery_dispatch.celery_bridge.identity import identity_of
from celery_dispatch.celery_bridge.moments import rfc3339
from celery_dispatch.celery_bridge.outbox import CeleryOutbox
from celery_dispatch.config import Config
from celery_dispatch.core.clock import PoolClock, SystemClock
from celery_dispatch.core.entry import Catalog
from celery_dispatch.core.inbox import receive
from celery_dispatch.core.keeper import Keeper
from celery_dispatch.core.node import Node
from celery_dispatch.core.pool import Identity, Membership, Timing, View
from celery_dispatch.core.ports import Outbox
from celery_dispatch.core.report import NodeReport
from celery_dispatch.errors import StoreError, StoreUnavailable
from celery_dispatch.liveness import TurnFile, directory_for
from celery_dispatch.redis_store.client import redis_client, same_server, translated
from celery_dispatch.redis_store.facets import MOST_ROWS, Facets
from celery_dispatch.redis_store.intents import RedisIntents
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from celery_dispatch.redis_store.listener import RedisListener
from celery_dispatch.redis_store.pool import RedisPool
from celery_dispatch.redis_store.rows import RedisRows
from celery_dispatch.report_lines import ReportLines
from celery_dispatch.shadow import ShadowOutbox
from celery_dispatch.undisturbed import Undisturbed

__all__ = ["Running"]

logger = logging.getLogger(__name__)

_COLLECT_EVERY = (20_000, 20, 20)  # a batch makes and drops thousands of objects, none of them in a cycle
_RETRY = 0.5  # seconds between tries to reach Redis and the broker at start
_DISCLOSE = 6 * 3600.0  # seconds until it is said again what this config is made of
_LONGEST_CONFIRM = 5.0  # seconds that a batch waits for the broker's word
_LONGEST_HOLD = 5.0  # seconds for which a node that is told to end goes on with its pass


class Running:
    """A node wired to Redis and Celery, with its helpers: keeper, liveness file, metrics, log lines.

    ``scheduler`` has ``apply_entry`` and ``apply_async``.  ``turn()`` belongs to one thread.
    """

    def __init__(self, app: Celery, *, config: Config, catalog: Catalog, scheduler: Any) -> None:
        self._app = app
        self._config = config
        self._catalog = catalog
        if config.metrics_port is not None:
            metrics.check_available()
        node = f"{config.node_name}-{token_hex(4)}"
        keys = Keys(config.key_prefix)
        clock = PoolClock(SystemClock())
        definitions = Definitions(app, config)
        timing = Timing(config.heartbeat_interval, config.lease_ttl, config.handover_delay)
        self._report = NodeReport(_about(config))
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._undisturbed = Undisturbed(longest=_LONGEST_HOLD)
        self._turning = False
        self._serving = False
        self._joined = False
        self._waiting = ""
        self._clients = [
            redis_client(
                config.redis_url, config.redis_options, key_prefix=config.key_prefix, says_master=says_master
            )
            for says_master in (False, True, False)
        ]
        for_claims, for_heartbeats, for_wakes = self._clients
        self._membership = Membership(
            Identity(node, socket.gethostname(), catalog.fingerprint, identity_of(app, shadow=config.shadow)),
            pool=RedisPool(for_heartbeats, keys),
            clock=clock,
            timing=timing,
            info=self._report.snapshot,
        )
        self._keeper = Keeper(
            self._membership,
            interval=config.heartbeat_interval,
            listener=RedisListener(for_wakes, keys),
            on_view=lambda: self._wakes.put(None),
            on_change=self._rows_changed,
        )
        outbox = CeleryOutbox(
            app,
            key_prefix=config.key_prefix,
            node=node,
            scheduler=scheduler,
            same_store=lambda connection: _leads_to(connection, for_claims),
            timeout=min(_LONGEST_CONFIRM, config.lease_ttl.total_seconds() / 3),
        )
        self._outbox: Outbox = ShadowOutbox(outbox, key=keys.shadow) if config.shadow else outbox
        self._node = Node(
            catalog=catalog,
            make=lambda name, definition: definitions.entry(name, json.loads(definition)),
            membership=self._membership,
            clock=clock,
            ledger=RedisLedger(for_claims, keys),
            rows=RedisRows(for_claims, keys),
            intents=RedisIntents(for_claims, keys),
            outbox=self._outbox,
            report=self._report,
            timing=timing,
            batch_size=config.batch_size,
            at_most_once=config.at_most_once,
            new_token=token_hex,
            look_again=self._keeper.wake,
        )
        self._facets = Facets(for_claims, keys)
        self._disclose_at = 0.0
        self._turns = TurnFile(
            directory_for(masked(config.redis_url), config.key_prefix, app.main or ""), node
        )
        self._lines = ReportLines(self._report, config.report_interval, node=node)
        self._metrics = metrics.Metrics(
            self._report,
            node=node,
            pool_view=lambda: self._membership.view,
            pool_outage=lambda: self._keeper.outage,
            clock=clock,
        )
        mode = " in shadow mode: it sends nothing" if config.shadow else ""
        self._welcome = (
            f"Node {node} joins the pool {config.key_prefix!r} at {masked(config.redis_url)}{mode}"
        )

    def turn(self, *, longest: float) -> None:
        """One pass of the node, then a wait for its next alarm, a wake, or ``longest`` seconds."""
        with self._undisturbed if self._joined else nullcontext():  # who still waits for Redis ends at once
            self._turning = True
            try:
                self._serve_metrics()
                self._turns.touch(time.monotonic())
                wait = self._pass() if self._joined else self._join()
            finally:
                self._turning = False
        try:
            if wait > 0:
                receive(self._wakes, min(wait, longest))
        except Empty:
            return

    def stop(self) -> None:
        """Leave the pool; close this thread's connections too, unless a signal interrupted their use."""
        self._undisturbed.close()
        self._keeper.stop()
        self._turns.remove()
        self._metrics.stop()
        if not self._turning:
            self._outbox.close()
            for client in self._clients:
                client.close()

    def _rows_changed(self) -> None:
        self._node.rows_changed()
        self._wakes.put(None)

    def _serve_metrics(self) -> None:
        """Before anything else, so that a node which waits for Redis can be seen to."""
        if self._config.metrics_port is not None and not self._serving:
            self._serving = True
            self._metrics.start(self._config.metrics_address, self._config.metrics_port)

    def _pass(self) -> float:
        wait = self._node.turn()
        view = self._membership.view
        if view is not None and _differ(view) and time.monotonic() >= self._disclose_at:
            self._disclose()
        line = self._lines.line(time.monotonic())
        if line is not None:
            logger.info("%s", line)
        return wait

    def _join(self) -> float:
        """Take a place in the pool if Redis lets this node in and the broker answers; seconds to wait."""
        self._report.turned(time.monotonic())
        try:
            with translated():
                self._clients[0].ping()
            self._outbox.connect()
        except StoreUnavailable as error:
            if not self._waiting:
                logger.error("Waiting for Redis and the broker, trying again every %g s: %s", _RETRY, error)
            self._waiting = str(error)
            return _RETRY
        loud = self._waiting or self._config.shadow
        logger.log(logging.WARNING if loud else logging.INFO, "%s", self._welcome)
        # App and schedule are here for good.  The collector would go through all of them whenever the ring is
        # computed, while entries whose owner has just left wait for it.
        gc.freeze()
        gc.set_threshold(*_COLLECT_EVERY)
        self._membership.turned()
        self._keeper.start()
        self._joined = True
        return 0.0

    def _disclose(self) -> None:
        """Let people see where this node's config differs from the others'."""
        self._disclose_at = time.monotonic() + _DISCLOSE
        if len(self._catalog.entries) > MOST_ROWS:
            return
        try:
            rows = facets_of(self._app, self._catalog, self._config)
            self._facets.publish(self._catalog.fingerprint, rows)
        except StoreError as error:
            logger.info("What this config is made of could not be written: %s", error)


def _about(config: Config) -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "name": config.node_name,
        "version": version("celery-dispatch"),
        "heartbeat": config.heartbeat_interval.total_seconds(),
        "lease": config.lease_ttl.total_seconds(),
        "started": rfc3339(datetime.now(timezone.utc)),
    }


def _leads_to(connection: Connection, client: Any) -> bool:
    """Whether a broker connection leads to the database that ``client`` uses."""
    channel: Any = connection.default_channel
    return hasattr(channel, "client") and same_server(client, channel.client)


def _differ(view: View) -> bool:
    """Whether nodes of one app run different configs."""
    return len({member.config for member in view.members if member.identity == view.identity}) > 1
