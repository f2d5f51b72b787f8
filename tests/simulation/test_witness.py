"""The witness finds nothing wrong with what is right, and each thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Change, Claim, ClaimResult, ClaimStatus, Intent, Settlement
from celery_dispatch.core.rows import Pause, Row, definition_hash
from celery_dispatch.testing import MemoryRows, MemoryStore
from tests.simulation.grid import EPOCH
from tests.simulation.loop import Loop
from tests.simulation.plan import Plan, Settings, Spec
from tests.simulation.witness import Witness


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


class Scene:
    """One entry, due every ten seconds, and nodes ``a`` and ``b`` that have always been well."""

    def __init__(self, *, same_store: bool = True, catch_up: str = "all") -> None:
        self.specs = tuple(Spec("e", 10.0, fixed=True, edition=n, catch_up=catch_up) for n in (0, 1))
        configs = tuple((spec,) for spec in self.specs)
        plan = Plan(0, Settings(same_store=same_store), configs, events=(), quiet=0.0)
        self.known_rows: dict[str, Row] = {}  # by both nodes
        self.loop = Loop(Random(0))
        self.store = MemoryStore(self.loop, start=EPOCH)  # type: ignore[arg-type]
        self.witness = Witness(plan, self.loop, self.store)
        self.witness.processes += [self._node(name) for name in "ab"]
        self.switch(0, since=0.0)
        self.cursor = Cursor.anchor(self.definition(0), at(0), "a")
        self.claim(self.cursor)

    def _node(self, name: str) -> Any:
        return SimpleNamespace(
            name=name,
            began=-1000.0,
            ended=float("inf"),
            dead=False,
            catalog=SimpleNamespace(fingerprint="v0"),
            defines=lambda entry, definition: definition == self.definition(0),
            node=SimpleNamespace(
                _timeline=(),
                _delivery=SimpleNamespace(_published={}),
                _catalog=SimpleNamespace(rows=self.known_rows),
            ),
        )

    def definition(self, edition: int) -> str:
        return self.specs[edition].definition

    def switch(self, config: int, *, since: float) -> None:
        self.fence = self.store.fence = Fence(f"v{config}", at(since))
        self.witness.look()

    def send(self, due: float, edition: int = 0) -> None:
        self.witness.message(f"e|{at(due).isoformat()}|{self.definition(edition)}")

    def claim(self, new: Cursor | None, **more: Any) -> None:
        """A claim that is won, whatever its cursor."""
        claim = Claim("e", self.store.cursors.get("e"), new, **more)
        if new is None:
            del self.store.cursors["e"]
        else:
            self.cursor = self.store.cursors["e"] = new
        self.witness.seen(self.witness.processes[0], "ledger.claim", (self.fence, [claim]), None)

    def fire(self, due: float, *, now: float | None = None, edition: int = 0, skipped: int = 0) -> None:
        """In one write, in time or at ``now``."""
        self.loop.now = due + 0.01 if now is None else now
        self.send(due, edition)
        self.claim(self.advanced(due, edition, fired=1, skipped=skipped))

    def skip(self, due: float, *, now: float) -> None:
        self.loop.now = now
        self.claim(self.advanced(due, 0, skipped=1))

    def advanced(self, due: float, edition: int = 0, *, fired: int = 0, skipped: int = 0) -> Cursor:
        return self.cursor.advance(
            at(due),
            definition=self.definition(edition),
            fence=self.fence,
            node="a",
            fired=fired,
            skipped=skipped,
        )

    def intend(self, due: float) -> Intent:
        """Claim ``due`` in two steps; its message is still to come."""
        self.loop.now = due + 0.01
        intent = Intent("e", at(due), self.definition(0), "a", "t", at(due))
        self.claim(self.advanced(due, fired=1), intent=intent)
        return intent

    def change(self, name: str, *, drops_intents: bool = False, **said: Any) -> None:
        """What people say of an entry, written with its cursor."""
        store = self.store
        row = store.rows.get(name)
        given = {"definition": row.definition, "pause": row.pause} if isinstance(row, Row) else {}
        change = Change(name, row, f"{len(self.witness.trace):08x}", at(0), at(0), **{**given, **said})
        store.seen_on = store.server
        MemoryRows(store).change([replace(change, drops_intents=drops_intents)])
        self.witness.written(change)
        if name == "e":
            self.cursor = store.cursors["e"]  # type: ignore[assignment]

    def pause(self, since: float, until: float | None = None, name: str = "e") -> None:
        self.change(name, pause=Pause(at(since), None if until is None else at(until)))

    def settle(self, intent: Intent) -> None:
        won = ClaimResult(ClaimStatus.WON, None)
        self.witness.seen(self.witness.processes[0], "intents.settle", ([Settlement(intent)],), [won])


def right(scene: Scene) -> None:
    scene.fire(10)
    intent = scene.intend(20)
    scene.send(20)
    scene.settle(intent)
    intent = scene.intend(30)
    scene.claim(scene.cursor.undo(replace(scene.cursor, due=at(20)), "a"), undoes=intent)
    scene.fire(30)
    scene.switch(1, since=45.0)
    scene.fire(40)
    scene.fire(50, edition=1)


def right_with_pauses(scene: Scene) -> None:
    scene.fire(10)
    scene.pause(12, 23)
    scene.skip(20, now=20.1)
    scene.fire(30)
    scene.pause(35, 36, name="")
    scene.fire(40)


def early(scene: Scene) -> None:
    scene.loop.now = 9.99
    scene.send(10)


def claimed_early(scene: Scene) -> None:
    scene.skip(10, now=9.99)


def twice(scene: Scene) -> None:
    scene.fire(10)
    scene.send(10)


def old_definition_after_the_switch(scene: Scene) -> None:
    scene.store.swept = at(0)
    scene.switch(1, since=15.0)
    scene.loop.now = 20.01
    scene.send(20, edition=0)


def new_definition_before_the_switch(scene: Scene) -> None:
    scene.store.swept = at(0)
    scene.switch(1, since=45.0)
    scene.loop.now = 40.01
    scene.send(40, edition=1)


def cursor_goes_back(scene: Scene) -> None:
    scene.fire(10)
    scene.claim(replace(scene.cursor, due=at(0)))


def put_back_to_where_it_never_was(scene: Scene) -> None:
    scene.store.recovery = "r"
    scene.claim(scene.advanced(10, fired=1))


def put_back_behind_what_is_stored(scene: Scene) -> None:
    before = scene.cursor
    scene.fire(10)
    scene.store.recovery = "r"
    scene.claim(before)


def one_is_lost(scene: Scene) -> None:
    scene.fire(10)
    scene.fire(30)


def one_is_counted_twice(scene: Scene) -> None:
    scene.fire(10, skipped=1)


def skips_what_is_to_be_caught_up(scene: Scene) -> None:
    scene.witness.harms.note("a", 0.0, 100.0)
    scene.witness.harms.note("b", 0.0, 100.0)
    scene.skip(10, now=18.0)


def skips_what_is_in_time(scene: Scene) -> None:
    scene.skip(10, now=10.1)


def late_with_nobody_harmed(scene: Scene) -> None:
    for due in range(10, 50, 10):
        scene.fire(due)
    scene.fire(50, now=53.0)


def in_calm_only_a_standby_fires(scene: Scene) -> None:
    for due in range(10, 50, 10):
        scene.fire(due)
    scene.fire(50, now=50.5)


def message_is_missing(scene: Scene) -> None:
    scene.loop.now = 10.01
    scene.claim(scene.advanced(10, fired=1))


def given_back_though_sent(scene: Scene) -> None:
    before, intent = scene.cursor, scene.intend(10)
    scene.send(10)
    scene.claim(scene.cursor.undo(before, "a"), undoes=intent)


def dropped_though_it_could_be_made(scene: Scene) -> None:
    scene.settle(scene.intend(10))


def removed_within_the_grace(scene: Scene) -> None:
    scene.claim(None)


def begins_anew_within_the_grace(scene: Scene) -> None:
    scene.fire(10)
    scene.claim(scene.cursor.bury(Fence("v0", at(12)), "a"))
    scene.switch(0, since=40.0)
    anchor = Cursor.anchor(scene.definition(0), at(40), "a")
    scene.claim(replace(anchor, revision=scene.cursor.revision + 1))


def begins_long_after_its_config(scene: Scene) -> None:
    scene.claim(scene.cursor.bury(Fence("v0", at(0)), "a"))
    scene.loop.now = 3 * 86400.0
    scene.claim(None)
    scene.loop.now += 100.0
    scene.claim(Cursor.anchor(scene.definition(0), at(scene.loop.now), "a"))


def old_definition_left_something_open(scene: Scene) -> None:
    scene.switch(1, since=25.0)
    scene.fire(10)
    scene.fire(30, edition=1)


def fires_though_paused(scene: Scene) -> None:
    scene.fire(10)
    scene.pause(12)
    scene.fire(20)


def fires_though_all_is_paused(scene: Scene) -> None:
    scene.fire(10)
    scene.pause(12, name="")
    scene.fire(20)


def fires_later_what_was_due_in_a_pause(scene: Scene) -> None:
    scene.fire(10)
    scene.pause(12)
    scene.pause(12, 23)
    scene.fire(20, now=24)


def message_comes_after_the_pause(scene: Scene) -> None:
    scene.intend(10)
    scene.loop.now = 10.5
    scene.pause(10.5)
    scene.loop.now = 11.0
    scene.send(10)


def skips_what_is_due_after_a_pause(scene: Scene) -> None:
    scene.fire(10)
    scene.pause(12, 23)
    scene.skip(20, now=20.1)
    scene.skip(30, now=30.1)


def row_is_lost_though_it_was_known(scene: Scene) -> None:
    scene.fire(10)
    scene.pause(12, 14)
    scene.known_rows.update(scene.store.rows)  # type: ignore[arg-type]
    del scene.store.rows["e"]
    scene.witness.lost()
    for recovery in ("one", ""):
        scene.store.recovery = recovery
        scene.witness.look()


WRONG = {
    fires_though_paused: "was fired though it is paused",
    fires_though_all_is_paused: "was fired though it is paused",
    fires_later_what_was_due_in_a_pause: "was fired though it is paused",
    message_comes_after_the_pause: "after it was removed or paused",
    skips_what_is_due_after_a_pause: "were skipped under all",
    row_is_lost_though_it_was_known: "is stored after the recovery",
    early: "was sent before it was due",
    claimed_early: "was claimed before it was due",
    twice: "was sent again",
    old_definition_after_the_switch: "which was not in force at its due",
    new_definition_before_the_switch: "which was not in force at its due",
    cursor_goes_back: "went back from",
    put_back_to_where_it_never_was: "where it never was",
    put_back_behind_what_is_stored: "which is behind",
    one_is_lost: "accounts for 1 of 2 dues",
    one_is_counted_twice: "accounts for 2 of 1 dues",
    skips_what_is_to_be_caught_up: "were skipped under all",
    skips_what_is_in_time: "were skipped under latest",
    late_with_nobody_harmed: "though somebody could have done it",
    in_calm_only_a_standby_fires: "though somebody could have done it",
    message_is_missing: "its message was not pushed with it",
    given_back_though_sent: "was given back though its message was sent",
    dropped_though_it_could_be_made: "was claimed and dropped",
    removed_within_the_grace: "was removed within the grace",
    begins_anew_within_the_grace: "began anew within the grace",
    begins_long_after_its_config: "what was due since is lost",
    old_definition_left_something_open: "was not fired before",
}


def test_it_finds_nothing_wrong_with_what_is_right() -> None:
    scene = Scene()
    right(scene)
    assert scene.witness.wrong == []
    assert len(scene.witness.pushes) == 5


def test_it_finds_nothing_wrong_with_what_is_passed_over_in_a_pause() -> None:
    scene = Scene()
    right_with_pauses(scene)
    assert scene.witness.wrong == []


class RunTime(Scene):
    """A second entry, ``r``, that was created at run time."""

    def __init__(self) -> None:
        super().__init__()
        self.change("r", definition=self._spec(0).text)

    def _spec(self, edition: int) -> Spec:
        return Spec("r", 10.0, fixed=True, edition=edition)

    def update(self) -> None:
        self.change("r", definition=self._spec(1).text)

    def remove(self) -> None:
        self.change("r", definition="", drops_intents=True)

    def fire_it(self, due: float, *, edition: int = 0) -> None:
        self.loop.now = due + 0.01
        definition = definition_hash(self._spec(edition).text)
        self.witness.message(f"r|{at(due).isoformat()}|{definition}")
        old = self.store.cursors["r"]
        assert isinstance(old, Cursor)
        claim = Claim("r", old, replace(old, due=at(due), definition=definition, fired=old.fired + 1))
        self.store.cursors["r"] = claim.wanted  # type: ignore[assignment]
        self.witness.seen(self.witness.processes[0], "ledger.claim", (self.fence, [claim]), None)


def test_it_finds_nothing_wrong_with_changes_that_take_effect() -> None:
    scene = RunTime()
    scene.fire_it(10)
    scene.loop.now = 15.0
    scene.update()
    scene.fire_it(20, edition=1)
    scene.loop.now = 25.0
    scene.remove()
    assert scene.witness.wrong == []


def test_it_sees_that_what_was_removed_is_fired() -> None:
    scene = RunTime()
    scene.fire_it(10)
    scene.loop.now = 15.0
    scene.remove()
    scene.fire_it(20)
    assert "after it was removed or paused" in scene.witness.wrong[0]


def test_it_sees_that_a_definition_is_fired_that_was_replaced() -> None:
    scene = RunTime()
    scene.fire_it(10)
    scene.loop.now = 15.0
    scene.update()
    scene.fire_it(20)
    assert "which was replaced" in " ".join(scene.witness.wrong)


@pytest.mark.parametrize("history", WRONG, ids=lambda history: history.__name__)
def test_it_sees_what_is_wrong(history: Callable[[Scene], None]) -> None:
    scene = Scene(catch_up="latest" if history is skips_what_is_in_time else "all")
    history(scene)
    assert WRONG[history] in " ".join(scene.witness.wrong)


def test_a_repetition_in_two_steps_is_excused_only_where_somebody_was_harmed() -> None:
    excused, not_excused = Scene(same_store=False), Scene(same_store=False)
    excused.witness.harms.note("a", 9.0, 12.0)
    for scene in (excused, not_excused):
        twice(scene)
    assert excused.witness.wrong == []
    assert not_excused.witness.wrong


def test_a_repetition_is_excused_where_the_store_lost_what_no_node_knew() -> None:
    scene = Scene()
    before = scene.cursor
    scene.fire(10)
    scene.store.cursors["e"] = scene.cursor = before
    scene.witness.lost()
    scene.fire(10)
    assert scene.witness.wrong == []
