from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_dispatch.core.catchup import Patience, Plan, plan
from celery_dispatch.core.entry import CatchUp, Entry
from celery_dispatch.core.report import Skip
from celery_dispatch.core.rows import Pause

START = datetime(2030, 1, 1, tzinfo=timezone.utc)
PATIENCE = Patience(handover=timedelta(seconds=0.5), limit=timedelta(seconds=10.5))


class EverySecond:
    def following(self, last: datetime, after: datetime) -> datetime:
        return last + timedelta(seconds=(after - last) // timedelta(seconds=1) + 1)

    def latest(self, last: datetime, now: datetime) -> tuple[datetime, int] | None:
        dues = (now - last) // timedelta(seconds=1)
        return (last + timedelta(seconds=dues), dues - 1) if dues > 0 else None


def entry(catch_up: CatchUp, window: float | None = None) -> Entry:
    limit = None if window is None else timedelta(seconds=window)
    return Entry("e", EverySecond(), "d", catch_up=catch_up, catch_up_window=limit)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.mark.parametrize("catch_up", CatchUp)
def test_within_the_handover_delay_everything_is_on_time(catch_up: CatchUp) -> None:
    assert plan(entry(catch_up, window=0.1), at(1), at(1.5), PATIENCE) == Plan(at(1), at(1))


def test_latest_fires_one_for_all_missed() -> None:
    assert plan(entry(CatchUp.LATEST), at(1), at(60.9), PATIENCE) == Plan(at(60), at(60), skipped=59)


def test_latest_of_one_missed_is_that_one() -> None:
    assert plan(entry(CatchUp.LATEST), at(1), at(1.9), PATIENCE) == Plan(at(1), at(1))


def test_latest_is_never_one_that_is_due_in_a_pause() -> None:
    """What was due before the pause is still to be caught up."""
    one, both = Pause(at(50.5), at(70)), Pause(at(40.2), at(50.7))
    late = entry(CatchUp.LATEST)
    assert plan(late, at(1), at(60.9), PATIENCE, pauses=[one]) == Plan(at(50), at(50), skipped=49)
    assert plan(late, at(1), at(60.9), PATIENCE, pauses=[one, both]) == Plan(at(40), at(40), skipped=39)
    assert plan(late, at(1), at(80.9), PATIENCE, pauses=[one, both]) == Plan(at(80), at(80), skipped=79)


def test_latest_outside_the_window_is_skipped_with_the_rest() -> None:
    late = entry(CatchUp.LATEST, window=0.2)
    assert plan(late, at(1), at(60.9), PATIENCE) == Plan(
        at(60), at(60), fire=False, skipped=60, reason=Skip.WINDOW
    )


def test_all_fires_each_however_late() -> None:
    assert plan(entry(CatchUp.ALL), at(1), at(9_999), PATIENCE) == Plan(at(1), at(1))


def test_all_skips_what_is_older_than_the_window_in_one_step() -> None:
    assert plan(entry(CatchUp.ALL, window=5), at(1), at(20.5), PATIENCE) == Plan(
        at(15), at(15), fire=False, skipped=15, reason=Skip.WINDOW
    )
    assert plan(entry(CatchUp.ALL, window=5), at(16), at(20.5), PATIENCE) == Plan(at(16), at(16))


def test_none_fires_what_is_not_later_than_lease_and_handover() -> None:
    assert plan(entry(CatchUp.NONE), at(1), at(11.5), PATIENCE) == Plan(at(1), at(1))
    assert plan(entry(CatchUp.NONE), at(1), at(11.6), PATIENCE) == Plan(at(1), at(1), fire=False, skipped=1)


@given(st.sampled_from(CatchUp), st.one_of(st.none(), st.integers(1, 40)), st.integers(0, 100_000))
def test_every_occurrence_is_fired_or_counted_as_skipped(
    catch_up: CatchUp, window: int | None, now_ms: int
) -> None:
    late, due, fired, skipped = entry(catch_up, window), at(0), 0, 0
    now = at(now_ms / 1000)
    while due <= now:
        step = plan(late, due, now, PATIENCE)
        assert step.due >= due
        fired += step.fire
        skipped += step.skipped
        due = late.recurrence.following(step.due, step.due)  # type: ignore[union-attr]
    assert fired + skipped == now_ms // 1000 + 1


def test_what_belongs_to_the_next_config_is_left_alone() -> None:
    for catch_up in (CatchUp.LATEST, CatchUp.ALL, CatchUp.NONE):
        planned = plan(entry(catch_up), at(1), at(60.9), PATIENCE, until=at(30))
        assert planned.due < at(30)
    assert plan(entry(CatchUp.LATEST), at(1), at(60.9), PATIENCE, until=at(30)) == Plan(
        at(29), at(29), skipped=28
    )
