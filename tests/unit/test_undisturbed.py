from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from celery_dispatch.undisturbed import undisturbed

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """What the handlers heard that are there while the test runs; they raise ``SystemExit``."""
    heard: list[int] = []

    def handler(number: int, _: object) -> None:
        heard.append(number)
        raise SystemExit

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    yield heard
    for number, old in before.items():
        signal.signal(number, old)


@BOTH
def test_a_signal_is_heard_when_the_block_is_over(number: signal.Signals, heard: list[int]) -> None:
    heard_inside: list[list[int]] = []

    def work() -> None:
        with undisturbed():
            os.kill(os.getpid(), number)
            heard_inside.append(list(heard))

    with pytest.raises(SystemExit):
        work()
    assert (heard_inside, heard) == ([[]], [number])


@BOTH
def test_it_is_heard_though_the_block_failed(number: signal.Signals, heard: list[int]) -> None:
    def work() -> None:
        with undisturbed():
            os.kill(os.getpid(), number)
            raise OSError("the broker is gone")

    with pytest.raises(SystemExit) as ended:
        work()
    assert heard == [number]
    assert isinstance(ended.value.__context__, OSError)


@BOTH
def test_before_and_after_it_is_heard_at_once(number: signal.Signals, heard: list[int]) -> None:
    handler = signal.getsignal(number)
    with undisturbed():
        assert signal.getsignal(number) is not handler
    assert signal.getsignal(number) is handler
    with pytest.raises(SystemExit):
        os.kill(os.getpid(), number)


def test_blocks_follow_each_other_and_lose_no_signal(heard: list[int]) -> None:
    """As when each pass sends something and the signal comes at any moment."""

    def work() -> None:
        while True:
            with undisturbed():
                assert heard == []

    timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(SystemExit):
        work()
    assert heard == [signal.SIGTERM]
    timer.join()


def test_a_handler_that_was_not_installed_from_python_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[int] = []
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda number, handler: changed.append(number))
    with undisturbed():
        pass
    assert changed == []


def test_another_thread_touches_no_handler() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with undisturbed():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
