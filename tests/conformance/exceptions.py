"""The tests of Celery's that do not hold for this scheduler, each with the reason.

An exception whose test passes fails the run.  So does one whose test fails in another way than ``raises``,
and one that Celery has no test for: this list can only get shorter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from celery_dispatch.errors import ConfigError

__all__ = ["EXCEPTIONS", "Excepted", "excepted"]

_BEAT = "t/unit/app/test_beat.py"
_INTEGRATION = "t/integration/test_beat.py"
_NO_ADDING = (
    "The entries are those of beat_schedule: of one that a single beat is given while it runs, the others of "
    "the pool would not know.  add(), update_from_dict(), merge_inplace() and assigning schedule are refused."
)


@dataclass(frozen=True, slots=True)
class Excepted:
    """Tests of one module that fail for one reason, by an error of the class ``raises``.

    ``tests`` are names without parameters: all of a test's parameters fail.  ``since`` is the first Celery
    that has these tests, major and minor.
    """

    module: str
    tests: tuple[str, ...]
    reason: str
    raises: type[Exception] = ConfigError
    since: tuple[int, int] = (5, 5)

    def ids(self) -> Iterator[str]:
        return (f"{self.module}::{test}" for test in self.tests)


def excepted(modules: Collection[str], version: tuple[int, int]) -> dict[str, Excepted]:
    """What is excepted of ``modules`` in that Celery, by the tests' ids without parameters."""
    found = (one for one in EXCEPTIONS if one.module in modules and one.since <= version)
    return {test: one for one in found for test in one.ids()}


EXCEPTIONS = (
    Excepted(
        _BEAT,
        (
            "test_Scheduler::test_set_schedule",
            "test_Scheduler::test_merge_inplace",
            "test_Scheduler::test_due_tick",
            "test_Scheduler::test_due_tick_SchedulingError",
        ),
        _NO_ADDING,
    ),
    Excepted(
        _BEAT,
        ("test_Scheduler::test_install_default_entries",),
        "The backend's clean-up is read together with beat_schedule, under the condition that the test "
        "states; nothing is installed after that.  " + _NO_ADDING,
    ),
    Excepted(
        _BEAT,
        (
            "test_Scheduler::test_pending_tick",
            "test_Scheduler::test_pending_left_10_milliseconds_tick",
            "test_Scheduler::test_honors_max_interval",
            "test_Scheduler::test_ticks",
            "test_Scheduler::test_schedule_no_remain",
        ),
        "Wants tick() to return the time to wait.  It returns 0, for it has waited: inside, where a word "
        "from Redis ends the waiting.  " + _NO_ADDING,
    ),
    Excepted(
        _BEAT,
        (
            "test_Scheduler::test_ticks_microseconds",
            "test_Scheduler::test_ticks_schedule_change",
            "test_Scheduler::test_populate_heap",
        ),
        "Looks into stock beat's heap; here the next dues are in the node's timeline.  " + _NO_ADDING,
    ),
    Excepted(
        _BEAT,
        (
            "test_Scheduler::test_due_tick_returns_delay_when_heap_top_changed",
            "test_Scheduler::test_tick_survives_entry_failing_in_populate_heap",
            "test_Scheduler::test_tick_survives_entry_failing_when_due",
            "test_Scheduler::test_not_due_top_entry_is_rescheduled_behind_due_entry",
            "test_Scheduler::test_reheap_skipped_when_is_due_mutates_heap",
            "test_Scheduler::test_tick_uses_fresh_time_when_heap_top_changes",
        ),
        "Sets or reads stock beat's heap; here the next dues are in the node's timeline.  " + _NO_ADDING,
        since=(5, 7),
    ),
    Excepted(
        _BEAT,
        (
            "test_Scheduler::test_tick_solar_across_dst",
            "test_Scheduler::test_tick_daily_relative_spring_forward",
            "test_Scheduler::test_tick_dispatches_missed_cron_within_deadline_non_uniform",
            "test_Scheduler::test_tick_skips_missed_cron_outside_deadline_non_uniform",
            "test_Scheduler::test_tick_dispatches_missed_cron_on_deadline_boundary_non_uniform",
        ),
        "Puts beat into another year by way of nowfun or app.now; here time is that of Redis, and what was "
        "missed is told from the cursor in Redis, not from last_run_at.  " + _NO_ADDING,
        since=(5, 7),
    ),
    Excepted(
        _BEAT,
        ("test_Service::test_start",),
        "Asks whether a PersistentScheduler is a beat.Scheduler.  It is one of stock beat's, but that name "
        "now means this project's, which stock beat's classes do not derive from.",
        raises=AssertionError,
    ),
    Excepted(
        _INTEGRATION,
        ("test_beat_interval_timezones::test_dispatches_once_at_deadline",),
        "Puts beat into another year by way of app.now; here time is that of Redis.  The dues that the test "
        "states are compared with this project's all the same, by the plugin.  " + _NO_ADDING,
        since=(5, 7),
    ),
    Excepted(
        _INTEGRATION,
        ("test_beat_cron_starting_deadline::test_dispatches_missed_cron_within_deadline_non_uniform",),
        "Puts beat into another year by way of nowfun; here time is that of Redis, and what was missed is "
        "told from the cursor in Redis, not from last_run_at.  " + _NO_ADDING,
        since=(5, 7),
    ),
    Excepted(
        _INTEGRATION,
        (
            "test_beat_tick_heap_top_changed::test_dispatches_second_entry_after_heap_top_changed",
            "test_beat_tick_heap_top_changed::test_dispatches_second_entry_when_first_asks_to_retry_later",
            "test_beat_failing_entry::test_dispatches_other_entries_when_is_due_raises",
        ),
        "Sets or reads stock beat's heap; here the next dues are in the node's timeline.  " + _NO_ADDING,
        since=(5, 7),
    ),
)
