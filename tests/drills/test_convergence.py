from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.drills.checker import Arrival
from tests.drills.convergence import unconverged

NAMES = ("one", "two", "three")
OWNERS = {"red": ("one-1", "two-1"), "green": ("two-1", "three-1"), "blue": ("two-1", "one-1")}


def node(name: str, entries: int, state: str = "steady") -> dict[str, Any]:
    return {"id": f"{name}-1", "name": name, "state": state, "entries": entries}


def fired(entry: str, second: int, by: str) -> Arrival:
    due = 1_800_000_000_000 + 1000 * second
    return Arrival(entry, due, f"{entry}@{due}", due * 1000, node=by)


@dataclass
class World:
    """A pool as it is after a fault, if all is well."""

    alive: list[str] = field(default_factory=lambda: list(NAMES))
    nodes: list[dict[str, Any]] = field(
        default_factory=lambda: [node(name, number) for name, number in zip(NAMES, (1, 2, 0))]
    )
    entries: dict[str, tuple[str | None, str | None]] = field(default_factory=lambda: {**OWNERS})
    arrivals: list[Arrival] = field(
        default_factory=lambda: [
            fired(name, second, owner) for name, (owner, _) in OWNERS.items() for second in range(6)
        ]
    )

    def problems(self) -> list[str]:
        listed = [{"name": name, "owner": it[0], "standby": it[1]} for name, it in self.entries.items()]
        entries = {"total": len(listed), "entries": listed}
        return unconverged(self.alive, {"nodes": self.nodes}, entries, self.arrivals)


def forget_a_node(world: World) -> None:
    world.nodes.pop()


def keep_a_dead_node(world: World) -> None:
    world.alive.remove("three")


def leave_one_joining(world: World) -> None:
    world.nodes[2]["state"] = "joining"


def let_a_stranger_in(world: World) -> None:
    world.nodes.append(node("canary", 0))


def count_a_ghost(world: World) -> None:
    world.nodes.append({**node("three", 0), "id": "three-0"})


def own_one_twice(world: World) -> None:
    world.nodes[2]["entries"] = 1


def own_one_nowhere(world: World) -> None:
    world.nodes[0]["entries"] = 0


def have_no_owner(world: World) -> None:
    world.entries["red"] = (None, "two-1")


def have_a_dead_owner(world: World) -> None:
    world.entries["red"] = ("four-1", "two-1")


def have_a_dead_standby(world: World) -> None:
    world.entries["red"] = ("one-1", "four-1")


def have_one_for_both(world: World) -> None:
    world.entries["red"] = ("one-1", "one-1")


def fire_by_another(world: World) -> None:
    world.arrivals += [fired("red", second, "two-1") for second in range(6, 10)]


def fire_by_the_dead(world: World) -> None:
    world.arrivals.append(fired("red", 6, "four-1"))


def test_a_pool_of_one_mind_has_no_problems() -> None:
    assert World().problems() == []


@pytest.mark.parametrize(
    "spoil, said",
    [
        (forget_a_node, "on the ring are"),
        (keep_a_dead_node, "on the ring are"),
        (leave_one_joining, "nodes that are joining"),
        (let_a_stranger_in, "on the ring are"),
        (count_a_ghost, "on the ring are"),
        (own_one_twice, "the nodes own 4 entries of 3"),
        (own_one_nowhere, "the nodes own 2 entries of 3"),
        (have_no_owner, "red has no owner"),
        (have_a_dead_owner, "red has no owner"),
        (have_a_dead_standby, "red has no owner"),
        (have_one_for_both, "red has no owner"),
        (fire_by_another, "red was fired by ['two-1'], its owner is one-1"),
        (fire_by_the_dead, "red was fired by ['four-1']"),
    ],
)
def test_each_disagreement_is_found(spoil: Callable[[World], None], said: str) -> None:
    world = World()
    spoil(world)
    assert any(problem.startswith(said) for problem in world.problems()), world.problems()


def test_a_standby_may_have_helped_with_the_newest() -> None:
    world = World()
    world.arrivals.append(fired("red", 6, "two-1"))
    assert world.problems() == []


def test_a_node_alone_has_no_standby() -> None:
    world = World(alive=["one"], nodes=[node("one", 3)])
    world.entries = dict.fromkeys(world.entries, ("one-1", None))
    world.arrivals = [fired("red", 6, "one-1")]
    assert world.problems() == []


def test_who_stands_by_with_another_config_is_no_part_of_it() -> None:
    world = World()
    world.nodes.append(node("canary", 3, "standing-by"))
    assert world.problems() == []
