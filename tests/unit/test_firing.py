"""The order of work on the hot path."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from celery_dispatch.core.entry import CatchUp, Occurrence
from celery_dispatch.core.timeline import Item
from celery_dispatch.errors import FencedError, StoreError, StoreUnavailable
from tests.unit.world import START, Beat, World, catalog, entry, many


def log_of(beat: Beat) -> list[str]:
    """What the node does from now on, a word a step."""
    log: list[str] = []
    claim, render, read = beat.ledger.claim, beat.outbox.render, beat.ledger.read
    reckon = beat.node._alarms.reckon

    def claiming(fence: Any, claims: Any, *, meanwhile: Any = None, **options: Any) -> Any:
        log.append("claim")
        reply = claim(fence, claims, meanwhile=meanwhile, **options)
        log.append("claimed")
        return reply

    beat.ledger.claim = claiming  # type: ignore[method-assign]
    beat.outbox.render = lambda one, *, now: (log.append("render"), render(one, now=now))[1]  # type: ignore[method-assign]
    beat.ledger.read = lambda names: (log.append("read"), read(names))[1]  # type: ignore[method-assign]
    beat.node._alarms.reckon = lambda *each: (log.append("reckon"), reckon(*each))[1]  # type: ignore[method-assign]
    return log


def squeezed(log: list[str]) -> list[str]:
    return [word for before, word in zip(["", *log], log) if word != before]


@pytest.fixture
def world() -> World:
    return World()


def test_the_next_batch_is_prepared_while_the_ledger_works(world: World) -> None:
    beat = world.start("a", many(25), batch_size=10)
    world.run(0.5)
    log = log_of(beat)
    world.run(0.6)
    expected = [
        "render",
        "claim",
        "render",
        "claimed",
        "claim",
        "render",
        "claimed",
        "claim",
        "claimed",
        "reckon",
    ]
    assert squeezed(log) == expected


def test_a_prepared_batch_is_not_sent_while_the_outcome_of_the_one_before_is_unknown(world: World) -> None:
    beat = world.start("a", many(25), batch_size=10)
    world.run(0.5)
    claim, sizes = beat.ledger.claim, []

    def unheard(fence: Any, claims: Any, **options: Any) -> Any:
        reply = claim(fence, claims, **options)
        sizes.append(len(claims))
        if len(sizes) == 1:
            raise StoreUnavailable("the answer was lost")
        return reply

    beat.ledger.claim = unheard  # type: ignore[method-assign]
    world.run(0.51)
    assert sizes == [10]
    world.run(5)
    assert world.doubled() == []
    assert world.missing([f"e{i}" for i in range(25)], world.seconds() - 1) == []


@pytest.mark.parametrize("trouble", [StoreUnavailable("no answer"), FencedError("another config")])
def test_what_was_refused_is_fired_again_before_next_dues_are_reckoned(
    world: World, trouble: StoreError
) -> None:
    beat = world.start("a", many(65, every=10.0), batch_size=10)
    world.run(9.9)
    claim, reckon, calls = beat.ledger.claim, beat.node._alarms.reckon, 0

    def refused(fence: Any, claims: Any, *, meanwhile: Any = None, **options: Any) -> Any:
        nonlocal calls
        calls += bool(claims)  # one of nothing only asks whether claims are carried out again
        if calls == 5:
            meanwhile()
            raise trouble
        return claim(fence, claims, meanwhile=meanwhile, **options)

    def slowly(item: Item, now: datetime) -> None:
        world.clock.advance(0.1)
        reckon(item, now)

    beat.ledger.claim = refused  # type: ignore[method-assign]
    beat.node._alarms.reckon = slowly  # type: ignore[method-assign]
    world.run(1.5)
    assert calls == 8
    assert sum(world.fired().values()) == 65
    assert not beat.node._firing.done


def test_what_becomes_due_is_fired_before_all_next_dues_are_reckoned(world: World) -> None:
    beat = world.start("a", catalog(*many(60, every=10.0).entries.values(), entry("soon", 10.05)))
    world.run(9.9)
    reckon, reckoned_before = beat.node._alarms.reckon, []
    render, reckoned = beat.outbox.render, []

    def slowly(item: Item, now: datetime) -> None:
        world.clock.advance(0.01)
        reckoned.append(item)
        reckon(item, now)

    def noting(occurrence: Occurrence, *, now: datetime) -> Any:
        if occurrence.entry.name == "soon":
            reckoned_before.append(len(reckoned))
        return render(occurrence, now=now)

    beat.node._alarms.reckon = slowly  # type: ignore[method-assign]
    beat.outbox.render = noting  # type: ignore[method-assign]
    world.run(3.0)
    assert len(reckoned) == 61
    assert reckoned_before[0] < 15


def test_short_entries_are_fired_again_and_again_in_a_storm(world: World) -> None:
    often = [entry(f"often{i}", 2.0, catch_up=CatchUp.LATEST) for i in range(20)]
    storm = [entry(f"e{i}", 3600.0) for i in range(1000)]
    first = START + timedelta(seconds=1)
    beat = world.start("a", catalog(*storm[:60], *often, *storm[60:]), batch_size=10)
    world.run(2)
    for item in beat.node._timeline:
        item.wait_for(first)
        beat.node._alarms.ring(item, beat.node._clock.now())
    claim, reckon = beat.ledger.claim, beat.node._alarms.reckon

    def claiming(*args: Any, **options: Any) -> Any:
        world.clock.advance(0.1)
        return claim(*args, **options)

    def slowly(item: Item, now: datetime) -> None:
        world.clock.advance(0.005)
        reckon(item, now)

    beat.ledger.claim = claiming  # type: ignore[method-assign]
    beat.node._alarms.reckon = slowly  # type: ignore[method-assign]
    for _ in range(10):
        beat.node.turn()
    for name in ("often0", "often19"):
        assert sum(one == name for one, _ in world.fired()) >= 7


@pytest.mark.parametrize(("took", "wait"), [(0.0, 0.001), (0.0004, 0.0008), (0.001, 0.002), (0.2, 0.003)])
def test_what_is_due_next_waits_for_others_no_longer_than_passes_take(
    world: World, took: float, wait: float
) -> None:
    beat = world.start("a", catalog(entry("x", 4.0), entry("y", 4.001)))
    world.run(3)
    assert world.anchor is not None
    claim = beat.ledger.claim

    def claiming(*args: Any, **options: Any) -> Any:
        world.clock.advance(took)
        return claim(*args, **options)

    beat.ledger.claim = claiming  # type: ignore[method-assign]
    world.clock.advance((world.anchor - START).total_seconds() + 4 - world.seconds())
    waited = beat.node.turn()
    assert [name for name, _ in world.fired()] == ["x"]
    assert waited == pytest.approx(wait)


@pytest.mark.parametrize("met", [True, False])
def test_late_entries_are_asked_for_only_where_another_node_is_met(world: World, met: bool) -> None:
    beat = world.start("a", many(40), batch_size=5)
    if met:
        world.start("b", many(40))
        world.run(2)
    world.run(0.5)
    beat.paused = True
    world.run(1.8)
    log = log_of(beat)
    beat.node.turn()
    assert ("read" in log[: log.index("reckon")]) is met
    assert world.doubled() == []


class Hourly:
    """A polled schedule that is due an hour after it last ran."""

    def __init__(self) -> None:
        self.asked = 0

    def poll(self, last: datetime, now: datetime) -> tuple[bool, timedelta]:
        self.asked += 1
        if self.asked > 50:
            raise KeyboardInterrupt("asked without end")
        wait = last + timedelta(hours=1) - now
        return wait <= timedelta(0), wait


def test_a_clock_that_goes_back_within_a_pass_does_not_keep_it_busy(world: World) -> None:
    """As it does by some milliseconds when a heartbeat brings a better reading of Redis's time."""
    beat = world.start("a", catalog(entry("asked", Hourly())))
    world.run(3)
    (item,) = beat.node._timeline
    passed = item.due + timedelta(milliseconds=5)
    clock, asked = beat.node._clock, []

    def now() -> datetime:
        asked.append(True)
        return passed if len(asked) == 1 else item.due - timedelta(milliseconds=1)

    beat.node._timeline.arm(item, item.due)
    clock.now = now  # type: ignore[method-assign]
    beat.node._firing.fire()
    assert not beat.outbox.rendered
