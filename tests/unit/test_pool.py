from __future__ import annotations

from datetime import datetime, timezone

from celery_dispatch.core.pool import ring_hosts
from celery_dispatch.core.ports import Member, MemberState

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
JOINING, STEADY = MemberState.JOINING, MemberState.STEADY


def member(node: str, state: MemberState = STEADY, config: str = "v1") -> Member:
    return Member(node, f"host-{node}", config, state, NOW, NOW, {})


def test_the_ring_holds_the_steady_nodes_that_run_the_config_in_force() -> None:
    members = (member("a"), member("b", JOINING), member("c", config="v2"), member("d"))
    assert ring_hosts(members, "v1") == {"a": "host-a", "d": "host-d"}


def test_a_joining_node_reckons_itself_in_and_no_other_joining_one() -> None:
    members = (member("a"), member("b", JOINING), member("c", JOINING))
    assert sorted(ring_hosts(members, "v1", joining="b")) == ["a", "b"]


def test_where_none_is_steady_all_that_run_the_config_share() -> None:
    members = (member("a", JOINING), member("b", JOINING), member("c", config="v2"))
    assert sorted(ring_hosts(members, "v1", joining="b")) == ["a", "b"]


def test_a_node_with_another_config_is_never_on_the_ring() -> None:
    assert ring_hosts((member("a"), member("b", config="v2")), "v1", joining="b") == {"a": "host-a"}
