"""A stretch of work that no request to end breaks in two.

The handler of ``celery beat`` closes the scheduler and raises ``SystemExit`` wherever the main thread happens
to be.  In the middle of a pass that would be expensive: a message that is on another broker and not settled
yet is sent again by whoever takes it over, one that was not made yet runs code of the user twice, and one
that was refused is not given back.
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
    """Holds SIGTERM and SIGINT back while a block is open, ``longest`` seconds from the first one at most.

    From the first block until ``close()`` the handlers of this process are its own; outside of a block they
    call at once those that were there before.  Only the main thread runs handlers, so blocks of any other
    hold nothing back.
    """

    def __init__(self, *, longest: float) -> None:
        self._longest = longest
        self._previous: dict[int, Any] = {}
        self._open = False
        self._waiting: list[int] = []
        self._alarm: threading.Timer | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            if not self._previous:
                self._install()
            self._open = True

    def __exit__(self, *_: object) -> None:
        self._open = False
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for number in self._taken():
            signal.raise_signal(number)

    def close(self) -> None:
        """Put the previous handlers back, for good, where this is the main thread."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._previous.items():
                if signal.getsignal(number) == self._hear:
                    signal.signal(number, handler)

    def _install(self) -> None:
        for number in _NUMBERS:
            handler = signal.getsignal(number)
            if handler is not None:  # one that was not installed from Python could not be called
                self._previous[number] = handler
                signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._open and self._alarm is None:
            self._set_alarm()
        if self._open:
            self._waiting.append(number)
            return
        handler = self._previous[number]
        if callable(handler):
            handler(number, frame)
        elif handler == signal.SIG_DFL:
            signal.signal(number, handler)
            signal.raise_signal(number)

    def _set_alarm(self) -> None:
        alarm = threading.Timer(self._longest, self._give_up, (threading.main_thread().ident,))
        alarm.daemon = True
        try:
            alarm.start()
        except RuntimeError:  # no more threads: rather no hold than one without an end
            self._open = False
        else:
            self._alarm = alarm

    def _give_up(self, thread: int) -> None:
        self._open = False
        for number in self._taken():
            signal.pthread_kill(thread, number)

    def _taken(self) -> list[int]:
        waiting, self._waiting = self._waiting, []
        return waiting
