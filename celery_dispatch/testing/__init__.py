"""Every port in memory, and a clock that only moves when told: for your own tests and for simulations.

One ``MemoryStore`` stands for the Redis of a pool; each node has ports of its own onto it.  They keep the
same contracts as those on Redis (``celery_dispatch.core.ports``), which one test suite checks on both::

    clock = ManualClock()
    store = MemoryStore(clock)
    pool, ledger = MemoryPool(store), MemoryLedger(store)

    def beat(merged=""):
        return pool.heartbeat(
            Heartbeat(node="a", host="h", config="v1", identity="shop on redis db 0", merged=merged,
                      state=MemberState.STEADY, lease=timedelta(seconds=10), info={},
                      interval=timedelta(seconds=2), handover=timedelta(seconds=0.5)),
            known_epoch=None)

    recovery = beat().recovery      # a new pool asks everybody first what they know
    clock.advance(4)
    fence = beat(merged=recovery).fence
    ledger.claim(fence, [Claim("report", None, Cursor.anchor("d1", fence.since, "a"))])

What can go wrong on a network can be had at will: ``store.available = False`` takes Redis down,
``pool.available = False`` cuts one node's port off, and ``store.lose_next_reply()`` carries the next call out
and then raises ``StoreUnavailable``.  ``store.step(seconds)`` puts the server's clock forward or back.
"""

from __future__ import annotations

from celery_dispatch.testing.ledger import MemoryIntents, MemoryLedger
from celery_dispatch.testing.outbox import MemoryOutbox
from celery_dispatch.testing.pool import MemoryListener, MemoryPool
from celery_dispatch.testing.rows import MemoryRows
from celery_dispatch.testing.store import ManualClock, MemoryStore

__all__ = [
    "ManualClock",
    "MemoryIntents",
    "MemoryLedger",
    "MemoryListener",
    "MemoryOutbox",
    "MemoryPool",
    "MemoryRows",
    "MemoryStore",
]
