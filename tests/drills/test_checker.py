from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.drills.checker import Arrival, Verdict, judge, judge_eras, percentile
from tests.drills.oracle import Cron, Era, Every, dues, expected_of

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


def come_from_before_the_schedule(history: list[Arrival]) -> None:
    history.insert(0, sent("second", ANCHOR - 1000, at=ANCHOR + 1))


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
        (come_off_the_grid, "1 off the grid"),
        (come_at_the_anchor, "1 off the grid"),
        (come_from_before_the_schedule, "1 phantom"),
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
    bound = 50 if spoil is come_late else None
    found = judge(SCHEDULE, history, anchor=ANCHOR, until=UNTIL).problems(bound=bound)
    assert [problem.split(",")[0].split(";")[0] for problem in found] == [finding], found


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


# --- configs that follow each other -------------------------------------------------------------------------

DEPLOYED = ANCHOR + 4_300
ROLLED_BACK = ANCHOR + 8_000
OLD = {"kept": Every(1), "slowed": Every(1), "removed": Every(1), "moved": Every(2)}
NEW = {"kept": Every(1), "slowed": Every(3), "added": Every(1), "moved": Every(2)}
ERAS = (
    Era(ANCHOR, OLD),
    Era(DEPLOYED, NEW, {"moved": "fresh"}),
    Era(ROLLED_BACK, OLD),
)


def offsets(name: str) -> list[int]:
    found = expected_of(ERAS, until=ANCHOR + 11_000)
    return sorted(due - ANCHOR for entry, due in found if entry == name)


def test_an_entry_that_is_not_changed_keeps_its_grid_over_a_deploy() -> None:
    assert offsets("kept") == [1000 * second for second in range(1, 12)]


def test_an_entry_whose_interval_changed_goes_on_from_its_last_due() -> None:
    assert offsets("slowed") == [1000, 2000, 3000, 4000, 7000, 8000, 9000, 10_000, 11_000]


def test_an_entry_that_is_added_begins_at_the_switch_and_ends_with_its_config() -> None:
    assert offsets("added") == [5300, 6300, 7300]


def test_an_entry_that_is_removed_comes_back_on_its_grid() -> None:
    assert offsets("removed") == [1000, 2000, 3000, 4000, 8000, 9000, 10_000, 11_000]


def test_what_is_due_at_the_very_switch_belongs_to_the_new_config() -> None:
    found = expected_of(ERAS, until=ROLLED_BACK)
    assert found["kept", ROLLED_BACK] is ERAS[2]
    assert found["kept", ROLLED_BACK - 1000] is ERAS[1]


def test_what_nobody_fired_does_not_move_the_grid_of_a_changed_interval() -> None:
    found = expected_of(ERAS, until=ANCHOR + 7_000, excused={("slowed", ANCHOR + 4000)})
    assert ("slowed", ANCHOR + 6000) in found
    assert ("slowed", ANCHOR + 7000) not in found


def deployed() -> list[Arrival]:
    return [
        Arrival(name, due, f"{name}@{due}", (due + 4) * 1000, queue=era.queue(name))
        for (name, due), era in expected_of(ERAS, until=UNTIL).items()
    ]


def verdict_of(history: list[Arrival]) -> Verdict:
    return judge_eras(ERAS, history, until=UNTIL)


def test_a_faultless_deploy_and_rollback_has_no_problems() -> None:
    assert verdict_of(deployed()).problems(bound=4) == []


def of(name: str, offset: int, *, queue: str = "celery") -> Arrival:
    due = ANCHOR + offset
    return Arrival(name, due, f"{name}@{due}", (due + 4) * 1000, queue=queue)


def without(history: list[Arrival], name: str, offset: int) -> None:
    history[:] = [it for it in history if (it.entry, it.due) != (name, ANCHOR + offset)]


def fire_a_removed_entry(history: list[Arrival]) -> None:
    history.append(of("removed", 5000))


def fire_an_added_entry_too_soon(history: list[Arrival]) -> None:
    history.append(of("added", 4300))


def fire_an_added_entry_after_the_rollback(history: list[Arrival]) -> None:
    history.append(of("added", 8300))


def keep_the_old_interval(history: list[Arrival]) -> None:
    history.append(of("slowed", 5000))


def skip_the_last_of_the_old_config(history: list[Arrival]) -> None:
    without(history, "removed", 4000)


def begin_late(history: list[Arrival]) -> None:
    without(history, "added", 5300)


def send_the_new_way_too_soon(history: list[Arrival]) -> None:
    without(history, "moved", 4000)
    history.append(of("moved", 4000, queue="fresh"))


def send_the_old_way(history: list[Arrival]) -> None:
    without(history, "moved", 6000)
    history.append(of("moved", 6000))


def fire_under_both_configs(history: list[Arrival]) -> None:
    history.append(of("kept", 5000))


@pytest.mark.parametrize(
    "spoil, finding",
    [
        (fire_a_removed_entry, "1 phantom"),
        (fire_an_added_entry_too_soon, "1 off the grid"),
        (fire_an_added_entry_after_the_rollback, "1 phantom"),
        (keep_the_old_interval, "1 off the grid"),
        (skip_the_last_of_the_old_config, "1 lost"),
        (begin_late, "1 lost"),
        (send_the_new_way_too_soon, "1 on the wrong queue"),
        (send_the_old_way, "1 on the wrong queue"),
        (fire_under_both_configs, "1 doubled with the same id"),
    ],
)
def test_each_fault_of_a_deploy_is_found(spoil: Callable[[list[Arrival]], None], finding: str) -> None:
    history = deployed()
    spoil(history)
    found = verdict_of(history).problems(bound=50)
    assert [problem.split(",")[0] for problem in found] == [finding], found


# --- what may happen ----------------------------------------------------------------------------------------


def test_a_repeat_is_forgiven_only_where_it_may_happen_and_only_under_one_id() -> None:
    history = good()
    repeat_one(history)
    again = judge(SCHEDULE, history, anchor=ANCHOR, until=UNTIL)
    assert again.problems(may_repeat=True, may_overtake=True) == []
    assert again.problems(may_overtake=True) != []
    repeat_under_another_id(history)
    other = judge(SCHEDULE, history, anchor=ANCHOR, until=UNTIL)
    assert len(other.problems(may_repeat=True, may_overtake=True)) == 1


def test_overtaking_is_forgiven_only_where_it_may_happen() -> None:
    history = good()
    come_in_the_wrong_order(history)
    verdict = judge(SCHEDULE, history, anchor=ANCHOR, until=UNTIL)
    assert (len(verdict.problems()), verdict.problems(may_overtake=True)) == (1, [])


def test_only_the_excused_occurrences_may_be_lost_or_doubled() -> None:
    history = good()
    lost = history.pop(5)
    repeat_one(history)
    occurrences = {(it.entry, it.due or 0) for it in (lost, history[2])}
    era = Era(ANCHOR, SCHEDULE)
    excused = judge_eras([era], history, until=UNTIL, excused=occurrences)
    assert (set(excused.excused), excused.lost, excused.doubled) == (occurrences, (), ())
    other = judge_eras([era], history, until=UNTIL, excused={("second", ANCHOR + 9000)})
    assert (other.excused, len(other.lost), len(other.doubled)) == ((), 1, 1)


def test_what_is_excused_may_not_be_anything_but_lost_or_doubled() -> None:
    history = good()
    come_early(history)
    verdict = judge_eras(
        [Era(ANCHOR, SCHEDULE)], history, until=UNTIL, excused={("second", ANCHOR + 4000)}
    )  # fmt: skip
    assert len(verdict.early) == 1


def test_an_entry_apart_is_judged_by_its_own_bound_and_the_others_by_theirs() -> None:
    history = good()
    come_late(history)
    verdict = judge_eras([Era(ANCHOR, SCHEDULE)], history, until=UNTIL, apart={"second"})
    assert verdict.problems(bound=4, bounds={"second": 900}) == []
    (late,) = verdict.problems(bound=4, bounds={"second": 899})
    assert late.startswith("1 later than its entry may be")
    assert len(verdict.problems(bound=3, bounds={"second": 900})) == 1
