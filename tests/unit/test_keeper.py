from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace

import pytest

from celery_dispatch.core.keeper import Keeper
from celery_dispatch.errors import StoreUnavailable


class Membership:
    """Counts what the keeper asks of it; ``fails`` and ``changes`` decide how the next beats end."""

    identity = SimpleNamespace(node="n-1")

    def __init__(self) -> None:
        self.beats = 0
        self.left = 0
        self.fails = False
        self.changes = False
        self.unsettled = False

    def beat(self) -> bool:
        self.beats += 1
        if self.fails:
            raise StoreUnavailable("no answer.")
        return self.changes

    def leave(self) -> None:
        self.left += 1
        if self.fails:
            raise StoreUnavailable("no answer.")


class Listener:
    def __init__(self) -> None:
        self.on_wake: Callable[[], None] = lambda: None
        self.on_change: Callable[[], None] = lambda: None

    def start(self, on_wake: Callable[[], None], on_change: Callable[[], None]) -> None:
        self.on_wake, self.on_change = on_wake, on_change

    def stop(self) -> None:
        self.on_wake = lambda: None


def wait_until(true: Callable[[], object], timeout: float = 5.0) -> None:
    until = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < until, "waited in vain"
        threading.Event().wait(0.005)


@contextmanager
def keeping(
    membership: Membership, *, interval: float = 3600.0
) -> Iterator[tuple[Keeper, Listener, list[None]]]:
    listener, views = Listener(), list[None]()
    keeper = Keeper(
        membership,  # type: ignore[arg-type]
        interval=timedelta(seconds=interval),
        listener=listener,
        on_view=lambda: views.append(None),
        on_change=lambda: None,
    )
    keeper.start()
    try:
        yield keeper, listener, views
    finally:
        keeper.stop()


def test_it_beats_every_interval() -> None:
    membership = Membership()
    with keeping(membership, interval=0.01):
        wait_until(lambda: membership.beats > 5)


def test_a_wake_brings_the_next_beat_forward() -> None:
    membership = Membership()
    with keeping(membership) as (_, listener, _):
        wait_until(lambda: membership.beats == 1)
        listener.on_wake()
        wait_until(lambda: membership.beats == 2)


def test_wakes_in_quick_succession_are_taken_together() -> None:
    membership = Membership()
    with keeping(membership) as (_, listener, _):
        wait_until(lambda: membership.beats == 1)
        for _ in range(1_000):
            listener.on_wake()
        wait_until(lambda: membership.beats >= 2)
        threading.Event().wait(0.3)
        assert membership.beats <= 4


def test_a_new_view_is_announced() -> None:
    membership = Membership()
    membership.changes = True
    with keeping(membership) as (_, _, views):
        wait_until(lambda: views)


def test_an_outage_is_retried_soon_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    membership = Membership()
    membership.fails = True
    with keeping(membership, interval=0.05):
        wait_until(lambda: membership.beats >= 5)
        membership.fails = False
        wait_until(lambda: "back in the pool" in caplog.text)
    assert caplog.text.count("is not in the pool") == 1


def test_it_looks_again_soon_where_the_ring_is_not_settled() -> None:
    membership = Membership()
    membership.unsettled = True
    with keeping(membership):
        wait_until(lambda: membership.beats > 2)


def test_stopping_leaves_the_pool_once_however_often_it_is_called() -> None:
    membership = Membership()
    with keeping(membership) as (keeper, _, _):
        wait_until(lambda: membership.beats)
        keeper.stop()
        keeper.stop()
    assert membership.left == 1


def test_no_heartbeat_follows_the_goodbye() -> None:
    membership = Membership()
    with keeping(membership, interval=0.01) as (keeper, listener, _):
        wait_until(lambda: membership.beats)
        keeper.stop()
        beats = membership.beats
        listener.on_wake()
        threading.Event().wait(0.1)
        assert membership.beats == beats


def test_it_can_be_stopped_inside_a_signal_handler_that_interrupts_a_wake() -> None:
    membership = Membership()
    with keeping(membership) as (keeper, _, _):
        wait_until(lambda: membership.beats)
        previous = signal.signal(signal.SIGALRM, lambda *_: keeper.stop())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            until = time.monotonic() + 0.2
            while time.monotonic() < until:
                keeper.wake()
        finally:
            signal.signal(signal.SIGALRM, previous)
    assert membership.left == 1


def test_a_lost_goodbye_is_logged_and_does_not_hang(caplog: pytest.LogCaptureFixture) -> None:
    membership = Membership()
    membership.fails = True
    with keeping(membership) as (keeper, _, _):
        wait_until(lambda: membership.beats)
        keeper.stop()
    assert "could not say goodbye" in caplog.text
