"""Targets, tables and plots from the figures of a run."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.figures import Burst
from benchmarks.report import grids, markdown, write
from benchmarks.results import Change, Followed, Idle, Results, Start, Steady, Storm, Work
from benchmarks.targets import TARGETS, Finding, judged
from benchmarks.words import number


def storm(
    product: str,
    rate: float,
    *,
    entries: int = 1_000,
    nodes: int = 1,
    kind: str = "interval",
    fired: int | None = None,
    twice: int = 0,
    cpu_us: float = 20.0,
    bare: float | None = None,
) -> Storm:
    fired = entries if fired is None else fired
    burst = Burst(fired, entries, fired / rate, fired / rate, 0.0)
    return Storm(
        product,
        kind,
        nodes,
        entries,
        burst,
        fired,
        twice,
        cpu_us * fired / 1e6,
        bare,
        [(0.0, 0.0), (1.0, fired)],
    )


def verdicts(results: Results) -> dict[tuple[str, str], str]:
    return {(target.case, target.wanted): target.verdict(found) for target, found in judged(results)}


def test_a_run_of_nothing_reaches_no_target_and_says_that_it_measured_none() -> None:
    assert set(verdicts(Results()).values()) == {"not measured"}


def test_a_ratio_to_stock_beat_of_the_same_run_is_judged() -> None:
    results = Results([storm("celery-dispatch", 30_000), storm("stock beat", 600), storm("RedBeat", 2_000)])
    found = verdicts(results)
    assert found["storm, 1 node, N = 1,000", "30 times stock beat's rate"] == "reached"
    assert found["storm, 1 node, N = 1,000", "20 times RedBeat's"] == "missed by a factor of 1.3"


@pytest.mark.parametrize("wrong", [{"fired": 999}, {"twice": 1}])
def test_a_fast_storm_that_lost_or_doubled_something_has_missed(wrong: dict[str, int]) -> None:
    results = Results([storm("celery-dispatch", 90_000, **wrong), storm("stock beat", 600)])
    found = verdicts(results)["storm, 1 node, N = 1,000", "30 times stock beat's rate"]
    assert found == "missed: not all was fired, once"


def test_a_limit_is_missed_from_above() -> None:
    target = next(it for it in TARGETS if it.case == "idle, 100,000 entries: CPU")
    assert target.verdict(Finding(0.009, "")) == "reached"
    assert target.verdict(Finding(0.03, "")) == "missed by a factor of 3"


def test_the_worst_of_several_starts_counts() -> None:
    starts = [Start(100_000, 1, 4.0, 9.0), Start(100_000, 2, 4.0, 4.5), Start(100_000, 3, 4.0, 6.0)]
    found = verdicts(Results(starts=starts))
    assert found["start with 100,000 entries, first node", "10 s at most"] == "reached"
    assert found["start with 100,000 entries, further nodes", "5 s at most"] == "missed by a factor of 1.2"


def test_cpu_and_nodes_are_compared_within_the_run() -> None:
    results = Results(
        [
            storm("celery-dispatch", 30_000, cpu_us=20),
            storm("celery-dispatch", 30_000, entries=100_000, cpu_us=28, bare=100_000),
            storm("celery-dispatch", 40_000, entries=100_000, nodes=2),
            storm("celery-dispatch", 14_000, entries=100_000, kind="crontab"),
        ]
    )
    found = {case: verdict for (case, _), verdict in verdicts(results).items()}
    assert found["CPU per occurrence, N = 100,000 against 1,000"] == "missed by a factor of 1.1"
    assert found["2 nodes against 1, N = 100,000"] == "reached"
    assert found["the same, 100,000 distinct crontabs"] == "missed by a factor of 1.1"
    assert found["storm, 1 node, N = 100,000, intervals"] == "reached"


@pytest.fixture
def everything() -> Results:
    return Results(
        storms=[
            storm("celery-dispatch", 30_000, bare=100_000),
            storm("celery-dispatch", 34_000, bare=100_000),
            storm("celery-dispatch", 20_000, kind="crontab"),
            storm("stock beat", 5.0, fired=50),
        ],
        steady=[
            Steady(4_800, 5_000, 30, 5_010, 0.002, 0.01, 0.05, 0, 0.3, 0.1, [(0.0, 0.001), (100.0, 0.05)])
        ],
        idle=[Idle(100_000, 30, 0.005, 0.002, 120, 180_000_000, 90_000_000)],
        starts=[Start(100_000, 1, 5, 9)],
        changes=[Change("join", 100_000, 0.1, 4.0, 3.8, True, 0, [(0.0, 0.0), (4.0, 1e5)], [(1.0, 3e4)])],
        troubles={"a step": "the server did not start"},
    )


def test_the_table_has_middle_and_spread_and_what_was_stopped(everything: Results) -> None:
    text = markdown(everything)
    assert "| celery-dispatch, intervals | 1 | 1,000 | 32,000 (30,000\N{EN DASH}34,000) |" in text
    assert "| 50: bound reached |" in text
    assert "the server did not start" in text
    assert text.index("What it must reach") > text.index("Join and kill")


def test_every_row_has_a_cell_for_each_column(everything: Results) -> None:
    for grid in grids(everything):
        assert {len(row) for row in grid.rows} == {len(grid.heads)}, grid.title


def test_a_run_is_written_as_json_markdown_and_plots(everything: Results, tmp_path: Path) -> None:
    write(everything, tmp_path / "out")
    assert json.loads((tmp_path / "out/results.json").read_text())["starts"][0]["number"] == 1
    plots = {path.stem for path in (tmp_path / "out").glob("*.svg")}
    assert plots == {"storms", "burst", "steady", "changes"}
    for path in (tmp_path / "out").glob("*.svg"):
        ElementTree.parse(path)


def test_plots_of_what_was_not_measured_are_left_out(tmp_path: Path) -> None:
    write(Results(starts=[Start(5, 1, 1, 2)]), tmp_path)
    assert not list(tmp_path.glob("*.svg"))


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (0.01234, "0.0123"), (9.996, "10.00"), (32_123, "32,100"), (1.5, "1.50"), (float("inf"), "∞")],
)
def test_figures_have_three_digits_that_count(value: float, words: str) -> None:
    assert number(value) == words


def test_work_on_entries_made_at_run_time_is_judged_by_its_longest_command() -> None:
    results = Results()
    results.add([Work("create 10,000 in one call", 90_000, 1.5, 0.002, 0.004, "EVALSHA", 0.5)])
    results.add([Work("backup", 100_000, 1.0, 0.002, 0.02, "HSCAN", 0.1)])
    results.add([Followed(True, 30, 0.03, 0.05), Followed(False, 30, 0.3, 0.6)])
    found = verdicts(results)
    assert found["10,000 entries created in one call", "2 s at most"] == "reached"
    assert (
        found["100,000 entries made at run time: Redis", "no command over 10 ms"] == "missed by a factor of 2"
    )
    assert found["a change is followed by each node", "100 ms at most"] == "reached"
    assert found["the same, its notification lost", "1 s at most"] == "reached"
    titles = [grid.title for grid in grids(results)]
    assert titles[:2] == [
        "Entries made at run time",
        "From the answer to a change to the first message by it, due every 50 ms",
    ]
