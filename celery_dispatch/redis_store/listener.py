"""Wakes from the other nodes, over pub/sub, on a daemon thread with a connection of its own.

A lost wake costs nothing but the time to the next heartbeat, so every fault is answered the same way:
subscribe again, after half a second.  Each subscription wakes as well, since something may have been missed
before it.  The thread is told to stop through a ``SimpleQueue``, which a signal handler may use at any
moment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import redis

from celery_dispatch.core.inbox import receive
from celery_dispatch.errors import StoreError, StoreUnavailable
from celery_dispatch.redis_store.client import translated
from celery_dispatch.redis_store.keys import Keys

__all__ = ["RedisListener"]

logger = logging.getLogger(__name__)

_BACKOFF = 0.5  # seconds
_TURN = 0.25  # seconds in which a stop is noticed
_PING = 5.0  # seconds of silence after which the server is asked whether it is there
_JOIN = 1.0  # seconds


class RedisListener:
    """Calls back, on a thread of its own, when the pool or rows may have changed; implements ``Listener``.

    ``client`` is used by this thread alone.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._channel = keys.wake
        self._stopped: SimpleQueue[None] = SimpleQueue()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self, on_wake: Callable[[], None], on_change: Callable[[], None]) -> None:
        """Listen from now on; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(on_wake, on_change), name="dispatch-listener", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Listen no more; waits for the thread, a second at most.  Idempotent."""
        self._stopping = True
        self._stopped.put(None)
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(_JOIN)  # not alive yet where a signal interrupted its start

    def _run(self, on_wake: Callable[[], None], on_change: Callable[[], None]) -> None:
        complained = ""
        while not self._stopping:
            try:
                self._listen(on_wake, on_change)
            except StoreError as error:
                if complained != str(error):
                    complained = str(error)
                    logger.info("No wakes from the other nodes for now, only heartbeats: %s", error)
            except Exception:
                logger.exception("Listening on %s failed", self._channel)
            self._pause()

    def _pause(self) -> None:
        if not self._stopping:
            try:
                receive(self._stopped, _BACKOFF)
            except Empty:
                return

    @translated()
    def _listen(self, on_wake: Callable[[], None], on_change: Callable[[], None]) -> None:
        """Hand wakes on until told to stop, or until the connection fails."""
        client: Any = self._client  # its pubsub() is not typed
        with client.pubsub() as subscription:
            subscription.subscribe(self._channel)
            heard, asked = time.monotonic(), False
            while not self._stopping:
                message: Any = subscription.get_message(timeout=_TURN)
                if message is not None:
                    heard, asked = time.monotonic(), False
                    said = message["data"] if message["type"] == "message" else None
                    if message["type"] == "subscribe" or said == "catalog":
                        on_change()
                    if message["type"] == "subscribe" or (said is not None and said != "catalog"):
                        on_wake()
                elif time.monotonic() - heard > 2 * _PING:
                    raise StoreUnavailable("Redis does not answer on the subscribed connection.")
                elif time.monotonic() - heard > _PING and not asked:
                    subscription.ping()
                    asked = True
