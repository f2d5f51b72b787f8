"""What a node counts, and what of it goes to the pool and into the log."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from celery_dispatch.core.report import LAG_BOUNDS, ErrorKind, NodeReport, Skip
from celery_dispatch.report_lines import ReportLines

MINUTE = timedelta(minutes=1)


@pytest.fixture
def report() -> NodeReport:
    return NodeReport({"pid": 7})


def ms(milliseconds: float) -> timedelta:
    return timedelta(milliseconds=milliseconds)


# --- counting -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lag", "bucket"),
    [
        (ms(0), 0),
        (ms(5), 0),
        (ms(5.001), 1),
        (ms(999), 8),
        (timedelta(hours=1), 15),
        (timedelta(hours=2), 16),
    ],
)
def test_lag_falls_into_the_bucket_whose_bound_it_does_not_exceed(
    report: NodeReport, lag: timedelta, bucket: int
) -> None:
    report.fire(lag, helped=False)
    counts = [0] * (len(LAG_BOUNDS) + 1)
    counts[bucket] = 1
    assert report.lags.counts == tuple(counts)
    assert report.lags.total == lag.total_seconds()


def test_a_lag_below_zero_counts_as_none(report: NodeReport) -> None:
    report.fire(ms(-3), helped=False)
    assert (report.lags.counts[0], report.lags.total) == (1, 0.0)


def test_only_what_was_fired_as_standby_is_a_takeover(report: NodeReport) -> None:
    report.fire(ms(1), helped=False)
    report.fire(ms(600), helped=True)
    assert (report.fired, report.takeovers) == (2, 1)


def test_what_is_fired_counts_from_the_beginning_of_its_turn(report: NodeReport) -> None:
    report.turned(10.0)
    assert report.last_fire is None
    report.fire(ms(1), helped=False)
    report.turned(11.0)
    assert (report.turns, report.last_turn, report.last_fire) == (2, 11.0, 10.0)


def test_skips_are_counted_in_all_and_by_reason(report: NodeReport) -> None:
    report.skip(3, Skip.LATE)
    report.skip(1, Skip.DROPPED)
    assert report.skipped == 4
    assert report.skips == {Skip.LATE: 3, Skip.WINDOW: 0, Skip.DROPPED: 1, Skip.PAUSED: 0, Skip.LEFT: 0}


def test_an_entry_in_error_is_news_once_and_counts_each_time(report: NodeReport) -> None:
    assert [report.error("a", "no route"), report.error("a", "no route"), report.error("a", "no queue")] == [
        True, False, True,
    ]  # fmt: skip
    assert (report.entries_in_error, report.failures[ErrorKind.ENTRY]) == (1, 3)
    assert [report.well("a"), report.well("a")] == [True, False]
    assert (report.entries_in_error, report.failures[ErrorKind.ENTRY]) == (0, 3)


def test_what_was_read_does_not_change_afterwards(report: NodeReport) -> None:
    skips, failures, lags = report.skips, report.failures, report.lags
    report.skip(1, Skip.LATE)
    report.count_error(ErrorKind.STORE)
    report.fire(ms(1), helped=False)
    assert (sum(skips.values()), sum(failures.values()), sum(lags.counts)) == (0, 0, 0)


# --- what goes to the pool ----------------------------------------------------------------------------------


def test_snapshot_is_json_and_says_what_the_commands_show(report: NodeReport) -> None:
    report.owned, report.standby, report.loading, report.open_intents = 5, 4, 1, 2
    for lag in (1, 9, 2):
        report.fire(ms(lag), helped=lag == 9)
    report.skip(2, Skip.WINDOW)
    report.claim_lost()
    report.error("a", "x" * 1_000)
    report.recovery(datetime(2030, 1, 1, tzinfo=timezone.utc))
    report.followed(12, run_time=6)
    report.outage = "Redis is away"
    assert json.loads(json.dumps(report.snapshot())) == {
        "pid": 7,
        "recovered": "2030-01-01T00:00:00+00:00",
        "entries": 5,
        "run_time": 6,
        "catalog": 12,
        "standby": 4,
        "loading": 1,
        "fired": 3,
        "skipped": 2,
        "lost": 1,
        "takeovers": 1,
        "open_intents": 2,
        "lag": {"p50": 2.0, "max": 9.0},
        "errors": {"a": "x" * 500},
        "error_count": 1,
        "outage": "Redis is away",
    }


def test_snapshot_of_a_node_that_fired_nothing_has_no_lag(report: NodeReport) -> None:
    assert report.snapshot()["lag"] is None


def test_a_broker_that_is_away_is_an_outage_in_the_snapshot(report: NodeReport) -> None:
    report.broker_outage = "no broker"
    assert report.snapshot()["outage"] == "no broker"


# --- what goes into the log ---------------------------------------------------------------------------------


def test_log_line_comes_once_an_interval_and_covers_what_happened_since_the_last(report: NodeReport) -> None:
    lines = ReportLines(report, MINUTE, node="a-1")
    report.owned, report.standby = 1_200, 900
    assert lines.line(100.0) is None
    for _ in range(1_204):
        report.fire(ms(4), helped=False)
    assert lines.line(159.9) is None
    assert lines.line(160.0) == (
        "Node a-1, last 60 s: fired 1,204; lag 50 % within 5 ms, 99 % within 5 ms; "
        "owner of 1,200 entries, standby of 900"
    )
    assert lines.line(160.1) is None
    assert lines.line(221.0) == "Node a-1, last 61 s: fired 0; owner of 1,200 entries, standby of 900"


def test_log_line_names_all_that_is_unusual(report: NodeReport) -> None:
    lines = ReportLines(report, MINUTE, node="a-1")
    lines.line(0.0)
    for _ in range(98):
        report.fire(ms(1), helped=False)
    for _ in range(2):
        report.fire(timedelta(seconds=2), helped=True)
    report.skip(2, Skip.LATE)
    report.skip(1, Skip.WINDOW)
    report.claim_lost()
    report.taken_over(4)
    report.recovery(datetime(2030, 1, 1, tzinfo=timezone.utc))
    report.count_error(ErrorKind.STORE)
    report.error("a", "no route")
    report.open_intents = 3
    report.outage = "the broker is away"
    assert lines.line(60.0) == (
        "Node a-1, last 60 s: fired 100 (2 as standby); lag 50 % within 5 ms, 99 % within 2.5 s; "
        "skipped 3 (late 2, window 1); claims lost 1; intents taken over 4; recoveries 1; "
        "errors 2 (entry 1, store 1); owner of 0 entries, standby of 0; in error 1; open intents 3; "
        "fires nothing now: the broker is away"
    )


def test_bound_in_the_log_line_is_one_that_so_many_keep_and_no_wider(report: NodeReport) -> None:
    lines = ReportLines(report, MINUTE, node="a-1")
    lines.line(0.0)
    for lag in (ms(4), ms(800)):
        report.fire(lag, helped=False)
    assert "lag 50 % within 5 ms, 99 % within 1 s;" in (lines.line(60.0) or "")


def test_log_line_says_when_the_lag_is_beyond_all_bounds(report: NodeReport) -> None:
    lines = ReportLines(report, MINUTE, node="a-1")
    lines.line(0.0)
    report.fire(timedelta(hours=3), helped=False)
    assert "50 % within more than 3600 s" in (lines.line(60.0) or "")


def test_without_an_interval_there_is_no_log_line(report: NodeReport) -> None:
    lines = ReportLines(report, None, node="a-1")
    assert [lines.line(0.0), lines.line(1e9)] == [None, None]
