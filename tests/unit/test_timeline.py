from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st

from celery_dispatch.core.entry import Cursor, Entry
from celery_dispatch.core.ring import OWNER, STANDBY
from celery_dispatch.core.timeline import Item, Timeline

START = datetime(2030, 1, 1, tzinfo=timezone.utc)


class Never:
    """A recurrence that no test here asks."""

    def following(self, last: datetime, after: datetime) -> datetime:
        raise AssertionError

    def latest(self, last: datetime, now: datetime) -> tuple[datetime, int] | None:
        raise AssertionError


def item(name: str, order: int = 0, rank: int = OWNER) -> Item:
    return Item(Entry(name, Never(), "d"), Cursor.anchor("d", START, "n"), rank, START, order=order)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def names(items: list[Item]) -> list[str]:
    return [popped.entry.name for popped in items]


def test_items_come_in_the_order_of_their_alarms_and_not_before() -> None:
    timeline = Timeline()
    for name, second in (("late", 3), ("soon", 1), ("next", 2)):
        timeline.arm(item(name), at(second))
    assert timeline.next_alarm() == at(1)
    assert names(timeline.pop_due(at(2), 10)) == ["soon", "next"]
    assert names(timeline.pop_due(at(2), 10)) == []
    assert timeline.next_alarm() == at(3)


def test_a_new_alarm_replaces_the_old_one() -> None:
    timeline, moved = Timeline(), item("moved")
    timeline.arm(moved, at(1))
    timeline.arm(moved, at(5))
    assert timeline.pop_due(at(4), 10) == []
    assert names(timeline.pop_due(at(5), 10)) == ["moved"]


def test_a_dropped_item_is_never_popped() -> None:
    timeline = Timeline()
    timeline.arm(item("gone"), at(1))
    timeline.drop("gone")
    timeline.drop("never there")
    assert timeline.pop_due(at(9), 10) == []
    assert timeline.next_alarm() is None
    assert len(timeline) == 0


def test_live_items_go_before_the_backlog_which_fills_the_rest() -> None:
    timeline = Timeline()
    for i in range(5):
        timeline.arm(item(f"old{i}"), at(i / 10), backlog=True)
    timeline.arm(item("live"), at(1))
    assert names(timeline.pop_due(at(1), 3)) == ["live", "old0", "old1"]


def test_equal_alarms_go_by_order_so_that_a_standby_begins_at_the_far_end() -> None:
    owner, standby = Timeline(), Timeline()
    for order, name in enumerate("abc", start=1):
        owner.arm(item(name, order), at(1))
        standby.arm(item(name, order, STANDBY), at(1))
    assert names(owner.pop_due(at(1), 3)) == ["a", "b", "c"]
    assert names(standby.pop_due(at(1), 3)) == ["c", "b", "a"]


def test_alarms_that_were_replaced_do_not_pile_up() -> None:
    timeline, held = Timeline(), item("held")
    for second in range(20_000):
        timeline.arm(held, at(second))
        timeline.arm(held, at(second % 7))
        timeline.arm(held, at(second), backlog=True)
    assert len(timeline._armed) < 5_000
    assert sum(map(len, timeline._armed.values())) < 5_000
    assert len(timeline._backlog) < 5_000
    assert timeline.pop_due(at(19_999), 10) == [held]


def test_what_is_due_waits_where_the_clock_goes_back_and_a_pass_took_only_some() -> None:
    timeline = Timeline()
    for order, name in enumerate("abc"):
        timeline.arm(item(name, order), at(5))
    assert names(timeline.pop_due(at(5), 1)) == ["a"]
    assert names(timeline.pop_due(at(4), 9)) == []
    assert timeline.next_alarm() == at(5)
    again = timeline.get("b")
    assert again is not None
    timeline.arm(again, at(6))
    assert names(timeline.pop_due(at(5), 9)) == ["c"]
    assert timeline.next_alarm() == at(6)


def test_what_is_armed_after_the_clock_went_back_does_not_wait_for_what_a_pass_has_left() -> None:
    timeline = Timeline()
    for order, name in enumerate("ab"):
        timeline.arm(item(name, order), at(60))
    assert names(timeline.pop_due(at(60), 1)) == ["a"]
    timeline.arm(item("new"), at(5))
    assert timeline.next_alarm() == at(5)
    assert names(timeline.pop_due(at(30), 9)) == ["new"]
    assert names(timeline.pop_due(at(60), 9)) == ["b"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 50), st.booleans()), max_size=200))
@settings(max_examples=200, deadline=None)
def test_every_item_is_popped_once_at_its_last_alarm(steps: list[tuple[int, int, bool]]) -> None:
    timeline, items = Timeline(), [item(str(i), i) for i in range(10)]
    expected: dict[str, int] = {}
    for which, second, drop in steps:
        if drop:
            timeline.drop(str(which))
            expected.pop(str(which), None)
        else:
            timeline.arm(items[which], at(second))
            expected[str(which)] = second
    popped = []
    for second in range(51):
        left = sorted(expected.values())[len(popped) :]
        assert timeline.next_alarm() == (at(left[0]) if left else None)
        popped += [(second, name) for name in names(timeline.pop_due(at(second), 99))]
    assert sorted(popped) == sorted((second, name) for name, second in expected.items())
