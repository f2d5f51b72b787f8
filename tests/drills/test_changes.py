"""Histories that are right, and wrong in each way, of entries that are changed while they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.drills.changes import Change, ChangeVerdict, judge_changes
from tests.drills.checker import Arrival
from tests.drills.oracle import Clock

T = 1_800_000_000_000  # a whole second
SECOND, TWO = Clock(1), Clock(2)
HANDOVER = 500
CREATED = Change("report", SECOND, T + 100, T + 150)
REMOVED = Change("report", None, T + 10_100, T + 10_150)


def sent(*seconds: int, entry: str = "report", late: float = 5) -> list[Arrival]:
    return [
        Arrival(entry, T + 1000 * second, f"{entry}-{second}", round(T * 1000 + second * 1e6 + late * 1000))
        for second in seconds
    ]


def judged(changes: Sequence[Change], arrivals: Sequence[Arrival]) -> ChangeVerdict:
    return judge_changes(changes, arrivals, until=T + 20_500, handover=HANDOVER)


def test_an_entry_that_was_created_and_removed_is_sent_in_between() -> None:
    verdict = judged([CREATED, REMOVED], sent(*range(1, 11)))
    assert verdict.problems == []
    assert (verdict.must, verdict.may, verdict.sent) == (9, 1, 1)


def test_what_was_due_between_two_changes_and_did_not_come_is_lost() -> None:
    assert judged([CREATED, REMOVED], sent(*range(1, 5), *range(6, 11))).lost == (("report", T + 5000),)


def test_what_is_due_just_before_a_removal_may_come_or_not() -> None:
    assert judged([CREATED, REMOVED], sent(*range(1, 10))).problems == []


def test_what_was_due_after_an_acknowledged_removal_is_a_phantom() -> None:
    verdict = judged([CREATED, REMOVED], sent(*range(1, 12)))
    assert [it.due for it in verdict.phantom] == [T + 11_000]


def test_what_was_due_before_a_removal_and_comes_long_after_it_is_a_phantom() -> None:
    late = sent(10, late=700)
    assert judged([CREATED, REMOVED], [*sent(*range(1, 10)), *late]).phantom == tuple(late)


def test_after_a_removal_whose_outcome_is_unknown_everything_may_come() -> None:
    unknown = replace(REMOVED, answered=None)
    for arrivals in (sent(*range(1, 11)), sent(*range(1, 21)), sent(*range(1, 15))):
        verdict = judged([CREATED, unknown], arrivals)
        assert verdict.problems == []
    assert judged([CREATED, unknown], sent(*range(1, 5), *range(6, 21))).lost == (("report", T + 5000),)


def test_nothing_comes_once_a_repeated_removal_was_acknowledged() -> None:
    unknown, again = replace(REMOVED, answered=None), Change("report", None, T + 15_100, T + 15_150)
    assert judged([CREATED, unknown, again], sent(*range(1, 16))).problems == []
    verdict = judged([CREATED, unknown, again], sent(*range(1, 17)))
    assert [it.due for it in verdict.phantom] == [T + 16_000]


def test_an_entry_whose_creation_is_unknown_may_come() -> None:
    unknown = replace(CREATED, answered=None)
    other = Change("other", SECOND, T + 100, T + 150)
    for arrivals in ([], sent(4, 5), sent(*range(1, 21))):
        verdict = judged([unknown, other], [*arrivals, *sent(*range(1, 21), entry="other")])
        assert verdict.problems == []


def test_an_update_ends_the_old_schedule_and_begins_the_new_one() -> None:
    update = Change("report", TWO, T + 10_100, T + 10_150)
    assert judged([CREATED, update], sent(*range(1, 11), 12, 14, 16, 18, 20)).problems == []
    assert [it.due for it in judged([CREATED, update], sent(*range(1, 21))).phantom] == [
        T + 1000 * second for second in (11, 13, 15, 17, 19)
    ]


def test_a_paused_entry_that_is_resumed_is_sent_again() -> None:
    resumed = Change("report", SECOND, T + 15_100, T + 15_150)
    changes = [CREATED, REMOVED, resumed]
    assert judged(changes, sent(*range(1, 11), *range(16, 21))).problems == []
    assert judged(changes, sent(*range(1, 11), *range(17, 21))).lost == (("report", T + 16_000),)
    assert [it.due for it in judged(changes, sent(*range(1, 11), *range(13, 21))).phantom] == [
        T + 13_000, T + 14_000, T + 15_000,
    ]  # fmt: skip


@pytest.mark.parametrize("twice", [sent(3), [replace(sent(3)[0], task_id="other")]])
def test_an_occurrence_that_comes_twice_is_doubled(twice: list[Arrival]) -> None:
    assert judged([CREATED, REMOVED], [*sent(*range(1, 11)), *twice]).doubled == (("report", T + 3000),)


def test_a_message_before_its_due_is_early() -> None:
    verdict = judged([CREATED, REMOVED], [*sent(1, 2, *range(4, 11)), *sent(3, late=-20)])
    assert [it.due for it in verdict.early] == [T + 3000]


def test_a_message_of_nothing_is_a_phantom() -> None:
    strays = [*sent(3, entry="stranger"), replace(sent(3)[0], due=None), replace(sent(3)[0], due=T + 3500)]
    strays[2] = replace(strays[2], at=(T + 3510) * 1000)
    verdict = judged([CREATED, REMOVED], [*sent(*range(1, 11)), *strays])
    assert {it.due for it in verdict.phantom} == {T + 3000, None, T + 3500}


def test_a_history_in_which_nothing_had_to_come_is_no_proof() -> None:
    assert judged([replace(CREATED, answered=None)], sent(1)).problems == [
        "nothing had to be sent, so nothing was judged"
    ]
