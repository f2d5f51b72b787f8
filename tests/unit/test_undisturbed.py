from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from celery_dispatch.undisturbed import Undisturbed

NUMBERS = (signal.SIGTERM, signal.SIGINT)
BOTH = pytest.mark.parametrize("number", NUMBERS)
LONG = 60.0  # seconds, which no test waits for


class Handler:
    """As that of ``celery beat``: ends whatever is going on."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def __call__(self, number: int, _: object) -> None:
        self.heard.append(number)
        raise SystemExit


@pytest.fixture
def handler() -> Iterator[Handler]:
    handler = Handler()
    before = {number: signal.signal(number, handler) for number in NUMBERS}
    yield handler
    for number, old in before.items():
        signal.signal(number, old)


def in_place(handler: Handler) -> bool:
    return all(signal.getsignal(number) is handler for number in NUMBERS)


def ended(work: Callable[[], None], *, longest: float = LONG) -> SystemExit:
    """How a block that does this work is ended."""
    with pytest.raises(SystemExit) as end, Undisturbed(longest=longest):
        work()
    return end.value


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@BOTH
def test_a_signal_is_heard_when_the_block_is_over(number: signal.Signals, handler: Handler) -> None:
    heard_inside: list[list[int]] = []

    def work() -> None:
        send(number)
        heard_inside.append(list(handler.heard))

    ended(work)
    assert (heard_inside, handler.heard) == ([[]], [number])


@BOTH
def test_it_is_heard_though_the_block_failed(number: signal.Signals, handler: Handler) -> None:
    def work() -> None:
        send(number)
        raise OSError("the broker is gone")

    assert isinstance(ended(work).__context__, OSError)
    assert handler.heard == [number]


@BOTH
def test_a_second_one_waits_as_well(number: signal.Signals, handler: Handler) -> None:
    """A process group may hear of one stop twice: from the terminal, and from the worker around its beat."""
    reached: list[str] = []

    def work() -> None:
        send(signal.SIGTERM)
        send(number)
        reached.append("the end")

    ended(work)
    assert (reached, handler.heard) == (["the end"], [signal.SIGTERM])


@pytest.mark.parametrize("longest", [LONG, 0.1])
def test_one_that_nobody_minds_is_not_in_the_way_of_another(longest: float, handler: Handler) -> None:
    signal.signal(signal.SIGINT, lambda *_: handler.heard.append(signal.SIGINT))

    def work() -> None:
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert handler.heard == []
        if longest < LONG:
            time.sleep(LONG)

    ended(work, longest=longest)
    assert sorted(handler.heard) == [signal.SIGINT, signal.SIGTERM]


def test_without_a_thread_that_could_end_it_nothing_is_held(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    reached: list[str] = []

    def work() -> None:
        send(signal.SIGTERM)
        reached.append("the end")

    ended(work)
    assert (reached, handler.heard) == ([], [signal.SIGTERM])


@BOTH
def test_a_block_that_takes_too_long_is_ended(number: signal.Signals, handler: Handler) -> None:
    began = time.monotonic()

    def work() -> None:
        send(number)
        time.sleep(LONG)

    ended(work, longest=0.2)
    assert 0.2 <= time.monotonic() - began < LONG / 2
    assert handler.heard == [number]


def test_after_a_block_that_ended_in_time_nothing_comes_later(handler: Handler) -> None:
    ended(lambda: send(signal.SIGTERM), longest=0.1)
    time.sleep(0.3)
    assert handler.heard == [signal.SIGTERM]


@BOTH
def test_between_two_blocks_it_is_heard_at_once(number: signal.Signals, handler: Handler) -> None:
    undisturbed = Undisturbed(longest=LONG)
    with undisturbed:
        pass
    with pytest.raises(SystemExit):
        send(number)
    with undisturbed:
        assert handler.heard == [number]


def test_a_signal_at_any_moment_is_heard_once(handler: Handler) -> None:
    """As when each pass is a block: it may come within one, between two, or on the way in or out."""

    def passes() -> None:
        timer.start()
        while True:
            with undisturbed:
                assert handler.heard == []

    for turn in range(200):
        undisturbed = Undisturbed(longest=LONG)
        handler.heard.clear()
        timer = threading.Timer(turn * 2e-5, send, (signal.SIGTERM,))
        with pytest.raises(SystemExit):
            passes()
        assert handler.heard == [signal.SIGTERM]
        timer.join()
        undisturbed.close()
        assert in_place(handler)


def test_a_handler_that_somebody_installed_since_is_not_taken_away(handler: Handler) -> None:
    undisturbed, other = Undisturbed(longest=LONG), Handler()
    with undisturbed:
        signal.signal(signal.SIGTERM, other)
    undisturbed.close()
    assert signal.getsignal(signal.SIGTERM) is other
    assert signal.getsignal(signal.SIGINT) is handler


def test_what_is_ignored_still_is(handler: Handler) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Undisturbed(longest=LONG):
        send(signal.SIGINT)
    send(signal.SIGINT)


def test_by_default_it_ends_the_process_when_the_block_is_over() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with Undisturbed(longest=LONG):
            send(signal.SIGTERM)
            os.write(writer, b"done")
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    assert (os.read(reader, 4), os.WTERMSIG(status)) == (b"done", signal.SIGTERM)
    os.close(reader)


def test_a_handler_that_was_not_installed_from_python_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[int] = []
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda number, handler: changed.append(number))
    with Undisturbed(longest=LONG):
        pass
    assert changed == []


def test_another_thread_touches_no_handler(handler: Handler) -> None:
    seen: list[bool] = []

    def work() -> None:
        with Undisturbed(longest=LONG):
            seen.append(in_place(handler))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
