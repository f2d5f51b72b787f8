from __future__ import annotations

from datetime import datetime, timezone

from celery_dispatch.core.pool import ring_hosts
from celery_dispatch.core.ports import Member, MemberState

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
JOINING, STEADY = MemberState.JOINING, MemberState.STEADY


def member(
    node: str,
    state: MemberState = STEADY,
    config: str = "v1",
    *,
    identity: str = "proj",
    draining: bool = False,
) -> Member:
    return Member(
        id=node,
        host=f"host-{node}",
        config=config,
        identity=identity,
        state=state,
        draining=draining,
        joined=NOW,
        lease_end=NOW,
        info={},
    )


def test_the_ring_holds_the_steady_nodes_that_run_the_config_in_force() -> None:
    members = (member("a"), member("b", JOINING), member("c", config="v2"), member("d"))
    assert ring_hosts(members, "v1", identity="proj") == {"a": "host-a", "d": "host-d"}


def test_a_joining_node_reckons_itself_in_and_no_other_joining_one() -> None:
    members = (member("a"), member("b", JOINING), member("c", JOINING))
    assert sorted(ring_hosts(members, "v1", identity="proj", joining="b")) == ["a", "b"]


def test_where_none_is_steady_all_that_run_the_config_share() -> None:
    members = (member("a", JOINING), member("b", JOINING), member("c", config="v2"))
    assert sorted(ring_hosts(members, "v1", identity="proj", joining="b")) == ["a", "b"]


def test_a_node_with_another_config_is_never_on_the_ring() -> None:
    assert ring_hosts((member("a"), member("b", config="v2")), "v1", identity="proj", joining="b") == {
        "a": "host-a"
    }


def test_a_draining_node_and_one_of_another_app_are_never_on_the_ring() -> None:
    members = (member("a"), member("b", draining=True), member("c", identity="other"))
    assert ring_hosts(members, "v1", identity="proj", joining="b") == {"a": "host-a"}
    assert ring_hosts((member("b", draining=True),), "v1", identity="proj") == {}


def test_a_node_that_is_cut_off_is_on_the_ring_only_while_no_other_is_steady() -> None:
    members = (member("a", MemberState.CUT_OFF), member("b", MemberState.CUT_OFF))
    assert sorted(ring_hosts(members, "v1", identity="proj", joining="a")) == ["a", "b"]
    assert ring_hosts((*members, member("c")), "v1", identity="proj", joining="a") == {"c": "host-c"}
