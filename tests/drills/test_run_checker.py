from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.drills.checker import Arrival
from tests.drills.run_checker import judge_runs

Runs = list[Arrival]


def message(number: int) -> Arrival:
    due = 1_800_000_000_000 + number * 1000
    return Arrival("second", due, f"id-{number}", due * 1000, headers={"dispatch_entry": "second"})


MESSAGES = [message(number) for number in range(5)]


def good() -> Runs:
    return [replace(sent, at=sent.at + 3000) for sent in MESSAGES]


def run_none(runs: Runs) -> None:
    runs.clear()


def leave_one_out(runs: Runs) -> None:
    runs.pop(2)


def run_one_twice(runs: Runs) -> None:
    runs.append(runs[2])


def run_what_nobody_sent(runs: Runs) -> None:
    runs.append(message(9))


def run_under_another_due(runs: Runs) -> None:
    runs[2] = replace(runs[2], due=(runs[2].due or 0) + 1000)


def run_under_another_name(runs: Runs) -> None:
    runs[2] = replace(runs[2], headers={"dispatch_entry": "third"})


def test_faultless_runs_have_no_problems() -> None:
    assert judge_runs(MESSAGES, good()).problems == []


@pytest.mark.parametrize(
    "spoil, finding",
    [
        (leave_one_out, "1 messages were not run"),
        (run_one_twice, "1 runs too many"),
        (run_what_nobody_sent, "1 runs of no message"),
        (run_under_another_due, "1 runs of another occurrence than the message's"),
        (run_under_another_name, "1 runs of another occurrence than the message's"),
    ],
)
def test_each_fault_of_a_worker_is_found(spoil: Callable[[Runs], None], finding: str) -> None:
    runs = good()
    spoil(runs)
    assert [problem.split(",")[0] for problem in judge_runs(MESSAGES, runs).problems] == [finding]


def test_a_worker_that_ran_nothing_shows_nothing() -> None:
    runs = good()
    run_none(runs)
    assert len(judge_runs(MESSAGES, runs).problems) == 2
    assert len(judge_runs([], runs).problems) == 1


def test_a_message_that_came_twice_is_to_be_run_twice() -> None:
    sent = [*MESSAGES, MESSAGES[2]]
    once, twice = good(), good()
    run_one_twice(twice)
    assert judge_runs(sent, twice).problems == []
    assert len(judge_runs(sent, once).unrun) == 1
