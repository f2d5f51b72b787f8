"""Every port in memory, and a clock that only moves when told: for your own tests and for simulations.

One ``MemoryStore`` stands for the Redis of a pool; each node has ports of its own onto it.  They keep the
same contracts as those on Redis (``celery_dispatch.core.ports``), which one test suite checks on both::

    clock = ManualClock()
    store = MemoryStore(clock)
    pool, ledger = MemoryPool(store), MemoryLedger(store)

    pulse = pool.heartbeat(Heartbeat("a", "host", "v1", MemberState.STEADY, timedelta(seconds=10), {}),
                           known_epoch=None)
    ledger.claim(pulse.fence, [Claim("report", None, Cursor.anchor("d1", pulse.fence.since, "a"))])
    clock.advance(60)

What can go wrong on a network can be had at will: ``store.available = False`` takes Redis down,
``pool.available = False`` cuts one node's port off, and ``store.lose_next_reply()`` carries the next call out
and then raises ``StoreUnavailable``.  ``store.step(seconds)`` puts the server's clock forward or back.
"""

from __future__ import annotations

from celery_dispatch.testing.ledger import MemoryLedger
from celery_dispatch.testing.outbox import MemoryOutbox
from celery_dispatch.testing.pool import MemoryListener, MemoryPool
from celery_dispatch.testing.store import ManualClock, MemoryStore

__all__ = ["ManualClock", "MemoryLedger", "MemoryListener", "MemoryOutbox", "MemoryPool", "MemoryStore"]
