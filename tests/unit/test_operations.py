"""What the operations read out of a pool and its cursors, and what they find wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from celery_dispatch.core.entry import Catalog, Cursor, Entry, Fence
from celery_dispatch.core.ports import Damaged, Intent, Member, MemberState, PoolState, Stored
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
        (sources(entry("x"), rows={"x": cursor(ago(-60))}), EntryState.AHEAD),
        (sources(rows={"x": cursor(ago(4))}), EntryState.ABSENT),
        (sources(rows={"x": cursor(ago(4), "")}), EntryState.TOMBSTONE),
        (sources(entry("x"), rows={"x": cursor(ago(4), "d0")}, config="mine"), EntryState.FOREIGN),
        (sources(entry("x"), rows={"x": cursor(ago(4), "d1")}, config="mine"), EntryState.SCHEDULED),
    ],
    ids=lambda value: value.value if isinstance(value, EntryState) else "",
)
def test_state_says_what_stands_in_the_way(made: Sources, state: EntryState) -> None:
    assert state_of(made, "x") is state


def test_error_that_a_node_reports_is_shown_at_its_entry() -> None:
    members = (member("a-1", errors={"x": "no route"}), member("b-2"))
    made = sources(entry("x"), rows={"x": cursor(ago(4))}, members=members)
    detail = read_entry(made, "x")
    assert detail is not None
    assert (detail.report.state, detail.report.error) == (EntryState.ERROR, "no route")


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
            sources(members=(member("a-1", outage="no route to Redis"),)),
            Severity.WARNING,
            "no route to Redis",
        ),
        (sources(config="mine"), Severity.WARNING, "mine"),
        (sources(entry("x"), rows={"x": cursor(ago(60))}), Severity.ERROR, "1 entry is overdue: x"),
        (sources(entry("x"), rows={"x": Damaged("", "bad")}), Severity.ERROR, "damaged in Redis: x"),
        (sources(entry("x"), rows={"x": cursor(ago(-60))}), Severity.ERROR, "in the future: x"),
        (sources(broken={"x": "bad", "y": "bad"}), Severity.ERROR, "2 entries are in error: x, y"),
        (sources(members=(member("a-1", error_count=30),)), Severity.ERROR, "30 more entries"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said_with_its_cure(made: Sources, severity: Severity, words: str) -> None:
    report = read_status(made)
    assert words in problems(made, severity)
    assert report.is_fine == (not problems(made, Severity.ERROR))
    assert all(problem.cure for problem in report.problems)


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
