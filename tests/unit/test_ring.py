from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_dispatch.core.ring import OTHER, OWNER, SLOTS, STANDBY, Ranks, Ring, slot_of

node_ids = st.text("abcdef0123456789", min_size=8, max_size=8).map("beat-{}".format)


def pool(*nodes: str) -> dict[str, str]:
    """Nodes, each on a host of its own."""
    return {node: f"host-of-{node}" for node in nodes}


def each_slot(ranks: Ranks, column: Sequence[int]) -> list[str]:
    """The node of each slot, or '' where there is none."""
    nodes: list[str] = []
    for end, index in zip(ranks.ends, column):
        nodes += [ranks.nodes[index] if index >= 0 else ""] * (end - len(nodes))
    return nodes


def owners(ranks: Ranks) -> list[str]:
    return each_slot(ranks, ranks.owners)


def standbys(ranks: Ranks) -> list[str]:
    return each_slot(ranks, ranks.standbys)


def test_an_empty_ring_owns_nothing() -> None:
    ranks = Ring().ranks({})
    assert ranks.owner("entry") is None
    assert ranks.standby("entry") is None
    assert set(ranks.of("nobody")) == {OTHER}


def test_a_single_node_owns_all_and_nobody_stands_by() -> None:
    ranks = Ring().ranks(pool("a"))
    assert set(ranks.of("a")) == {OWNER}
    assert ranks.standby("entry") is None
    assert ranks.shares() == {"a": 1.0}


@given(st.lists(node_ids, min_size=2, max_size=10, unique=True))
@settings(max_examples=25, deadline=None)
def test_every_slot_has_an_owner_and_another_standby(nodes: list[str]) -> None:
    ranks = Ring().ranks(pool(*nodes))
    assert len(owners(ranks)) == len(standbys(ranks)) == SLOTS
    assert all(owner != standby for owner, standby in zip(owners(ranks), standbys(ranks)))
    assert all(owners(ranks)) and all(standbys(ranks))
    for node in nodes:
        mine = ranks.of(node)
        assert [rank == OWNER for rank in mine] == [owner == node for owner in owners(ranks)]
        assert [rank == STANDBY for rank in mine] == [standby == node for standby in standbys(ranks)]


@given(st.lists(node_ids, min_size=1, max_size=10, unique=True))
@settings(max_examples=40, deadline=None)
def test_the_largest_share_is_at_most_five_percent_above_the_mean(nodes: list[str]) -> None:
    shares = Ring().ranks(pool(*nodes)).shares()
    assert max(shares.values()) * len(nodes) <= 1.05
    assert sum(shares.values()) == pytest.approx(1)


@given(st.lists(node_ids, min_size=2, max_size=10, unique=True))
@settings(max_examples=25, deadline=None)
def test_a_join_moves_only_what_the_new_node_takes(nodes: list[str]) -> None:
    *old, new = nodes
    ring = Ring()
    before, after = owners(ring.ranks(pool(*old))), owners(ring.ranks(pool(*nodes)))
    assert all(now in (was, new) for was, now in zip(before, after))


@given(st.lists(node_ids, min_size=2, max_size=10, unique=True))
@settings(max_examples=25, deadline=None)
def test_a_leave_hands_on_only_what_the_node_had_and_to_its_standbys(nodes: list[str]) -> None:
    *rest, gone = nodes
    ring = Ring()
    before = ring.ranks(pool(*nodes))
    after = owners(ring.ranks(pool(*rest)))
    for was, standby, now in zip(owners(before), standbys(before), after):
        assert now == (standby if was == gone else was)


@given(
    st.lists(node_ids, min_size=2, max_size=8, unique=True),
    st.lists(st.lists(node_ids, min_size=1, max_size=8, unique=True), max_size=3),
)
@settings(max_examples=25, deadline=None)
def test_ranks_depend_on_the_pool_alone_not_on_its_past(nodes: list[str], past: list[list[str]]) -> None:
    ring = Ring()
    for earlier in past:
        ring.ranks(pool(*earlier))
    assert ring.ranks(pool(*nodes)) == Ring().ranks(pool(*reversed(nodes)))


def test_the_standby_is_on_another_host_where_there_is_one() -> None:
    hosts = {"a1": "a", "a2": "a", "a3": "a", "b1": "b"}
    ranks = Ring().ranks(hosts)
    for owner, standby in zip(owners(ranks), standbys(ranks)):
        assert hosts[owner] != hosts[standby]


def test_the_standby_is_another_node_where_all_share_a_host() -> None:
    ranks = Ring().ranks({"a1": "a", "a2": "a", "a3": "a"})
    assert all(standby and owner != standby for owner, standby in zip(owners(ranks), standbys(ranks)))


@given(st.lists(node_ids, min_size=1, max_size=6, unique=True), st.text(max_size=20))
@settings(max_examples=25, deadline=None)
def test_owner_and_standby_of_an_entry_are_those_of_its_slot(nodes: list[str], name: str) -> None:
    ranks, slot = Ring().ranks(pool(*nodes)), slot_of(name)
    assert (ranks.owner(name), ranks.standby(name) or "") == (owners(ranks)[slot], standbys(ranks)[slot])


def test_a_large_pool_has_a_ring_of_bounded_size() -> None:
    nodes = [f"beat-{i}" for i in range(200)]
    ranks = Ring().ranks(pool(*nodes))
    assert set(owners(ranks)) == set(nodes)
    assert max(ranks.shares().values()) * len(nodes) < 1.3


def test_a_slot_is_the_same_in_every_process() -> None:
    code = "from celery_dispatch.core.ring import slot_of; print(slot_of('täglich'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == slot_of("täglich")
