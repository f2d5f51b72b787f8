"""What the operations read out of a pool and its cursors, and what they find wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from celery_dispatch.core.entry import Catalog, Cursor, Entry, Fence
from celery_dispatch.core.ports import Damaged, Intent, Member, MemberState, PoolState, Stored
from celery_dispatch.core.recurrence import Between
from celery_dispatch.core.ring import Ranks, Ring
from celery_dispatch.errors import EntryError, StoreUnavailable
from celery_dispatch.manage.operations import (
    EntryFilter,
    Sources,
    read_dues,
    read_entries,
    read_entry,
    read_pool,
    read_status,
)
from celery_dispatch.manage.reports import EntryState, NodeState, Severity, Sketch
from celery_dispatch.manage.run_time import Told

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
SINCE = NOW - timedelta(hours=1)
FENCE = Fence("cfg", SINCE)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


# --- small stand-ins ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Every:
    seconds: float

    def following(self, last: datetime, after: datetime) -> datetime:
        step = timedelta(seconds=self.seconds)
        return last + ((after - last) // step + 1) * step

    def latest(self, last: datetime, now: datetime) -> tuple[datetime, int] | None:
        raise NotImplementedError


class Never(Every):
    def following(self, last: datetime, after: datetime) -> datetime:
        raise EntryError("31 February never comes")


class Asked:
    def poll(self, last: datetime, now: datetime) -> tuple[bool, timedelta]:
        return False, timedelta(seconds=1)


class StoredPool:
    def __init__(self, state: PoolState) -> None:
        self._state = state

    def read(self) -> PoolState:
        return self._state


class StoredCursors:
    """Pages of two, so that paging is always exercised; the first row of each page comes twice."""

    def __init__(self, rows: Mapping[str, Cursor | Damaged]) -> None:
        self._rows = list(rows.items())

    def read(self, names: Sequence[str]) -> list[Stored]:
        return [dict(self._rows).get(name) for name in names]

    def scan(self, position: int, count: int) -> tuple[int, list[tuple[str, Cursor | Damaged]]]:
        end = position + 2
        page = self._rows[position:end]
        return (end if end < len(self._rows) else 0), [*page, *page[:1]]


class OpenIntents:
    def __init__(self, *intents: Intent) -> None:
        self._intents = list(intents)

    def read(self, limit: int) -> tuple[int, list[Intent]]:
        return len(self._intents), self._intents[:limit]


def member(node: str, host: str = "h1", *, config: str = "cfg", lease: float = 10, **info: object) -> Member:
    return Member(
        id=node,
        host=host,
        config=config,
        identity="app",
        state=MemberState.STEADY,
        draining=False,
        joined=SINCE,
        lease_end=NOW + timedelta(seconds=lease),
        info=info,
    )


def late(node: str, age: float) -> Member:
    """A node that renews every 2 s, and did so last ``age`` seconds ago."""
    made = member(node, lease=10 - age)
    return replace(made, info={"heartbeat": 2.0, "lease": 10})


def intent(since: datetime) -> Intent:
    return Intent("x", ago(60), "d1", "a-1", "0" * 16, since)


def entry(name: str, recurrence: object = Every(10), definition: str = "d1") -> Entry:
    return Entry(name, recurrence, definition)  # type: ignore[arg-type]


def cursor(due: datetime, definition: str = "d1", **changes: object) -> Cursor:
    made = Cursor(due, definition, SINCE, revision=2, fired=7, skipped=1, node="a-1")
    return replace(made, **changes)  # type: ignore[arg-type]


def sources(
    *entries: Entry,
    rows: Mapping[str, Cursor | Damaged] | None = None,
    members: tuple[Member, ...] = (member("a-1"), member("b-2", "h2")),
    fence: Fence | None = FENCE,
    config: str = "cfg",
    broken: Mapping[str, str] | None = None,
    intents: tuple[Intent, ...] = (),
    **pool: Any,
) -> Sources:
    state = PoolState(
        now=NOW,
        epoch="1",
        fence=fence,
        before=None,
        challenger="",
        identity="app",
        recovery="",
        members=members,
    )
    return Sources(
        pool=StoredPool(replace(state, **pool)),  # type: ignore[arg-type]
        ledger=StoredCursors(rows or {}),  # type: ignore[arg-type]
        intents=OpenIntents(*intents),  # type: ignore[arg-type]
        catalog=Catalog(config, {entry.name: entry for entry in entries}, broken or {}),
        patience=timedelta(seconds=10.5),
        sketch=lambda entry: Sketch(task=f"tasks.{entry.name}", schedule="every 10 s"),
    )


def state_of(made: Sources, name: str) -> EntryState:
    detail = read_entry(made, name)
    assert detail is not None
    (listed,) = read_entries(made, EntryFilter(name=name)).entries
    assert listed == detail.report, "show and list disagree"
    return detail.report.state


def problems(made: Sources, severity: Severity | None = None) -> str:
    found = read_status(made).problems
    return "\n".join(problem.what for problem in found if severity in (None, problem.severity))


# --- nodes --------------------------------------------------------------------------------------------------


def test_only_live_steady_nodes_of_the_config_in_force_own_anything() -> None:
    members = (
        member("a-1"),
        replace(member("c-3"), state=MemberState.JOINING),
        member("d-4", config="new"),
        member("e-5", lease=0),
        replace(member("f-6"), draining=True),
        replace(member("g-7"), state=MemberState.CUT_OFF),
        replace(member("h-8"), identity="other"),
        replace(member("i-9", config="new"), draining=True),
    )
    nodes = {node.id: node for node in read_pool(sources(members=members).pool).nodes}
    assert {name: node.state for name, node in nodes.items()} == {
        "a-1": NodeState.STEADY,
        "c-3": NodeState.JOINING,
        "d-4": NodeState.STANDBY,
        "e-5": NodeState.EXPIRED,
        "f-6": NodeState.DRAINING,
        "g-7": NodeState.CUT_OFF,
        "h-8": NodeState.FOREIGN,
        "i-9": NodeState.DRAINING,
    }
    assert [node.id for node in nodes.values() if node.share] == ["a-1"]
    assert [node.id for node in nodes.values() if node.in_force] == ["a-1", "c-3", "e-5", "f-6", "g-7"]


def test_switch_written_ahead_leaves_the_config_before_it_in_force_until_then() -> None:
    ahead = Fence("new", NOW + timedelta(seconds=2))
    members = (member("a-1"), member("b-2", config="new"))
    pool = read_pool(sources(members=members, fence=ahead, before=FENCE).pool)
    assert (pool.fence, pool.switch) == (FENCE, ahead)
    assert [node.state for node in pool.nodes] == [NodeState.STEADY, NodeState.STANDBY]
    after = read_pool(sources(members=members, fence=Fence("new", NOW), before=FENCE).pool)
    assert (after.fence, after.switch) == (Fence("new", NOW), None)
    assert [node.state for node in after.nodes] == [NodeState.STANDBY, NodeState.STEADY]


def test_state_of_the_pool_is_told_as_it_is_stored() -> None:
    pool = read_pool(sources(challenger="new", recovery="r1").pool)
    assert (pool.challenger, pool.recovery, pool.identity) == ("new", "r1", "app")


def test_what_a_node_says_of_itself_is_optional_and_may_be_nonsense() -> None:
    nonsense: dict[str, Any] = {
        "pid": "x",
        "lag": [],
        "errors": 3,
        "fired": None,
        "started": "yesterday",
        "outage": 5,
    }
    first, second = read_pool(sources(members=(member("a-1"), member("b-2", **nonsense))).pool).nodes
    assert (first.pid, first.fired, first.lag.max, dict(first.errors), first.started) == (
        None,
        0,
        None,
        {},
        None,
    )
    assert replace(second, id="a-1", share=first.share) == first


def test_what_a_node_says_of_itself_is_read() -> None:
    lag = {"p50": 1.5, "max": 9}
    info: dict[str, Any] = {"pid": 12, "fired": 5, "lag": lag, "started": "2026-01-02T03:00:00.000Z"}
    node = read_pool(sources(members=(member("a-1", **info),)).pool).nodes[0]
    assert (node.pid, node.fired, node.lag.p50, node.lag.max) == (12, 5, 1.5, 9.0)
    assert node.started == datetime(2026, 1, 2, 3, tzinfo=timezone.utc)


@pytest.mark.parametrize(("age", "state"), [(3, NodeState.STEADY), (3.1, NodeState.LATE)])
def test_node_is_late_once_a_heartbeat_is_a_second_overdue(age: float, state: NodeState) -> None:
    (node,) = read_pool(sources(members=(late("a-1", age),)).pool).nodes
    assert (node.state, node.last_heartbeat) == (state, ago(age))


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"heartbeat": 2.0},
        {"heartbeat": 2.0, "lease": "10"},
        {"heartbeat": float("nan"), "lease": 10.0},
        {"heartbeat": 2.0, "lease": 1e300},
        {"heartbeat": True, "lease": 10**400},
        {"heartbeat": -1, "lease": 10.0},
    ],
)
def test_node_that_does_not_say_how_often_it_renews_is_never_late(info: dict[str, object]) -> None:
    (node,) = read_pool(sources(members=(replace(member("a-1", lease=0.1), info=info),)).pool).nodes
    assert node.state is NodeState.STEADY


def test_late_node_keeps_its_entries_but_does_not_count_as_steady() -> None:
    pool = read_pool(sources(members=(late("a-1", 5), member("b-2", "h2"))).pool)
    assert all(node.share > 0.3 for node in pool.nodes)
    assert [node.id for node in pool.steady] == ["b-2"]


def test_config_that_was_never_in_force_yet_is_the_one_that_nodes_fire() -> None:
    """As nodes see it too: where none was before it, there is nothing to wait for."""
    pool = read_pool(sources(fence=Fence("cfg", ago(-86_400))).pool)
    assert (pool.fence, pool.switch) == (Fence("cfg", ago(-86_400)), None)
    assert [node.state for node in pool.nodes] == [NodeState.STEADY, NodeState.STEADY]


def test_switch_that_is_as_far_ahead_as_any_is_no_problem() -> None:
    made = sources(fence=Fence("new", ago(-2.5)), before=FENCE)
    assert "comes into force" not in problems(made)


def test_far_future_breaks_no_command() -> None:
    made = sources(entry("x"), rows={"x": cursor(ago(4), "d0")}, fence=Fence("cfg", ago(-8e10)))
    assert "comes into force" in problems(made, Severity.ERROR)
    assert read_entries(made, EntryFilter()).matched == 1
    detail = read_entry(made, "x")
    assert detail is not None and detail.entry is not None


def test_numbers_that_no_node_would_say_are_not_believed() -> None:
    hostile: dict[str, Any] = {
        "lag": {"p50": 1e300, "max": float("inf")},
        "fired": -5,
        "skipped": 10**30,
        "started": "0001-01-01T00:00:00+23:59",
        "version": "1\x1b[2J\n2",
        "errors": {"x\x1b": "line\nbreak\x07"},
    }
    (node,) = read_pool(sources(members=(member("a-1", **hostile),)).pool).nodes
    assert (node.lag.p50, node.lag.max, node.fired, node.skipped, node.started) == (None, None, 0, 0, None)
    assert node.version == "1\ufffd[2J 2"
    assert node.errors == {"x\ufffd": "line break\ufffd"}


# --- states of an entry -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("due", "state"),
    [
        (ago(4), EntryState.SCHEDULED),
        (ago(10), EntryState.DUE),
        (ago(20.5), EntryState.DUE),
        (ago(20.501), EntryState.OVERDUE),
    ],
)
def test_entry_is_overdue_once_lease_and_handover_have_passed(due: datetime, state: EntryState) -> None:
    assert state_of(sources(entry("x"), rows={"x": cursor(due)}), "x") is state


@pytest.mark.parametrize(
    ("made", "state"),
    [
        (sources(entry("x")), EntryState.UNANCHORED),
        (sources(entry("x"), rows={"x": cursor(ago(4))}, members=()), EntryState.WAITING),
        (sources(entry("x", Asked()), rows={"x": cursor(ago(4))}), EntryState.POLLED),
        (sources(entry("x", Never(1)), rows={"x": cursor(ago(4))}), EntryState.ERROR),
        (sources(broken={"x": "no task"}), EntryState.ERROR),
        (sources(entry("x"), rows={"x": Damaged("?", "not JSON")}), EntryState.DAMAGED),
        (sources(entry("x"), rows={"x": cursor(ago(-5000))}), EntryState.AHEAD),
        (sources(rows={"x": cursor(ago(4))}), EntryState.ABSENT),
        (sources(rows={"x": cursor(ago(4), "")}), EntryState.TOMBSTONE),
        (sources(entry("x"), rows={"x": cursor(ago(4), "d0")}, config="mine"), EntryState.FOREIGN),
        (sources(entry("x"), rows={"x": cursor(ago(4), "d1")}, config="mine"), EntryState.SCHEDULED),
    ],
    ids=lambda value: value.value if isinstance(value, EntryState) else "",
)
def test_state_says_what_stands_in_the_way(made: Sources, state: EntryState) -> None:
    assert state_of(made, "x") is state


def test_a_cursor_that_moved_while_the_ring_was_reckoned_is_not_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passed = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: passed[0])

    class SlowRing(Ring):
        def ranks(self, hosts: Mapping[str, str]) -> Ranks:
            passed[0] += 5.0
            return super().ranks(hosts)

    made = replace(sources(entry("x"), rows={"x": cursor(ago(-4))}), ring=SlowRing())
    listed = read_entries(made, EntryFilter()).entries
    detail = read_entry(made, "x")
    monkeypatch.undo()
    assert detail is not None
    assert [report.state for report in (*listed, detail.report)] == [EntryState.SCHEDULED] * 2


def test_error_that_a_node_reports_is_shown_at_its_entry() -> None:
    members = (member("a-1", errors={"x": "no route"}), member("b-2"))
    made = sources(entry("x"), rows={"x": cursor(ago(4))}, members=members)
    detail = read_entry(made, "x")
    assert detail is not None
    assert (detail.report.state, detail.report.error) == (EntryState.ERROR, "no route")


def test_a_row_of_all_entries_that_cannot_be_read_is_a_problem_of_its_own() -> None:
    made = sources(entry("x"), rows={"x": cursor(ago(4))})
    told = Told(made.catalog, lambda name: None, unclear="damaged (not JSON): 'nonsense'")
    unclear = replace(made, look=lambda catalog, names: told)
    assert "Whether everything is paused cannot be read (damaged (not JSON): 'nonsense')" in problems(unclear)
    assert "Whether everything is paused" not in problems(made)


def test_error_reported_under_another_config_is_not_shown() -> None:
    members = (member("a-1"), member("b-2", config="new", errors={"x": "no route"}))
    made = sources(entry("x"), rows={"x": cursor(ago(4))}, members=members)
    assert state_of(made, "x") is EntryState.SCHEDULED


def test_two_definitions_under_one_fingerprint_are_an_error() -> None:
    made = sources(entry("x"), rows={"x": cursor(ago(4), "d2")})
    assert state_of(made, "x") is EntryState.ERROR


def test_changed_definition_is_next_due_after_the_switch_on_the_grid_of_its_last_due() -> None:
    old = cursor(SINCE - timedelta(days=1), "d0", effective_from=SINCE - timedelta(days=2))
    made = sources(entry("x", Every(5 * 3600)), rows={"x": old})
    detail = read_entry(made, "x")
    assert detail is not None
    assert detail.report.next_due == SINCE + timedelta(hours=1)


def test_anchored_entry_has_no_last_due() -> None:
    made = sources(entry("x", Every(7200)), rows={"x": Cursor.anchor("d1", SINCE, "a-1")})
    detail = read_entry(made, "x")
    assert detail is not None
    assert (detail.report.last_due, detail.report.next_due) == (None, SINCE + timedelta(hours=2))


def test_owner_and_standby_are_two_nodes_on_two_hosts() -> None:
    made = sources(entry("x"), members=(member("a-1"), member("b-2"), member("c-3", "h2")))
    detail = read_entry(made, "x")
    assert detail is not None
    assert {detail.report.owner, detail.report.standby} in ({"a-1", "c-3"}, {"b-2", "c-3"})


# --- lists --------------------------------------------------------------------------------------------------


def test_list_holds_everything_that_is_known_once_and_by_name() -> None:
    rows = {"d": cursor(ago(4)), "b": cursor(ago(4)), "gone": cursor(ago(4), "")}
    listed = read_entries(sources(entry("d"), entry("a"), broken={"c": "bad"}, rows=rows), EntryFilter())
    assert [entry.name for entry in listed.entries] == ["a", "b", "c", "d", "gone"]
    assert (listed.matched, listed.total) == (5, 5)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (EntryFilter(name="ma"), ["mail", "map"]),
        (EntryFilter(name="m*l"), ["mail"]),
        (EntryFilter(name="[x"), []),
        (EntryFilter(states=frozenset({EntryState.OVERDUE})), ["map"]),
        (EntryFilter(states=frozenset({EntryState.OVERDUE, EntryState.UNANCHORED})), ["mail", "map"]),
        (EntryFilter(node="a-1"), ["mail", "map", "other"]),
        (EntryFilter(node="nobody"), []),
    ],
)
def test_list_is_filtered(wanted: EntryFilter, names: list[str]) -> None:
    made = sources(entry("mail"), entry("map"), entry("other"),
                   rows={"map": cursor(ago(60)), "other": cursor(ago(4))})  # fmt: skip
    assert [entry.name for entry in read_entries(made, wanted).entries] == names


def test_limit_cuts_the_list_but_not_the_count() -> None:
    made = sources(*map(entry, "abcd"), rows={"d": cursor(ago(4))})
    for states, matched in ((frozenset[EntryState](), 4), (frozenset({EntryState.UNANCHORED}), 3)):
        listed = read_entries(made, EntryFilter(limit=2, states=states))
        assert ([entry.name for entry in listed.entries], listed.matched) == (["a", "b"], matched)


# --- dues ---------------------------------------------------------------------------------------------------


def test_next_dues_follow_the_cursor() -> None:
    dues = read_dues(sources(entry("x"), rows={"x": cursor(ago(4))}), "x", 3)
    assert dues is not None
    assert dues.dues == (ago(-6), ago(-16), ago(-26))
    assert not dues.assumed


def test_dues_without_a_cursor_are_counted_from_now_and_say_so() -> None:
    dues = read_dues(sources(entry("x")), "x", 1)
    assert dues is not None
    assert dues.dues == (ago(-10),)
    assert dues.assumed


@pytest.mark.parametrize("recurrence", [Asked(), Never(1)])
def test_dues_that_cannot_be_told_come_with_the_reason(recurrence: object) -> None:
    dues = read_dues(sources(entry("x", recurrence), rows={"x": cursor(ago(4))}), "x", 3)
    assert dues is not None
    assert dues.dues == ()
    assert dues.error


def test_dues_of_a_jittered_entry_come_with_when_they_are_fired_and_end_with_its_count() -> None:
    one = replace(entry("x"), jitter=timedelta(seconds=5), count=10)
    dues = read_dues(sources(one, rows={"x": replace(cursor(ago(4)), fired=8)}), "x", 3)
    assert dues is not None and len(dues.dues) == 2
    assert dues.fires_at == tuple(map(one.fires_at, dues.dues)) and dues.fires_at != dues.dues
    assert dues.error == "No more are to come: its schedule, its end or its count is reached."


@pytest.mark.parametrize(
    "one",
    [
        replace(entry("x"), count=8),
        entry("x", Between(Every(10), None, ago(4))),
    ],
)
def test_entry_with_nothing_left_to_fire_is_completed(one: Entry) -> None:
    made = sources(one, rows={"x": replace(cursor(ago(4)), fired=8)})
    (report,) = read_entries(made, EntryFilter()).entries
    assert (report.state, report.next_due) == (EntryState.COMPLETED, None)
    assert not report.state.is_wrong


def test_a_jittered_entry_is_overdue_only_after_its_jitter() -> None:
    one = replace(entry("x", Every(1000)), jitter=timedelta(seconds=1000))
    due = NOW - timedelta(seconds=12)
    assert one.fires_at(due) > NOW
    (report,) = read_entries(
        sources(one, rows={"x": cursor(due - timedelta(seconds=1000))}), EntryFilter()
    ).entries
    assert report.state is EntryState.SCHEDULED


def test_unknown_entry_is_none() -> None:
    assert read_dues(sources(entry("x")), "y", 3) is None
    assert read_entry(sources(entry("x")), "y") is None


# --- what is wrong ------------------------------------------------------------------------------------------


def test_two_nodes_on_two_hosts_with_one_config_are_fine() -> None:
    report = read_status(sources(entry("x"), rows={"x": cursor(ago(4))}))
    assert report.problems == ()
    assert report.is_fine
    assert (report.entries.total, report.entries.fired, report.entries.skipped) == (1, 7, 1)


@pytest.mark.parametrize(
    ("made", "severity", "words"),
    [
        (sources(members=(), fence=None), Severity.ERROR, "no pool"),
        (sources(members=()), Severity.ERROR, "No node is alive"),
        (sources(members=(member("a-1", lease=-1),)), Severity.ERROR, "No node is alive"),
        (sources(members=(member("a-1", config="new"),)), Severity.ERROR, "No node is steady"),
        (sources(members=(member("a-1"),)), Severity.WARNING, "no standby"),
        (sources(members=(member("a-1"), member("b-2"))), Severity.WARNING, "All nodes are on host h1"),
        (sources(members=(member("a-1"), member("b-2", lease=-1))), Severity.WARNING, "lease run out: b-2"),
        (sources(members=(member("a-1"), member("b-2", config="new"))), Severity.WARNING, "another config"),
        (
            sources(members=(member("a-1"), replace(member("b-2"), identity="y"))),
            Severity.WARNING,
            "1 node of another app or broker stands by: b-2",
        ),
        (
            sources(members=(member("a-1"), replace(member("b-2"), state=MemberState.CUT_OFF))),
            Severity.WARNING,
            "cannot reach the broker: b-2",
        ),
        (
            sources(members=(replace(member("b-2"), state=MemberState.CUT_OFF),)),
            Severity.ERROR,
            "cannot reach the broker: b-2",
        ),
        (
            sources(members=(member("a-1"), replace(member("b-2"), draining=True))),
            Severity.WARNING,
            "1 node drains: b-2",
        ),
        (sources(recovery="r1"), Severity.WARNING, "recovering"),
        (sources(intents=(intent(ago(11)), intent(ago(2)))), Severity.WARNING, "2 occurrences were claimed"),
        (
            sources(members=(member("a-1", outage="no route to Redis"), member("b-2"))),
            Severity.WARNING,
            "no route to Redis",
        ),
        (
            sources(members=(member("a-1", outage="NOPERM"), member("b-2", outage="NOPERM"))),
            Severity.ERROR,
            "Node a-1 reported an outage (with its last heartbeat): NOPERM.",
        ),
        (
            sources(members=(late("a-1", 3.5), late("b-2", 8))),
            Severity.ERROR,
            "2 nodes are late with the heartbeat: a-1 (the last one 3.5 s ago), b-2 (the last one 8 s ago). "
            "Nothing is fired.",
        ),
        (
            sources(members=(late("a-1", 3.5), member("b-2"))),
            Severity.WARNING,
            "1 node is late with the heartbeat: a-1 (the last one 3.5 s ago).",
        ),
        (
            sources(members=(replace(member("a-1"), draining=True), late("b-2", 8))),
            Severity.ERROR,
            "No node is steady: nothing is fired (1 draining, 1 late).",
        ),
        (sources(members=(member("a-1"),), fence=None), Severity.ERROR, "nothing is fired (1 standing by)"),
        (
            sources(fence=Fence("cfg", ago(-86_400))),
            Severity.ERROR,
            "Config cfg comes into force in 1 d only, at 2026-01-03 03:04:05 UTC: what is new or changed",
        ),
        (
            sources(fence=Fence("new", ago(-86_400)), before=FENCE),
            Severity.ERROR,
            "until then cfg stays in force",
        ),
        (sources(config="mine"), Severity.WARNING, "mine"),
        (sources(entry("x"), rows={"x": cursor(ago(60))}), Severity.ERROR, "1 entry is overdue: x"),
        (sources(entry("x"), rows={"x": Damaged("", "bad")}), Severity.ERROR, "damaged in Redis: x"),
        (sources(entry("x"), rows={"x": cursor(ago(-60))}), Severity.ERROR, "in the future: x"),
        (sources(broken={"x": "bad", "y": "bad"}), Severity.ERROR, "2 entries are in error: x, y"),
        (sources(members=(member("a-1", error_count=30),)), Severity.ERROR, "30 more entries."),
        (sources(members=(member("a-1", error_count=1),)), Severity.ERROR, "1 more entry."),
        (sources(intents=(intent(ago(20)),)), Severity.WARNING, "not known to be on the broker for 20 s"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said_with_its_cure(made: Sources, severity: Severity, words: str) -> None:
    report = read_status(made)
    assert words in problems(made, severity)
    assert report.is_fine == (not problems(made, Severity.ERROR))
    assert all(problem.cure for problem in report.problems)


@pytest.mark.parametrize(
    ("made", "what", "cure"),
    [
        (
            sources(members=(replace(member("a-1"), draining=True),)),
            "No node is steady: nothing is fired (1 draining).",
            "undrain a-1",
        ),
        (sources(members=(member("a-1", lease=-1),)), "No node is alive", "process of a-1 still run"),
        (sources(members=()), "No node is alive", "Start a beat"),
        (
            sources(fence=Fence("cfg", ago(-86_400))),
            "comes into force",
            "HDEL '{celery-dispatch}:pool' since",
        ),
        (
            sources(members=(member("a-1"),), fence=None),
            "No node is steady",
            "HDEL '{celery-dispatch}:pool' since",
        ),
        (
            sources(members=(member("a-1"),), fence=None, recovery="r1"),
            "No node is steady",
            "Wait until the recovery is over",
        ),
        (
            sources(members=(replace(member("a-1"), state=MemberState.JOINING, draining=False),), config="x"),
            "No node is steady",
            "Wait until one has loaded",
        ),
        (
            sources(members=(member("a-1"), member("b-2", lease=-1)), recovery="r1"),
            "lease run out: b-2",
            "when the recovery is over",
        ),
    ],
)
def test_cure_fits_what_is_wrong(made: Sources, what: str, cure: str) -> None:
    (problem,) = [problem for problem in read_status(made).problems if what in problem.what]
    assert cure in problem.cure


def test_nobody_is_called_drained_and_firing_at_once() -> None:
    found = problems(sources(members=(replace(member("a-1"), draining=True),)))
    assert "drains" not in found


@pytest.mark.parametrize("count", [1, 2])
def test_words_agree_in_number(count: int) -> None:
    names = [f"e{number}" for number in range(count)]
    rows: dict[str, Cursor | Damaged] = {name: cursor(ago(-60)) for name in names}
    found = problems(sources(*map(entry, names), rows=rows), Severity.ERROR)
    expected = {1: "1 entry is silent, with a cursor in the future: e0.", 2: "2 entries are silent, with"}
    assert expected[count] in found


def test_open_intents_are_counted_and_young_ones_are_no_problem() -> None:
    report = read_status(sources(intents=(intent(ago(9)), intent(ago(2)))))
    assert (report.intents.open, report.intents.oldest) == (2, ago(9))
    assert report.problems == ()


def test_errors_come_before_warnings() -> None:
    report = read_status(sources(entry("x"), rows={"x": cursor(ago(60))}, members=(member("a-1"),)))
    assert [problem.severity for problem in report.problems] == [Severity.ERROR, Severity.WARNING]


def test_lag_of_the_pool_is_the_middle_and_the_worst() -> None:
    lags = ({"p50": 1, "max": 4}, {"p50": 3, "max": 50}, {"p50": None, "max": None})
    members = tuple(member(f"n-{i}", f"h{i}", lag=lag) for i, lag in enumerate(lags))
    report = read_status(sources(members=members))
    assert (report.lag.p50, report.lag.max) == (2, 50)


def test_tombstones_are_counted_apart() -> None:
    report = read_status(sources(entry("x"), rows={"x": cursor(ago(4)), "gone": cursor(ago(4), "")}))
    assert report.entries.total == 1
    assert report.entries.by_state[EntryState.TOMBSTONE] == 1


def test_outage_is_never_read_as_an_empty_pool() -> None:
    class Silent:
        def read(self) -> PoolState:
            raise StoreUnavailable("no answer")

    with pytest.raises(StoreUnavailable):
        read_status(replace(sources(), pool=Silent()))  # type: ignore[arg-type]
