"""Waits for what other threads and signal handlers put on a ``SimpleQueue``."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import TypeVar

__all__ = ["receive"]

_Word = TypeVar("_Word")


def receive(inbox: SimpleQueue[_Word], seconds: float) -> _Word:
    """The next word, waiting up to ``seconds`` for it; raises ``queue.Empty``.

    In Python 3.10 ``get(timeout)`` first takes the queue's own lock where that is free, and then waits for
    ever if its time is over already.  After a ``get`` that does not wait the lock is not free.
    """
    try:
        return inbox.get_nowait()
    except Empty:
        if seconds <= 0:
            raise
    return inbox.get(timeout=seconds)
