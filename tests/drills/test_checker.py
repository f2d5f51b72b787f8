from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.drills.checker import Arrival, judge, percentile
from tests.drills.oracle import Cron, Every, dues

ANCHOR = 1_800_000_000_123
UNTIL = ANCHOR + 10_000
SCHEDULE = {"second": Every(1), "third": Every(3)}


def good() -> list[Arrival]:
    return [
        Arrival(name, due, f"{name}@{due}", (due + 4) * 1000)
        for name, rule in SCHEDULE.items()
        for due in dues(rule, anchor=ANCHOR, until=UNTIL)
    ]


def sent(entry: str, due: int | None, *, at: int, task_id: str = "x") -> Arrival:
    return Arrival(entry, due, task_id, at * 1000)


def test_a_faultless_history_has_no_problems() -> None:
    verdict = judge(SCHEDULE, good(), anchor=ANCHOR, until=UNTIL)
    assert verdict.expected == verdict.arrived == 13
    assert verdict.problems(bound=4) == []
    assert (verdict.worst_lag, verdict.lag(99)) == (4, 4)


def lose_one(history: list[Arrival]) -> None:
    history.pop(5)


def lose_the_last(history: list[Arrival]) -> None:
    history.pop()


def repeat_one(history: list[Arrival]) -> None:
    history.append(history[2])


def repeat_under_another_id(history: list[Arrival]) -> None:
    history.append(sent("second", ANCHOR + 3000, at=ANCHOR + 3500))


def repeat_after_the_judged_time(history: list[Arrival]) -> None:
    history += [sent("second", UNTIL + 1000, at=UNTIL + 1002, task_id=task_id) for task_id in "ab"]


def come_early(history: list[Arrival]) -> None:
    history[3] = sent("second", ANCHOR + 4000, at=ANCHOR + 3999)


def come_off_the_grid(history: list[Arrival]) -> None:
    history.append(sent("third", ANCHOR + 4000, at=ANCHOR + 4001))


def come_at_the_anchor(history: list[Arrival]) -> None:
    history.insert(0, sent("second", ANCHOR, at=ANCHOR + 1))


def come_from_no_entry(history: list[Arrival]) -> None:
    history.append(sent("fourth", ANCHOR + 4000, at=ANCHOR + 4001))


def come_without_a_due(history: list[Arrival]) -> None:
    history.append(sent("second", None, at=ANCHOR + 4001))


def come_from_far_ahead(history: list[Arrival]) -> None:
    history.append(sent("second", ANCHOR + 10**12, at=ANCHOR + 4001))


def come_in_the_wrong_order(history: list[Arrival]) -> None:
    history[3] = sent("second", ANCHOR + 4000, at=ANCHOR + 5500)


def come_late(history: list[Arrival]) -> None:
    history[3] = sent("second", ANCHOR + 4000, at=ANCHOR + 4900)


@pytest.mark.parametrize(
    "spoil, finding",
    [
        (lose_one, "1 lost"),
        (lose_the_last, "1 lost"),
        (repeat_one, "1 doubled with the same id"),
        (repeat_under_another_id, "1 doubled with another id"),
        (repeat_after_the_judged_time, "1 doubled with another id"),
        (come_early, "1 early"),
        (come_off_the_grid, "1 phantom"),
        (come_at_the_anchor, "1 phantom"),
        (come_from_no_entry, "1 phantom"),
        (come_without_a_due, "1 phantom"),
        (come_from_far_ahead, "1 phantom"),
        (come_in_the_wrong_order, "1 out of order"),
        (come_late, "1 later than 50 ms"),
    ],
)
def test_each_fault_is_found(spoil: Callable[[list[Arrival]], None], finding: str) -> None:
    history = good()
    spoil(history)
    found = judge(SCHEDULE, history, anchor=ANCHOR, until=UNTIL).problems(bound=50)
    assert any(problem.startswith(finding) for problem in found), found


def test_what_is_due_after_the_judged_time_is_not_lost() -> None:
    verdict = judge(SCHEDULE, good(), anchor=ANCHOR, until=UNTIL - 2000)
    assert verdict.problems(bound=4) == []


def test_lag_is_judged_in_its_window_only() -> None:
    history = good()
    come_late(history)
    after = judge(SCHEDULE, history, anchor=ANCHOR, until=UNTIL, lag_from=ANCHOR + 4001)
    before = judge(SCHEDULE, history, anchor=ANCHOR, until=UNTIL, lag_until=ANCHOR + 3999)
    assert after.problems(bound=50) == before.problems(bound=50) == []


def test_a_judgement_of_nothing_is_a_problem() -> None:
    assert judge(SCHEDULE, [], anchor=ANCHOR, until=ANCHOR).problems()


def test_relative_intervals_are_cut_to_their_unit() -> None:
    second = 1_800_000_000_000
    assert dues(Every(2, relative=True), anchor=ANCHOR, until=second + 6000) == [
        second + 2000, second + 4000, second + 6000,
    ]  # fmt: skip
    minute = second - second % 60_000
    assert dues(Every(60, relative=True), anchor=ANCHOR, until=minute + 120_000) == [
        minute + 60_000, minute + 120_000,
    ]  # fmt: skip


def test_crontabs_are_read_in_their_zone() -> None:
    day = 86_400_000
    midnight = 1_800_000_000_000 // day * day
    tokyo = dues(Cron("0 9 * * *", "Asia/Tokyo"), anchor=midnight + 1, until=midnight + 2 * day)
    assert tokyo == [midnight + day, midnight + 2 * day]


def test_percentiles_are_by_nearest_rank() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], at) for at in (0, 25, 50, 99, 100)] == [1, 1, 2, 4, 4]
