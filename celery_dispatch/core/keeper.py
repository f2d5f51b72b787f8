"""The thread that keeps a node in the pool while its loop is busy.

It has a connection of its own and does nothing but heartbeats: one an interval, one at once when another node
changed the pool, and a last word on the way out.  Everything reaches it through one ``SimpleQueue``, whose
``put`` may be called from a signal handler that interrupted the same ``put``: no lock can be held by the
thread that a handler runs on.

Only the thread and its waits need a clock of this host.  What is done between two waits is ``beat()`` and
``leave()``, which a simulation calls at the instants that it chooses.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from queue import Empty, SimpleQueue

from celery_dispatch.core.inbox import receive
from celery_dispatch.core.pool import Membership
from celery_dispatch.core.ports import Listener
from celery_dispatch.errors import StoreError

__all__ = ["GATHER", "GOODBYE", "Keeper"]

logger = logging.getLogger(__name__)

_BACKOFF = 0.5  # seconds between tries while the store does not answer
GATHER = 0.02  # seconds between two heartbeats at least, so that changes are taken together
GOODBYE = 3.0  # seconds that ``stop`` waits for the last word
_REMIND = 30.0  # seconds between log lines about one outage

_WAKE, _STOP = "wake", "stop"


class Keeper:
    """Runs a ``Membership`` in a daemon thread; ``on_view`` is called there after each new view.

    ``on_change`` is called, on the listener's thread, when rows may have changed.
    """

    def __init__(
        self,
        membership: Membership,
        *,
        interval: timedelta,
        listener: Listener,
        on_view: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self._membership = membership
        self._interval = interval.total_seconds()
        self._listener = listener
        self._on_view = on_view
        self._on_change = on_change
        self._inbox: SimpleQueue[str] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="dispatch-keeper", daemon=True)
        self._failing_for = 0.0
        self.outage: str | None = None

    def start(self) -> None:
        """Take a place in the pool and keep it; returns at once."""
        self._thread.start()
        self._listener.start(self.wake, self._on_change)

    def stop(self) -> None:
        """Leave the pool and end; waits for it a bounded time.  Idempotent, safe in a signal handler."""
        self._inbox.put(_STOP)
        if self._thread.is_alive():
            self._thread.join(GOODBYE)
        self._listener.stop()

    def wake(self) -> None:
        """Look at the pool now instead of at the next heartbeat."""
        self._inbox.put(_WAKE)

    def _run(self) -> None:
        delay = 0.0
        while not self._wait(delay):
            delay = self.beat()
        self.leave()

    def _wait(self, delay: float) -> bool:
        """Whether to stop; else returns when a heartbeat is due, or soon after a wake."""
        began = time.monotonic()
        woken = False
        while True:
            left = (GATHER if woken else delay) - (time.monotonic() - began)
            try:
                word = receive(self._inbox, left)
            except Empty:
                return False
            if word == _STOP:
                return True
            woken = True

    def beat(self) -> float:
        """One heartbeat; seconds until the next.  Never raises."""
        try:
            changed = self._membership.beat()
        except StoreError as error:
            self._complain(error)
            self._failing_for += _BACKOFF
            return min(_BACKOFF, self._interval)
        except Exception:
            logger.exception("The heartbeat of node %s failed", self._membership.identity.node)
            return self._interval
        if changed is None:
            return self._interval
        if self.outage is not None:
            logger.warning("Node %s is back in the pool", self._membership.identity.node)
        self.outage, self._failing_for = None, 0.0
        if changed:
            self._on_view()
        return GATHER if self._membership.unsettled else self._interval

    def _complain(self, error: StoreError) -> None:
        if self.outage is None or self._failing_for >= _REMIND:
            logger.error(
                "Node %s is not in the pool and fires nothing until it is: %s Trying again every %.1f s.",
                self._membership.identity.node, error, _BACKOFF,
            )  # fmt: skip
            self._failing_for = 0.0
        self.outage = str(error)

    def leave(self) -> None:
        """Give the lease up.  Never raises: a lost goodbye costs the others one lease."""
        try:
            self._membership.leave()
        except StoreError as error:
            logger.warning("Node %s could not say goodbye: %s", self._membership.identity.node, error)
