from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from celery_dispatch.core.clock import PoolClock

START = datetime(2030, 1, 1, tzinfo=timezone.utc)


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 100.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def clock(hand: Hand) -> PoolClock:
    return PoolClock(hand)


def test_time_is_unknown_before_the_first_sample(clock: PoolClock) -> None:
    assert not clock.known
    with pytest.raises(RuntimeError, match="first heartbeat"):
        clock.now()


def test_time_runs_on_between_samples(clock: PoolClock, hand: Hand) -> None:
    clock.sample(START, sent=hand.at, received=hand.at)
    hand.at += 2.5
    assert clock.now() == START + timedelta(seconds=2.5)


def test_the_estimate_is_never_ahead_of_the_server(clock: PoolClock, hand: Hand) -> None:
    server_is_ahead_by = timedelta(seconds=0.3)  # the way back took that long
    clock.sample(START, sent=hand.at - 0.4, received=hand.at)
    assert clock.now() <= START + server_is_ahead_by


def test_the_best_round_trip_of_three_is_used(clock: PoolClock, hand: Hand) -> None:
    clock.sample(START, sent=100.0, received=100.001)
    clock.sample(START + timedelta(seconds=1), sent=101.0, received=101.2)
    hand.at = 101.2
    assert clock.now() == START + timedelta(seconds=1.199)
    for second in (2, 3):
        clock.sample(START + timedelta(seconds=second), sent=100.0 + second, received=100.05 + second)
    hand.at = 103.05
    assert clock.now() == START + timedelta(seconds=3)


@pytest.mark.parametrize("step", [-30.0, 30.0])
def test_a_step_of_the_servers_clock_is_followed_at_once(clock: PoolClock, hand: Hand, step: float) -> None:
    clock.sample(START, sent=100.0, received=100.001)
    stepped = START + timedelta(seconds=1 + step)
    clock.sample(stepped, sent=101.0, received=101.5)
    hand.at = 101.5
    assert clock.now() == stepped
    assert clock.steps == 1


def test_a_slow_answer_is_no_step(clock: PoolClock) -> None:
    clock.sample(START, sent=100.0, received=100.001)
    clock.sample(START + timedelta(seconds=1), sent=100.9, received=103.0)
    assert clock.steps == 0
