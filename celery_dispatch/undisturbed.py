"""A stretch of work that no SIGTERM breaks in two.

The handler of ``celery beat`` closes the scheduler and raises ``SystemExit`` wherever the main thread happens
to be.  Between a message that is on the broker and its intent that is settled this would send it a second
time: whoever takes the intent over cannot know.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["undisturbed"]

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold SIGTERM and SIGINT back until the block is over, however it ends; then their handlers run.

    Only the main thread runs handlers, so in any other there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    handlers: dict[signal.Signals, Any] = {}
    try:
        for number in _NUMBERS:
            handler = signal.getsignal(number)
            if handler is not None:  # one that was not installed from Python cannot be put back
                handlers[number] = handler
                signal.signal(number, lambda number, _: held.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for kept in held:
            signal.raise_signal(kept)
