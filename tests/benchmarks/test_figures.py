"""The arithmetic of the benchmarks: spreads, ratios, bursts and arrivals."""

from __future__ import annotations

import math

import pytest

from benchmarks.figures import Burst, Ratio, Sample, Spread, accounted, arrivals, longest_pause


def samples(*pairs: tuple[float, int]) -> list[Sample]:
    return [Sample(at, length) for at, length in pairs]


def test_a_spread_is_the_middle_and_both_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 9.0]) == Spread(2.5, 1.0, 9.0, 4)


def test_no_runs_have_no_spread() -> None:
    with pytest.raises(ValueError, match="no runs"):
        Spread.of([])


def test_a_ratio_spans_the_worst_and_the_best_pair_of_runs() -> None:
    ratio = Ratio.of(Spread.of([80.0, 100.0, 120.0]), Spread.of([4.0, 5.0, 6.0]))
    assert (ratio.middle, ratio.low, ratio.high) == (20.0, 80 / 6, 30.0)


def test_anything_over_nothing_is_infinite_and_nothing_over_nothing_is_unknown() -> None:
    nothing = Spread.of([0.0])
    assert Ratio.of(Spread.of([5.0]), nothing).middle == math.inf
    assert math.isnan(Ratio.of(nothing, nothing).middle)


def test_a_burst_counts_from_the_due_to_the_first_sample_that_shows_all() -> None:
    burst = Burst.of(samples((9.9, 0), (10.1, 0), (10.2, 40), (10.5, 100), (10.6, 100)), due=10.0, wanted=100)
    assert burst.finished
    assert burst.to_last == pytest.approx(0.5)
    assert burst.rate == pytest.approx(200)


def test_from_first_to_last_begins_with_the_last_sample_before_any_message() -> None:
    burst = Burst.of(samples((9.9, 0), (10.1, 0), (10.2, 40), (10.5, 100)), due=10.0, wanted=100)
    assert burst.between == pytest.approx(0.4)
    assert burst.rate_between == pytest.approx(250)


def test_a_burst_that_began_between_two_samples_began_at_its_due() -> None:
    burst = Burst.of(samples((9.9, 0), (10.3, 100)), due=10.0, wanted=100)
    assert burst.between == pytest.approx(0.3)


def test_a_burst_that_was_stopped_has_the_rate_up_to_the_bound() -> None:
    burst = Burst.of(samples((9.9, 0), (10.2, 4), (20.0, 50)), due=10.0, wanted=100)
    assert not burst.finished
    assert (burst.fired, burst.to_last, burst.rate) == (50, pytest.approx(10.0), pytest.approx(5.0))


def test_a_burst_of_which_nothing_came_has_the_rate_zero() -> None:
    burst = Burst.of(samples((20.0, 0)), due=10.0, wanted=100)
    assert (burst.rate, burst.rate_between, burst.pause) == (0.0, math.inf if burst.fired else 0.0, 0.0)


def test_messages_that_came_too_many_do_not_raise_the_rate() -> None:
    burst = Burst.of(samples((9.9, 0), (11.0, 130)), due=10.0, wanted=100)
    assert (burst.fired, burst.rate) == (100, pytest.approx(100.0))


def test_the_pause_of_a_burst_is_the_longest_time_without_a_message() -> None:
    found = samples((9.9, 0), (10.1, 10), (10.2, 10), (10.7, 60), (10.8, 100))
    assert Burst.of(found, due=10.0, wanted=100).pause == pytest.approx(0.6)


def test_what_follows_the_last_message_is_no_pause() -> None:
    assert longest_pause(samples((1.0, 5), (1.1, 10), (9.0, 10))) == 0.0


def test_a_message_arrived_with_the_first_sample_that_has_it() -> None:
    found = arrivals(samples((1.0, 0), (1.1, 2), (1.2, 2), (1.3, 5)), 4)
    assert found == [1.1, 1.1, 1.3, 1.3]


def test_messages_that_no_sample_shows_have_no_arrival() -> None:
    assert arrivals(samples((1.0, 1)), 4) == [1.0]


def test_a_message_that_an_earlier_storm_was_late_with_is_no_repeat() -> None:
    found = [("a", 10_000), ("a", 5_000), ("b", 5_000), ("c", 10_000)]
    assert accounted(found, 10.0) == (2, 0)


def test_the_same_occurrence_on_two_messages_is_a_repeat() -> None:
    assert accounted([("a", 10_000), ("a", 10_000), ("b", 10_000)], 10.0) == (2, 1)
