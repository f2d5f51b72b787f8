"""A stretch of work that no request to end breaks in two.

The handler of ``celery beat`` closes the scheduler and raises ``SystemExit`` wherever the main thread happens
to be.  In the middle of a pass that would be expensive: a message that is on another broker and not settled
yet is sent again by whoever takes it over, one that was not made yet runs code of the user twice, and one
that was refused is not given back.

Between two blocks a signal goes straight on to the handler that was there before, so that it does not matter
where in here it comes, nor whether it is in the way of another one.
"""

from __future__ import annotations

import signal
import threading
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

__all__ = ["Undisturbed"]

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Undisturbed(AbstractContextManager[None]):
    """Holds the first SIGTERM or SIGINT in a block back until the block is over.

    Then its handler runs; before that, as soon as ``longest`` seconds have passed or another one comes.  From
    the first block until ``close()`` the handlers of this process are its own.  Only the main thread runs
    handlers, so blocks of any other hold nothing back.
    """

    def __init__(self, *, longest: float) -> None:
        self._longest = longest
        self._handlers: dict[int, Any] = {}  # those that were there before
        self._holds = False
        self._held: int | None = None
        self._alarm: threading.Timer | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            if not self._handlers:
                self._install()
            self._holds = True

    def __exit__(self, *_: object) -> None:
        self._holds = False
        if self._alarm is not None:
            self._alarm.cancel()
        if self._held is not None:
            signal.raise_signal(self._held)

    def close(self) -> None:
        """Put the handlers back that were there before, where this is the main thread."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._handlers.items():
                if signal.getsignal(number) == self._hear:
                    signal.signal(number, handler)

    def _install(self) -> None:
        for number in _NUMBERS:
            handler = signal.getsignal(number)
            if handler is not None:  # one that was not installed from Python could not be called
                self._handlers[number] = handler
                signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._holds:
            self._holds, self._held = False, number
            main = threading.main_thread().ident
            self._alarm = threading.Timer(self._longest, signal.pthread_kill, (main, number))
            self._alarm.daemon = True
            self._alarm.start()
            return
        self._held = None
        handler = self._handlers[number]
        if callable(handler):
            handler(number, frame)
        elif handler == signal.SIG_DFL:
            signal.signal(number, handler)
            signal.raise_signal(number)
