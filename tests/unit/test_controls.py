"""Draining nodes, adopting a pool and resetting cursors, on ports in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from celery_dispatch.core.entry import Catalog, Cursor, Entry, Fence
from celery_dispatch.core.ports import Claim, ClaimReply, Damaged, Heartbeat, MemberState, Stored
from celery_dispatch.errors import FencedError, StoreUnavailable
from celery_dispatch.manage.controls import ControlError, adopt, drain, read_adoption
from celery_dispatch.manage.operations import Sources, read_pool
from celery_dispatch.manage.reports import NodeState, Sketch
from celery_dispatch.manage.resets import reset_cursors
from celery_dispatch.testing import ManualClock, MemoryIntents, MemoryLedger, MemoryPool, MemoryStore

APP = "proj on redis db 0"


class Scene:
    """A pool in memory that has a config in force, and its time."""

    def __init__(self, *nodes: str) -> None:
        self.clock = ManualClock(1000.0)
        self.store = MemoryStore(self.clock)
        self.pool, self.ledger = MemoryPool(self.store), MemoryLedger(self.store)
        self.nodes = nodes or ("alpha-1111", "beta-2222")
        self.merged = ""
        self.let_pass(30)

    def let_pass(self, seconds: int) -> None:
        for _ in range(0, seconds, 2):
            for node in self.nodes:
                self.beat(node)
            self.clock.advance(2)

    def beat(self, node: str, *, config: str = "v1", identity: str = APP, suspicious: bool = False) -> None:
        pulse = self.pool.heartbeat(
            Heartbeat(
                node=node,
                host=f"host-of-{node}",
                config=config,
                identity=identity,
                state=MemberState.STEADY,
                lease=timedelta(seconds=10),
                interval=timedelta(seconds=2),
                handover=timedelta(seconds=0.5),
                info={"name": node.partition("-")[0], "entries": 7},
                merged=self.merged,
                suspicious=suspicious,
            ),
            known_epoch=None,
        )
        self.merged = pulse.recovery

    @property
    def fence(self) -> Fence:
        assert self.store.fence is not None
        return self.store.fence

    def sources(self, *entries: Entry, config: str = "v1") -> Sources:
        return Sources(
            pool=self.pool,
            ledger=self.ledger,
            intents=MemoryIntents(self.store),
            catalog=Catalog(config, {entry.name: entry for entry in entries}),
            patience=timedelta(seconds=10.5),
            sketch=lambda entry: Sketch(),
        )

    def states(self) -> dict[str, NodeState]:
        return {node.id: node.state for node in read_pool(self.pool).nodes}


@pytest.fixture
def scene() -> Scene:
    return Scene()


# --- draining -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["alpha-1111", "alpha-1", "alpha"])
def test_node_is_found_by_id_by_its_beginning_and_by_name(scene: Scene, asked: str) -> None:
    drained = drain(scene.pool, asked, True)
    assert (drained.node, drained.draining) == ("alpha-1111", True)
    assert "node beta-2222 takes over the 7 entries" in drained.after
    assert "undrain alpha-1111" in drained.after
    assert scene.states() == {"alpha-1111": NodeState.DRAINING, "beta-2222": NodeState.STEADY}


def test_drained_node_is_put_back(scene: Scene) -> None:
    drain(scene.pool, "alpha", True)
    assert not drain(scene.pool, "alpha", False).draining
    assert scene.states()["alpha-1111"] is NodeState.STEADY


def test_whole_id_wins_over_a_longer_one_that_begins_with_it() -> None:
    scene = Scene("a-1", "a-12")
    assert drain(scene.pool, "a-1", True).node == "a-1"


def test_what_fits_two_nodes_names_both_and_drains_none() -> None:
    scene = Scene("a-1", "a-2")
    with pytest.raises(ControlError, match="a-1, a-2"):
        drain(scene.pool, "a", True)
    assert NodeState.DRAINING not in scene.states().values()


def test_name_that_no_live_node_has_is_said_with_those_that_live(scene: Scene) -> None:
    with pytest.raises(ControlError) as raised:
        drain(scene.pool, "gamma", True)
    assert "alpha-1111, beta-2222" in raised.value.cure


def test_expired_node_cannot_be_drained() -> None:
    scene = Scene("a-1")
    scene.clock.advance(60)
    with pytest.raises(ControlError, match="No live node"):
        drain(scene.pool, "a-1", True)


def test_last_node_is_drained_only_by_force(scene: Scene) -> None:
    drain(scene.pool, "alpha", True)
    with pytest.raises(ControlError, match="--force"):
        drain(scene.pool, "beta", True)
    drained = drain(scene.pool, "beta", True, force=True)
    assert drained.draining
    assert "nobody takes over the 7 entries" in drained.after
    assert (
        "nothing is fired until it is put back (celery -A <app> dispatch undrain beta-2222) or another node "
        "starts." in drained.after
    )


def test_last_node_of_a_config_gives_way_to_those_that_stand_by() -> None:
    scene = Scene("alpha-1111")
    scene.beat("gamma-3333", config="v2")
    after = drain(scene.pool, "alpha", True, force=True).after
    assert "nobody takes over" in after
    assert "or the config of a node that stands by comes into force" in after


def test_several_take_over_together() -> None:
    scene = Scene("a-1", "b-2", "c-3")
    assert "the others take over" in drain(scene.pool, "a-1", True).after


def test_draining_twice_says_that_nothing_was_changed(scene: Scene) -> None:
    drain(scene.pool, "alpha", True)
    assert (
        drain(scene.pool, "alpha", True).after == "Node alpha-1111 was drained before; nothing was changed."
    )


def test_node_that_stands_by_only_loses_its_vote(scene: Scene) -> None:
    scene.beat("gamma-3333", config="v2")
    after = drain(scene.pool, "gamma", True, force=True).after
    assert "stands by and fires nothing" in after and "take" not in after


# --- identity -----------------------------------------------------------------------------------------------


def test_adopting_makes_the_pool_that_of_another_app(scene: Scene) -> None:
    scene.beat("gamma-3333", identity="proj on amqp /")
    assert scene.states()["gamma-3333"] is NodeState.FOREIGN
    adoption = adopt(scene.pool, "proj on amqp /")
    assert (adoption.before, adoption.identity, adoption.is_change) == (APP, "proj on amqp /", True)
    assert scene.pool.read().identity == "proj on amqp /"
    assert scene.states()["alpha-1111"] is NodeState.FOREIGN


def test_adopting_for_an_app_without_a_live_beat_is_refused_unless_forced(scene: Scene) -> None:
    with pytest.raises(ControlError, match="No beat of elsewhere on amqp / is alive"):
        adopt(scene.pool, "elsewhere on amqp /")
    assert scene.pool.read().identity == APP
    adopt(scene.pool, "elsewhere on amqp /", force=True)
    assert scene.pool.read().identity == "elsewhere on amqp /"


def test_adopting_the_same_changes_nothing(scene: Scene) -> None:
    epoch = scene.pool.read().epoch
    assert not adopt(scene.pool, APP).is_change
    assert scene.pool.read().epoch == epoch


def test_there_is_nothing_to_adopt_without_a_pool() -> None:
    with pytest.raises(ControlError, match="no pool"):
        read_adoption(MemoryPool(MemoryStore(ManualClock())), APP)


# --- cursors ------------------------------------------------------------------------------------------------


def stored(scene: Scene, **changes: object) -> Cursor:
    """The cursor of ``x``, put into the store."""
    cursor = Cursor(scene.store.now() + timedelta(days=30), "d1", scene.fence.since, 3, 7, 2, "alpha-1111")
    scene.store.cursors["x"] = changed = replace(cursor, **changes)  # type: ignore[arg-type]
    return changed


def test_cursor_in_the_future_goes_on_from_now(scene: Scene) -> None:
    before = stored(scene)
    (reset,) = reset_cursors(scene.sources(), ["x"])
    now = scene.store.now()
    assert (reset.before, reset.after, reset.error) == (before.due, now, "")
    after = scene.store.cursors["x"]
    assert isinstance(after, Cursor)
    assert after == replace(before, due=now, revision=4, node=after.node)
    assert after.node.startswith("reset@")


def test_cursor_goes_on_from_the_instant_that_was_given(scene: Scene) -> None:
    stored(scene)
    (reset,) = reset_cursors(scene.sources(), ["x"], to=scene.store.now() - timedelta(hours=1))
    assert reset.after == scene.store.now() - timedelta(hours=1)


def test_instant_in_the_future_is_refused(scene: Scene) -> None:
    before = stored(scene)
    with pytest.raises(ControlError, match="in the future"):
        reset_cursors(scene.sources(), ["x"], to=scene.store.now() + timedelta(seconds=1))
    assert scene.store.cursors["x"] == before


def test_reset_fires_nothing(scene: Scene) -> None:
    stored(scene)
    reset_cursors(scene.sources(), ["x"])
    assert scene.store.queues == {}
    assert scene.store.intents == {}


def test_entries_without_a_cursor_are_named_and_the_others_reset(scene: Scene) -> None:
    stored(scene)
    scene.store.cursors["gone"] = replace(stored(scene), definition="")
    answers = {reset.name: reset.error for reset in reset_cursors(scene.sources(), ["y", "x", "gone", "x"])}
    assert list(answers) == ["y", "x", "gone"]
    assert "no cursor" in answers["y"]
    assert answers["x"] == ""
    assert "left the config" in answers["gone"]


def test_damaged_row_is_replaced_under_a_revision_that_no_node_has_counted(scene: Scene) -> None:
    scene.store.cursors["x"] = Damaged("?", "not JSON")
    (reset,) = reset_cursors(scene.sources(Entry("x", None, "d1")), ["x"])  # type: ignore[arg-type]
    assert (reset.before, reset.after) == (None, scene.store.now())
    after = scene.store.cursors["x"]
    assert isinstance(after, Cursor)
    assert (after.definition, after.fired, after.effective_from) == ("d1", 0, scene.fence.since)
    assert after.revision > 1_000_000_000


@pytest.mark.parametrize("config", ["v1", "v2"])
def test_damaged_row_is_left_alone_where_its_definition_is_not_known(scene: Scene, config: str) -> None:
    scene.store.cursors["x"] = damaged = Damaged("?", "not JSON")
    entries = [Entry("x", None, "d1")] if config == "v2" else []  # type: ignore[arg-type]
    (reset,) = reset_cursors(scene.sources(*entries, config=config), ["x"])
    assert "not JSON" in reset.error
    assert scene.store.cursors["x"] == damaged


def test_reset_is_tried_again_when_a_node_was_faster(scene: Scene) -> None:
    before = stored(scene, due=scene.store.now() - timedelta(seconds=1))
    ledger = Overtaken(scene)
    (reset,) = reset_cursors(replace(scene.sources(), ledger=ledger), ["x"], pause=lambda seconds: None)
    assert reset.after == scene.store.now()
    after = scene.store.cursors["x"]
    assert isinstance(after, Cursor)
    assert (after.fired, after.revision) == (before.fired + 1, before.revision + 1)


class Overtaken:
    """A ledger on which a node fires between the first reading and the first claim."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._first = True

    def read(self, names: list[str]) -> list[Stored]:
        return self._scene.ledger.read(names)

    def claim(self, fence: Fence, claims: list[Claim]) -> ClaimReply:
        if self._first:
            self._first = False
            cursor = self._scene.store.cursors["x"]
            assert isinstance(cursor, Cursor)
            self._scene.store.cursors["x"] = replace(
                cursor, due=self._scene.store.now(), fired=cursor.fired + 1
            )
        return self._scene.ledger.claim(fence, claims)


def test_reset_is_tried_again_when_the_config_was_switched(scene: Scene) -> None:
    stored(scene)

    class Fenced(Overtaken):
        def claim(self, fence: Fence, claims: list[Claim]) -> ClaimReply:
            if self._first:
                self._first = False
                raise FencedError("another config")
            return self._scene.ledger.claim(fence, claims)

    (reset,) = reset_cursors(
        replace(scene.sources(), ledger=Fenced(scene)), ["x"], pause=lambda seconds: None
    )
    assert reset.error == ""


def test_nothing_is_reset_while_the_pool_recovers(scene: Scene) -> None:
    before = stored(scene)
    scene.beat("alpha-1111", suspicious=True)
    assert scene.pool.read().recovery
    paused: list[float] = []
    with pytest.raises(StoreUnavailable, match="recovering"):
        reset_cursors(scene.sources(), ["x"], pause=paused.append)
    assert scene.store.cursors["x"] == before
    assert sum(paused) < 5


def test_cursor_that_a_recovery_has_yet_to_put_back_is_not_called_missing(scene: Scene) -> None:
    before = stored(scene)
    del scene.store.cursors["x"]
    scene.beat("alpha-1111", suspicious=True)

    def recover(seconds: float) -> None:
        scene.store.cursors["x"] = before
        scene.let_pass(4)

    (reset,) = reset_cursors(scene.sources(), ["x"], pause=recover)
    assert reset.error == ""


def test_reset_waits_for_a_short_recovery(scene: Scene) -> None:
    stored(scene)
    scene.beat("alpha-1111", suspicious=True)
    (reset,) = reset_cursors(scene.sources(), ["x"], pause=lambda seconds: scene.let_pass(4))
    assert reset.error == ""


def test_nothing_can_be_reset_without_a_config_in_force() -> None:
    store = MemoryStore(ManualClock())
    sources = replace(Scene().sources(), pool=MemoryPool(store), ledger=MemoryLedger(store))
    with pytest.raises(ControlError, match="No config"):
        reset_cursors(sources, ["x"])


def test_instant_is_cut_to_whole_milliseconds(scene: Scene) -> None:
    stored(scene)
    scene.clock.advance(0.0004)
    (reset,) = reset_cursors(scene.sources(), ["x"])
    assert reset.after is not None
    assert reset.after.microsecond % 1000 == 0
    assert isinstance(reset.after, datetime)
