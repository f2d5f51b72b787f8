"""The config in force: which entries are whose when a deploy goes through the pool."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta
from typing import NoReturn

import pytest

from celery_dispatch.core.entry import Catalog, Cursor, Fence
from celery_dispatch.core.pool import Role
from celery_dispatch.core.ports import Claim, ClaimReply
from celery_dispatch.errors import StoreUnavailable
from tests.unit.world import HANDOVER, LEASE, START, World, catalog, entry


@pytest.fixture
def world() -> World:
    return World()


def old() -> Catalog:
    return catalog(entry("stays"), entry("changes", 1.0, definition="one"), entry("leaves"), fingerprint="v1")


def new() -> Catalog:
    return catalog(entry("stays"), entry("changes", 0.5, definition="two"), entry("comes"), fingerprint="v2")


def switched(world: World) -> float:
    """Seconds since the start at which the config came into force that is in force now."""
    assert world.store.fence is not None
    return (world.store.fence.since - START).total_seconds()


def roll(world: World, before: str, after: str, entries: Catalog) -> None:
    """Replace the nodes of ``before`` by those of ``after``, one at a time, new ones first."""
    for leaves, joins in zip(before, after):
        world.start(joins, entries)
        world.run(LEASE + 1)
        world.stop(leaves)
        world.run(3)


def dues(world: World, name: str) -> list[float]:
    return sorted(due for fired, due in world.fired() if fired == name)


def test_a_rolling_deploy_switches_once_and_every_occurrence_belongs_to_one_config(world: World) -> None:
    for name in "abc":
        world.start(name, old())
    world.run(5)
    fences = set()
    for leaves, joins in zip("abc", "def"):
        world.start(joins, new())
        for _ in range(int(LEASE) + 1):
            world.run(1)
            fences.add(world.store.fence)
        world.stop(leaves)
        for _ in range(3):
            world.run(1)
            fences.add(world.store.fence)
    assert {fence.config for fence in fences if fence} == {"v1", "v2"}
    assert len(fences) == 2
    at = switched(world)
    assert world.doubled() == []
    assert world.missing(["stays"], world.seconds() - HANDOVER - 0.2) == []
    assert max(dues(world, "leaves")) < at
    assert at - max(dues(world, "leaves")) <= 1.0
    assert at <= min(dues(world, "comes")) <= at + 1.0
    changes = dues(world, "changes")
    assert [due for due in changes if due < at] == dues(world, "leaves")
    later = [due for due in changes if due >= at]
    assert later[0] - at <= 0.5
    assert {round(b - a, 3) for a, b in itertools.pairwise(later)} == {0.5}
    lags = [beat.report.snapshot()["lag"] for beat in world.beats.values()]
    assert max(lag["max"] for lag in lags if lag) <= HANDOVER * 1000 + 200


def test_a_rollback_is_the_same_thing_backwards(world: World) -> None:
    for name in "abc":
        world.start(name, old())
    world.run(5)
    roll(world, "abc", "def", new())
    roll(world, "def", "ghi", old())
    assert world.store.fence is not None
    assert world.store.fence.config == "v1"
    assert world.doubled() == []
    assert world.missing(["stays"], world.seconds() - HANDOVER - 0.2) == []
    assert max(dues(world, "comes")) < switched(world)
    assert dues(world, "leaves")[-1] >= world.seconds() - 1.2
    cursor = world.store.cursors["changes"]
    assert isinstance(cursor, Cursor)
    assert (cursor.definition, cursor.revision) == ("one", 3)


def test_a_canary_a_laptop_and_a_crash_looping_pod_change_nothing(world: World) -> None:
    for name in "abc":
        world.start(name, old())
    world.run(LEASE + 2)
    world.start("canary", new())
    for i in range(6):
        world.start(f"pod{i}", catalog(entry("rogue"), fingerprint=f"v{i + 10}"))
        world.run(4)
        world.kill(f"pod{i}")
    world.run(LEASE)
    assert world.store.fence is not None
    assert world.store.fence.config == "v1"
    assert not dues(world, "comes")
    assert not dues(world, "rogue")
    assert world.doubled() == []
    for name in ("stays", "changes", "leaves"):
        assert world.missing([name], world.seconds() - 0.1) == []


def test_the_last_goodbye_of_the_old_config_switches_at_once(world: World) -> None:
    world.start("a", old())
    world.run(3)
    world.start("b", new())
    world.run(3)
    world.stop("a")
    left = world.seconds()
    world.run(4)
    assert switched(world) - left < 0.2
    assert world.missing(["stays"], world.seconds() - 0.1) == []


def test_the_death_of_the_only_node_of_a_config_costs_a_lease_and_a_heartbeat(world: World) -> None:
    world.start("a", old())
    world.run(3)
    standing = world.start("b", new())
    world.run(2)
    world.kill("a")
    died = world.seconds()
    world.run(LEASE + 5)
    assert switched(world) - died < LEASE + 2.5
    assert standing.membership.view is not None
    assert standing.membership.view.role is Role.IN_FORCE
    assert world.missing(["stays"], world.seconds() - 0.1) == []


def test_an_outgoing_node_that_slept_through_the_switch_fires_nothing_of_the_new_time(world: World) -> None:
    beats = [world.start(name, old()) for name in "abc"]
    world.run(LEASE)
    beats[0].paused = True
    for name in "defg":
        world.start(name, new())
    world.run(LEASE + 8)
    assert world.store.fence is not None
    assert world.store.fence.config == "v2"
    beats[0].paused = False
    world.run(5)
    assert max(dues(world, "leaves")) < switched(world)
    assert world.doubled() == []


def test_entries_that_left_are_buried_only_when_nothing_of_them_can_be_claimed_any_more(world: World) -> None:
    for name in "abc":
        world.start(name, old())
    world.run(LEASE)
    for name in "defg":
        world.start(name, new())
    while world.store.fence is None or world.store.fence.config != "v2":
        world.run(0.1)
    world.run(world.store.fence.since.timestamp() - world.store.now().timestamp() + LEASE - 1)
    leaving = world.store.cursors["leaves"]
    assert isinstance(leaving, Cursor)
    assert not leaving.is_tombstone
    world.run(3)
    buried = world.store.cursors["leaves"]
    assert isinstance(buried, Cursor)
    assert buried.is_tombstone


def test_a_quick_rollback_fires_nothing_of_the_time_in_which_another_config_was_in_force(
    world: World,
) -> None:
    slow = catalog(entry("changes", 60.0, definition="two"), entry("x"), fingerprint="v2")
    world.start("a", old())
    world.run(5)
    world.stop("a")
    world.start("b", slow)
    world.run(LEASE + 5)
    between = (switched(world), world.seconds())
    world.stop("b")
    world.start("c", old())
    world.run(5)
    for name in ("changes", "leaves", "stays"):
        assert not [due for due in dues(world, name) if between[0] <= due < between[1]]
        assert dues(world, name)[-1] > world.seconds() - 1.2


@pytest.mark.parametrize("phase", [0.0, 0.2, 0.4, 0.6, 0.8])
@pytest.mark.parametrize("early", [0.3, 0.6])
def test_a_changed_entry_is_fired_up_to_the_switch_though_its_owner_dies_just_before(
    world: World, phase: float, early: float
) -> None:
    for name in "abc":
        world.start(name, old())
    world.run(12 + phase)
    for name in "defg":
        world.start(name, new())
    while world.store.fence is None or world.store.fence.config != "v2":
        world.run(0.05)
    world.run(switched(world) - early - world.seconds())
    view = world.beats["a"].membership.view
    assert view is not None
    world.kill(str(view.ranks.owner("changes")))
    world.run(8)
    changes = dues(world, "changes")
    assert [due for due in changes if due < switched(world)] == [
        due for due in dues(world, "stays") if due < switched(world)
    ]
    assert world.doubled() == []


def test_a_page_of_cursors_whose_burial_failed_is_swept_again(world: World) -> None:
    rare = [entry(f"f{i}", 3600.0) for i in range(600)]
    world.start("a", catalog(entry("leaves"), *rare, fingerprint="v1"))
    world.run(3)
    world.stop("a")
    beat = world.start("b", catalog(*rare, fingerprint="v2"))
    world.run(LEASE - 1)
    claim, failed = beat.ledger.claim, []

    def failing(fence: Fence, claims: Sequence[Claim], **options: str) -> ClaimReply:
        if not failed and any(one.name == "leaves" for one in claims):
            failed.append(True)
            raise StoreUnavailable("a request is lost")
        return claim(fence, claims, **options)

    beat.ledger.claim = failing  # type: ignore[method-assign]
    world.run(10)
    assert failed
    buried = world.store.cursors["leaves"]
    assert isinstance(buried, Cursor)
    assert buried.is_tombstone


def test_a_drained_node_that_slept_past_its_lease_is_still_drained(world: World) -> None:
    beats = [world.start(name, old()) for name in "abc"]
    world.run(3)
    assert beats[0].pool.drain("a", True)
    world.run(3)
    beats[0].paused = True
    world.run(LEASE + 3)
    assert "a" not in world.store.members
    beats[0].paused = False
    world.run(4)
    assert world.store.members["a"].draining
    assert beats[0].report.owned == 0


def test_a_node_says_that_nothing_is_fired_since_all_are_drained(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    beats = [world.start(name, old()) for name in "ab"]
    world.run(3)
    assert beats[0].pool.drain("a", True)
    world.run(1)
    assert "drained" not in caplog.text
    world.kill("b")
    world.run(LEASE + 5)
    assert (
        caplog.text.count("every node of config v1 is drained. Run: celery -A <app> dispatch undrain a") == 1
    )


def test_two_apps_on_one_prefix_never_mix(caplog: pytest.LogCaptureFixture) -> None:
    world = World(fresh=True)
    for name in "ab":
        world.start(name, old(), app="shop")
    world.run(6)
    for name in "cdefg":
        world.start(name, catalog(entry("staging"), fingerprint="v9"), app="shop-staging")
    world.run(2 * LEASE)
    assert not dues(world, "staging")
    assert "belongs to shop" in caplog.text
    assert world.missing(["stays", "leaves"], world.seconds() - 0.1) == []


def test_a_pool_can_be_adopted_by_another_app_at_once() -> None:
    world = World(fresh=True)
    for name in "ab":
        world.start(name, old(), app="shop on redis")
    world.run(6)
    for name in "cd":
        world.start(name, old(), app="shop on amqp")
    world.run(3)
    world.beats["c"].pool.adopt("shop on amqp")
    adopted = world.store.now()
    world.run(5)
    roles = {name: beat.membership.view and beat.membership.view.role for name, beat in world.beats.items()}
    assert roles == {"a": Role.FOREIGN, "b": Role.FOREIGN, "c": Role.IN_FORCE, "d": Role.IN_FORCE}
    assert world.doubled() == []
    assert world.missing(["stays", "leaves"], world.seconds() - HANDOVER - 0.2) == []
    for beat in (world.beats["a"], world.beats["b"]):
        assert all(occurrence.due <= adopted + timedelta(seconds=0.1) for occurrence in beat.outbox.fired)


def test_a_drained_node_lets_go_and_comes_back(world: World) -> None:
    beats = [world.start(name, old()) for name in "abc"]
    world.run(3)
    assert beats[0].pool.drain("a", True)
    world.run(2)
    assert beats[0].report.owned == beats[0].report.standby == 0
    assert world.missing(["stays", "leaves", "changes"], world.seconds() - 0.1) == []
    assert beats[0].pool.drain("a", False)
    world.run(2)
    assert beats[0].report.owned + beats[0].report.standby > 0
    assert world.doubled() == []


# --- dying, sleeping and losing Redis in the middle of it ---------------------------------------------------


def with_user_code(world: World, names: str, entries: Catalog) -> None:
    for name in names:
        world.start(name, entries).outbox.user_code = set(entries.entries)


def announce(world: World) -> float:
    """Run until a switch to v2 is announced; its instant, in seconds since the start."""
    while world.store.fence is None or world.store.fence.config != "v2":
        world.run(0.05)
    return switched(world)


def dies_before_rendering(world: World, name: str) -> None:
    """Kill the node the next time that it has claimed and is about to make a message."""
    outbox = world.beats[name].outbox

    def die(*_: object, **__: object) -> NoReturn:
        world.kill(name)
        raise StoreUnavailable("killed")

    outbox.render = die  # type: ignore[method-assign, assignment]


def owner_of(world: World, node: str, name: str) -> str:
    view = world.beats[node].membership.view
    assert view is not None
    return str(view.ranks.owner(name))


@pytest.mark.parametrize("name", ["changes", "leaves"])
def test_what_a_node_of_the_config_before_left_half_made_is_made_by_another_of_them(
    world: World, name: str
) -> None:
    with_user_code(world, "abc", old())
    world.run(12)
    with_user_code(world, "defg", new())
    at = announce(world)
    victim = owner_of(world, "a", name)
    world.run(at - 1.0 - world.seconds())
    dies_before_rendering(world, victim)
    for one in "abc":
        world.beats[one] = world.beats.pop(one)  # the new ones are quicker to look at what is left
    world.run(LEASE + 8)
    assert victim not in world.beats, "it never came to the point"
    assert [due for due in dues(world, name) if due < at] == [due for due in dues(world, "stays") if due < at]
    assert world.doubled() == []
    assert world.store.intents == {}


def test_what_a_node_of_the_new_config_left_half_made_is_not_dropped_by_outgoing_ones(world: World) -> None:
    with_user_code(world, "abc", old())
    world.run(12)
    with_user_code(world, "defg", new())
    at = announce(world)
    world.run(at + 0.1 - world.seconds())
    victim = owner_of(world, "d", "comes")
    dies_before_rendering(world, victim)
    world.run(LEASE + 8)
    assert victim not in world.beats, "it never came to the point"
    comes = dues(world, "comes")
    assert {round(b - a, 3) for a, b in itertools.pairwise(comes)} == {1.0}
    assert comes[0] <= at + 1.0


def test_a_redis_emptied_between_announcement_and_switch_costs_neither_config_anything(
    world: World,
) -> None:
    for name in "abc":
        world.start(name, old())
    world.run(12)
    for name in "defg":
        world.start(name, new())
    at = announce(world)
    world.store.flush()
    world.run(LEASE + 8)
    assert switched(world) == at
    assert world.doubled() == []
    for name in ("stays", "changes", "leaves"):
        assert [due for due in dues(world, name) if due < at] == [
            due for due in dues(world, "stays") if due < at
        ]
    assert world.missing(["stays"], world.seconds() - HANDOVER - 0.2) == []
    assert at <= min(dues(world, "comes")) <= at + 1.0


def test_a_rollback_waits_for_the_sweep_though_the_node_that_sweeps_sleeps_through_a_vote(
    world: World,
) -> None:
    for name in "abc":
        world.start(name, old())
    world.run(12)
    for name in "defg":
        world.start(name, new())
    at = announce(world)
    for name in "hi":
        world.start(name, old())
    world.run(at + LEASE - 1 - world.seconds())
    view = world.beats["d"].membership.view
    assert view is not None
    sweeper = view.ranks.nodes[view.ranks.owners[0]]  # of slot 0
    world.beats[sweeper].paused = True
    world.run(3 * LEASE)
    assert world.store.fence is not None
    assert world.store.fence.config == "v1"
    back = switched(world)
    assert not [due for due in dues(world, "leaves") if at <= due < back]
    assert dues(world, "leaves")[-1] > world.seconds() - 1.2


# --- an outage over the switch ------------------------------------------------------------------------------


def nothing_is_lost_at(world: World, at: float) -> None:
    """Each occurrence belongs to one config, and was fired once."""
    assert switched(world) == at
    assert world.doubled() == []
    stays = [due for due in dues(world, "stays") if due < at]
    assert len(stays) > 12
    for name in ("changes", "leaves"):
        assert [due for due in dues(world, name) if due < at] == stays
    assert world.missing(["stays"], world.seconds() - HANDOVER - 0.2) == []
    later = [due for due in dues(world, "changes") if due >= at]
    assert {round(b - a, 3) for a, b in itertools.pairwise(later)} == {0.5}
    assert later[0] < at + 0.5


def before_a_switch(world: World, *, same_store: bool = True) -> float:
    """Three nodes of the old config and four of the new one; the switch is announced: its instant."""
    for name in "abc":
        world.start(name, old()).outbox.same_store = same_store
    world.run(12)
    for name in "defg":
        world.start(name, new()).outbox.same_store = same_store
    return announce(world)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("early", [0.3, 1.7])
def test_an_outage_of_redis_from_before_a_switch_until_a_lease_after_it_costs_nothing(
    world: World, restarts: bool, early: float
) -> None:
    at = before_a_switch(world)
    world.run(at - early - world.seconds())
    world.store.available = False
    world.run(LEASE + 6)
    if restarts:
        world.store.restart()
    world.store.available = True
    world.run(2 * LEASE)
    nothing_is_lost_at(world, at)


def test_nodes_of_the_new_config_that_slept_through_an_outage_leave_the_old_one_its_time(
    world: World,
) -> None:
    at = before_a_switch(world)
    world.run(at - 1.2 - world.seconds())
    world.store.available = False
    for name in "defg":
        world.beats[name].paused = True
    world.run(LEASE + 6)
    world.store.available = True
    for name in "gfedcba":  # the new ones are quicker
        beat = world.beats[name] = world.beats.pop(name)
        beat.paused, beat.next_beat = False, world.clock.monotonic() + 0.3
    world.run(2 * LEASE)
    nothing_is_lost_at(world, at)


def test_an_outage_of_another_broker_over_a_switch_costs_nothing(world: World) -> None:
    at = before_a_switch(world, same_store=False)
    world.run(at - 1.2 - world.seconds())
    world.store.broker_available = False
    world.run(LEASE + 8)
    world.store.broker_available = True
    world.run(2 * LEASE)
    nothing_is_lost_at(world, at)


def test_the_last_node_of_the_old_config_without_its_broker_holds_nothing_up(world: World) -> None:
    """Neither what the new config changed, though it is rare, nor the next deploy."""
    later = catalog(entry("stays"), entry("changes", 20.0, definition="two"), fingerprint="v2")
    for name, entries in (("a", old()), *((name, later) for name in "def")):
        world.start(name, entries).outbox.same_store = False
    world.run(12)
    world.beats["a"].outbox.available = False
    world.run(120)
    assert world.store.fence is not None and world.store.fence.config == "v2"
    assert len([due for due in dues(world, "changes") if due > switched(world)]) >= 4
    for name in "ghij":
        world.start(name, catalog(entry("stays"), fingerprint="v3")).outbox.same_store = False
    world.run(3 * LEASE)
    assert world.store.fence.config == "v3"


def test_a_recovery_over_a_switch_costs_nothing(world: World) -> None:
    """It takes a lease, for it waits for a node that is dead."""
    at = before_a_switch(world)
    world.run(at - 0.7 - world.seconds())
    world.kill("g")
    world.store.restart()
    world.run(LEASE + 6)
    assert not world.store.recovery
    world.run(2 * LEASE)
    nothing_is_lost_at(world, at)


def test_cursors_are_not_swept_as_long_as_the_config_before_may_claim(world: World) -> None:
    at = before_a_switch(world)
    world.run(at + 3 - world.seconds())
    world.store.available = False
    world.run(LEASE)
    world.store.available = True
    world.run(LEASE - 4)
    leaving = world.store.cursors["leaves"]
    assert isinstance(leaving, Cursor)
    assert not leaving.is_tombstone
    world.run(7)
    buried = world.store.cursors["leaves"]
    assert isinstance(buried, Cursor)
    assert buried.is_tombstone
