"""What the doctor finds in a snapshot, each with its severity, evidence and cure."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from rich.console import Console

from celery_dispatch.core.entry import Catalog, Cursor, Entry, Fence
from celery_dispatch.core.ports import Damaged, Intent
from celery_dispatch.core.ring import Ring
from celery_dispatch.core.rows import Pause
from celery_dispatch.errors import ConfigError, StoreRefused, StoreUnavailable
from celery_dispatch.manage.doctor.examine import examine, unusable_settings
from celery_dispatch.manage.doctor.findings import Area, Diagnosis, Finding
from celery_dispatch.manage.doctor.reader import Consulted, read_snapshot
from celery_dispatch.manage.doctor.render import diagnosis_document, diagnosis_view, exit_status
from celery_dispatch.manage.doctor.server import read_server
from celery_dispatch.manage.doctor.snapshot import DamagedRow, Route, Routes, Server, Snapshot
from celery_dispatch.manage.operations import Sources
from celery_dispatch.manage.reports import (
    EntryReport,
    EntryState,
    IntentReport,
    NodeReport,
    NodeState,
    PoolReport,
    Severity,
    Sketch,
)
from celery_dispatch.manage.run_time import Told, nothing_told
from celery_dispatch.testing import (
    ManualClock,
    MemoryIntents,
    MemoryLedger,
    MemoryOutbox,
    MemoryPool,
    MemoryStore,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
APP = "proj on redis db 0"
FAR = NOW + timedelta(days=365)
ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

GOOD_SERVER = Server(
    version="7.0.15", mode="standalone", role="master", min_replicas=0, append_only=True,
    append_fsync="always", save="", max_memory=0, used_memory=1, policy="noeviction",
)  # fmt: skip


def node(name: str, **changes: Any) -> NodeReport:
    made = NodeReport(
        id=name, host=f"host-{name}", state=NodeState.STEADY, config="v1", identity=APP, in_force=True,
        joined=NOW, lease_end=NOW, version="1.0",
    )  # fmt: skip
    return replace(made, **changes)


def pool(*nodes: NodeReport, **changes: Any) -> PoolReport:
    made = PoolReport(
        now=NOW, fence=Fence("v1", NOW - timedelta(hours=1)), nodes=nodes or (node("a"), node("b")),
        ranks=Ring().ranks({}), identity=APP,
    )  # fmt: skip
    return replace(made, **changes)


HEALTHY = Snapshot(
    config="v1",
    identity=APP,
    patience=timedelta(seconds=10.5),
    server=GOOD_SERVER,
    pool=pool(),
    routes=Routes(),
)


def told(**changes: Any) -> Told:
    return replace(nothing_told(Catalog("v1", {})), **changes)


def findings(**changes: Any) -> tuple[Finding, ...]:
    return examine(replace(HEALTHY, **changes)).findings


def the_finding(words: str, **changes: Any) -> Finding:
    found = [finding for finding in findings(**changes) if words in finding.what]
    assert len(found) == 1, findings(**changes)
    assert found[0].cure or found[0].severity is NOTE
    return found[0]


def test_nothing_is_found_in_a_healthy_pool() -> None:
    assert findings() == ()
    assert exit_status(examine(HEALTHY)) == 0


# --- Redis --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "severity", "words"),
    [
        ({"version": "6.0.16"}, ERROR, "too old"),
        ({"mode": "sentinel"}, ERROR, "Sentinel"),
        ({"mode": "cluster"}, NOTE, "Cluster"),
        ({"role": "slave"}, ERROR, "replica"),
        ({"failing": ("aof_last_write_status:err",)}, ERROR, "cannot write to its disk"),
        ({"append_only": False, "save": "3600 1"}, WARNING, "no append-only file"),
        ({"append_fsync": "no"}, WARNING, "leaves it to the system"),
        ({"append_fsync": "everysec"}, NOTE, "once a second"),
        ({"policy": "allkeys-lru", "max_memory": 100}, ERROR, "may evict keys"),
        ({"policy": "volatile-ttl"}, WARNING, "would evict keys"),
        ({"max_memory": 100, "used_memory": 95}, WARNING, "95% of the memory"),
        ({"max_memory": 100, "used_memory": 175}, ERROR, "used up its memory"),
        ({"replicas": 2}, NOTE, "asynchronous"),
        ({"sentinels": True}, WARNING, "no replica to promote"),
        ({"min_replicas": 1, "good_replicas": 0}, ERROR, "too few replicas keep up"),
        ({"ahead": timedelta(seconds=-30)}, NOTE, "30 s behind Redis's"),
        ({"refused": ("INFO",)}, NOTE, "Not everything"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_server_is_judged(changes: Mapping[str, Any], severity: Severity, words: str) -> None:
    finding = the_finding(words, server=replace(GOOD_SERVER, **changes))
    assert (finding.area, finding.severity) == (Area.REDIS, severity)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "6.2.0"},
        {"version": "10.0.0"},
        {
            "version": None,
            "mode": None,
            "role": None,
            "append_only": None,
            "policy": None,
            "max_memory": None,
        },
        {"replicas": 2, "min_replicas": 1, "good_replicas": 1},
        {"ahead": timedelta(seconds=2), "precision": timedelta(seconds=1.5)},
        {"max_memory": 100, "used_memory": 50},
    ],
)
def test_server_that_is_well_or_will_not_say_is_left_alone(changes: Mapping[str, Any]) -> None:
    assert findings(server=replace(GOOD_SERVER, **changes)) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"server": replace(GOOD_SERVER, mode="sentinel")},
        {"server": replace(GOOD_SERVER, role="slave")},
        {"trouble": "no answer", "server": None, "pool": None},
    ],
)
def test_who_has_not_set_the_url_is_told_which_setting_it_is(changes: Mapping[str, Any]) -> None:
    (finding,) = findings(**changes)
    assert "dispatch_redis_url (where that is not set: broker_url)" in finding.cure


def test_a_single_replica_is_no_reason_to_refuse_writes_without_one() -> None:
    cures = [
        the_finding("asynchronous", server=replace(GOOD_SERVER, replicas=count)).cure for count in (1, 2)
    ]
    assert cures[0].startswith("Add a second replica")
    assert cures[1].startswith("Set min-replicas-to-write 1")


def test_server_that_cannot_be_read_leaves_the_areas_that_rest_on_it_unread() -> None:
    diagnosis = examine(
        replace(HEALTHY, trouble="no answer", server=None, pool=None, broken={"x": "no schedule"})
    )
    assert [finding.severity for finding in diagnosis.findings] == [ERROR, ERROR]
    assert diagnosis.findings[0].evidence == ("no answer",)
    assert diagnosis.findings[1].evidence == ("x: no schedule",)
    assert diagnosis.unread == {Area.NODES, Area.CONFIGS, Area.ENTRIES, Area.INTENTS}


# --- nodes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "severity", "words"),
    [
        (pool(fence=None, nodes=()), ERROR, "no pool"),
        (pool(nodes=()), ERROR, "No node is alive"),
        (pool(node("a")), WARNING, "no standby"),
        (pool(node("a", host="h"), node("b", host="h")), WARNING, "All nodes are on host h"),
        (pool(node("a"), node("b"), node("c", state=NodeState.CUT_OFF)), WARNING, "reach the broker: c"),
        (pool(node("a"), node("b"), node("c", state=NodeState.DRAINING)), WARNING, "drains: c"),
        (pool(node("a"), node("b"), node("c", state=NodeState.EXPIRED)), WARNING, "lease run out: c"),
        (pool(node("a"), node("b", version="2.0")), NOTE, "different versions"),
        (pool(node("a"), node("b", state=NodeState.LATE)), WARNING, "late with the heartbeat: b"),
        (pool(node("a", state=NodeState.LATE)), ERROR, "late with the heartbeat: a"),
        (pool(node("a", state=NodeState.DRAINING)), ERROR, "nothing is fired (1 draining)"),
        (pool(node("a"), node("b", outage="refused")), WARNING, "Node b reported an outage"),
        (pool(recovery="r1"), WARNING, "recovering"),
        (pool(node("a"), node("b", recovered=NOW - timedelta(hours=2))), NOTE, "had to recover 2 h ago"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_nodes_are_judged(read: PoolReport, severity: Severity, words: str) -> None:
    finding = the_finding(words, pool=read)
    assert (finding.area, finding.severity) == (Area.NODES, severity)


def test_versions_are_told_with_their_nodes() -> None:
    foreign = node("d", state=NodeState.FOREIGN, version="3.0")
    finding = the_finding("versions", pool=pool(node("a"), node("b", version="2.0"), node("c"), foreign))
    assert finding.evidence == ("1.0: a, c", "2.0: b")


def test_recovery_that_is_under_way_is_not_said_to_be_over() -> None:
    read = pool(node("a", recovered=NOW), node("b"), recovery="r1")
    assert not [finding for finding in findings(pool=read) if "had to recover" in finding.what]


def test_outage_is_told_with_its_age() -> None:
    said = node("b", outage="refused", last_heartbeat=NOW - timedelta(seconds=1.5))
    finding = the_finding("(1.5 s ago, with its last heartbeat): refused.", pool=pool(node("a"), said))
    assert "may be over" in finding.cure


def test_doctor_does_not_send_anybody_to_the_doctor() -> None:
    read = pool(node("a", state=NodeState.LATE), node("b", state=NodeState.EXPIRED), STANDBY)
    assert not [finding for finding in findings(pool=read) if "doctor" in finding.cure]


def test_config_that_begins_in_the_far_future_is_an_error_with_its_cure() -> None:
    finding = the_finding("comes into force in 365 d only", pool=pool(fence=Fence("v1", FAR)))
    assert (finding.area, finding.severity) == (Area.CONFIGS, ERROR)
    assert "HDEL '{celery-dispatch}:pool' since" in finding.cure
    finding = the_finding("until then v1 stays in force", pool=pool(switch=Fence("v2", FAR)))
    assert finding.severity is ERROR


# --- configs ------------------------------------------------------------------------------------------------

OLD = {"setting:timezone": "1", "entry:tick": "1 1 1 1 1 1", "entry:gone": "1 1 1 1 1 1"}
NEW = {"setting:timezone": "2", "entry:tick": "1 2 1 1 2 1", "entry:more": "1 1 1 1 1 1"}
STANDBY = node("c", state=NodeState.STANDBY, config="v2", in_force=False)


def test_other_config_is_told_with_the_entries_and_fields_that_differ() -> None:
    read = pool(node("a"), node("b"), STANDBY)
    standing_by = the_finding("stands by with another config", pool=read)
    assert standing_by.severity is WARNING
    assert "doctor" not in standing_by.cure
    finding = the_finding("Config v2 (c) differs", pool=read, facets={"v1": OLD, "v2": NEW})
    assert finding.evidence == (
        "setting timezone",
        "entry gone: only in the one in force",
        "entry more: only in this one",
        "entry tick: schedule, options",
    )


def test_difference_that_nobody_published_is_said_not_to_be_known() -> None:
    read = pool(node("a"), node("b"), STANDBY)
    the_finding("cannot be told", pool=read, facets={"v1": None, "v2": None})


def test_at_most_ten_differences_are_shown_and_the_rest_counted() -> None:
    more = {f"entry:e{i:02}": "1 1 1 1 1 1" for i in range(15)}
    finding = the_finding(
        "differs from the one in force in 15 places",
        pool=pool(node("a"), node("b"), STANDBY),
        facets={"v1": {"setting:x": "1"}, "v2": {"setting:x": "1", **more}},
    )
    assert len(finding.evidence) == 11
    assert finding.evidence[-1] == "and 5 more"


def test_config_of_this_command_is_compared_too() -> None:
    changes: Any = {"config": "v9", "own_facets": NEW, "facets": {"v1": OLD}}
    the_finding("This command runs config v9", **changes)
    assert the_finding("This command's config v9 differs", **changes).evidence[0] == "setting timezone"


def test_this_app_stands_in_for_facets_that_nobody_published() -> None:
    read = pool(node("a"), node("b"), STANDBY)
    finding = the_finding("Config v2 (c) differs", pool=read, own_facets=OLD, facets={"v1": None, "v2": NEW})
    assert finding.evidence[0] == "setting timezone"


def test_pool_whose_nodes_all_differ_is_told_what_to_do() -> None:
    read = pool(node("a"), node("b", state=NodeState.STANDBY, config="v2", in_force=False))
    finding = the_finding("Every node runs a config of its own", pool=read)
    assert finding.severity is WARNING
    assert "dispatch_config_version" in finding.cure


def test_switch_ahead_and_challenger_are_notes() -> None:
    ahead = Fence("v2", NOW + timedelta(seconds=2))
    assert the_finding("switches to config v2 in 2 s", pool=pool(switch=ahead)).severity is NOTE
    assert the_finding("Most nodes run config v2", pool=pool(challenger="v2")).severity is NOTE


def test_two_apps_on_one_prefix_are_told_apart() -> None:
    foreign = node("c", state=NodeState.FOREIGN, identity="shop on redis db 0", in_force=False)
    read = pool(node("a"), node("b"), foreign)
    assert the_finding("1 node of another app or broker stands by: c", pool=read).severity is WARNING
    finding = the_finding("This command runs another app", pool=read, identity="shop on redis db 0")
    assert finding.evidence == ("the pool: " + APP, "this app: shop on redis db 0", "standing by for it: c")
    assert "adopt" in finding.cure


# --- broker -------------------------------------------------------------------------------------------------


def test_paths_are_counted_with_the_reason_for_two_steps() -> None:
    routes = Routes((
        Route(True, "", 412, ("a",)),
        Route(False, "the signal x has a receiver", 12, ("b", "c")),
    ))  # fmt: skip
    assert (
        the_finding("412 entries of beat_schedule: claim and message are one write", routes=routes).severity
        is NOTE
    )
    finding = the_finding(
        "12 entries of beat_schedule: two steps, because the signal x has a receiver.", routes=routes
    )
    assert finding.severity is NOTE
    assert finding.evidence == ("b, c", "and 10 more")


def test_broker_that_cannot_be_reached_is_an_error() -> None:
    finding = the_finding("broker cannot be used", routes=Routes(error="refused"))
    assert (finding.severity, finding.evidence) == (ERROR, ("refused",))


# --- entries and intents ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (EntryState.ERROR, "in error: x"),
        (EntryState.OVERDUE, "overdue: x"),
        (EntryState.DAMAGED, "damaged in Redis: x"),
        (EntryState.AHEAD, "in the future: x"),
    ],
)
def test_wrong_entries_are_named_with_their_reasons(state: EntryState, words: str) -> None:
    finding = the_finding(words, wrong=(EntryReport("x", state, error="because"),))
    assert (finding.area, finding.severity, finding.evidence) == (Area.ENTRIES, ERROR, ("x: because",))


def test_overdue_entry_is_told_with_its_due_and_owner() -> None:
    late = EntryReport("x", EntryState.OVERDUE, next_due=NOW - timedelta(minutes=1), owner="a")
    assert the_finding("overdue", wrong=(late,)).evidence == ("x: was due 1 min ago, owner a",)


def test_of_many_wrong_entries_ten_are_shown() -> None:
    wrong = tuple(EntryReport(f"e{i}", EntryState.ERROR, error="?") for i in range(25))
    assert the_finding("25 entries are in error", wrong=wrong).evidence[-1] == "and 15 more"


def test_errors_that_nodes_count_but_do_not_name_are_told() -> None:
    the_finding("errors of 30 more entries", pool=pool(node("a", error_count=30), node("b")))


def test_a_pause_of_all_that_cannot_be_read_is_an_error_with_its_cure() -> None:
    silent = pool(node("a"), node("b", state=NodeState.JOINING, errors={"": "cannot be read"}, error_count=1))
    finding = the_finding(
        "Whether everything is paused cannot be read (damaged", of_all=told(unclear="damaged"), pool=silent
    )
    assert finding.severity is ERROR
    assert "so that a node which starts now fires nothing; b fires nothing" in finding.what
    assert "pause --all" in finding.cure
    the_finding("Whether everything is paused cannot be read (its row is missing", pool=silent)
    assert not [each for each in examine(replace(HEALTHY, pool=silent)).findings if "more entry" in each.what]


def test_that_everything_is_paused_is_a_warning_with_who_and_why() -> None:
    halt = Pause(NOW, author="ann", note="INC-1")
    finding = the_finding("Everything is paused", of_all=told(halt=halt))
    assert finding.severity is WARNING
    assert finding.what == "Everything is paused, since 2026-01-02 03:04:05 UTC, by ann: INC-1."
    assert "resume --all" in finding.cure


def test_what_is_shadowed_is_a_warning_that_says_how_to_end_it() -> None:
    finding = the_finding("1 entry created at run time is shadowed", shadowed=("x",))
    assert (finding.area, finding.severity, finding.evidence) == (Area.ENTRIES, WARNING, ("x",))
    assert "dispatch remove <name>" in finding.cure
    assert "under another name" in finding.cure
    many = tuple(f"e{number}" for number in range(25))
    assert the_finding("25 entries", shadowed=many).evidence[-1] == "and 15 more"
    the_finding("1 entry created at run time will be shadowed", shadowed=("x",), config="v2")


def test_skipped_occurrences_are_a_note() -> None:
    finding = the_finding(
        "1,234 occurrences were skipped", skipped=(("x", 1000), ("y", 234)), skipped_total=1234
    )
    assert (finding.severity, finding.evidence) == (NOTE, ("x: 1,000", "y: 234"))


@pytest.mark.parametrize(("age", "severity"), [(5, NOTE), (60, WARNING)])
def test_open_intents_are_a_warning_once_they_are_old(age: int, severity: Severity) -> None:
    since = NOW - timedelta(seconds=age)
    intent = Intent("x", since, "d1", "a", "0" * 16, since)
    (finding,) = findings(open_intents=IntentReport(2, since), intents=(intent,))
    assert (finding.area, finding.severity) == (Area.INTENTS, severity)
    assert "x, due 2026-01-02" in finding.evidence[0]
    assert "at node a" in finding.evidence[0]


# --- the whole ----------------------------------------------------------------------------------------------


def test_settings_that_cannot_be_used_are_listed_one_by_one() -> None:
    diagnosis = unusable_settings(ConfigError("cannot start with this:\n  - a: wrong\n  - b: wrong"))
    (finding,) = diagnosis.findings
    assert (finding.what, finding.evidence) == ("cannot start with this.", ("a: wrong", "b: wrong"))
    assert exit_status(diagnosis) == 2
    assert Area.SETTINGS not in diagnosis.unread


def test_exit_status_is_that_of_the_worst() -> None:
    def of(*severities: Severity) -> int:
        return exit_status(Diagnosis(tuple(Finding(Area.NODES, each, "?") for each in severities)))

    assert [of(), of(NOTE), of(NOTE, WARNING), of(WARNING, ERROR)] == [0, 0, 1, 2]


def test_findings_come_by_area_and_the_worst_first() -> None:
    found = findings(
        server=replace(GOOD_SERVER, append_fsync="everysec", policy="allkeys-lru", max_memory=100),
        pool=pool(node("a")),
        wrong=(EntryReport("x", EntryState.ERROR, error="?"),),
    )
    assert [(finding.area, finding.severity) for finding in found] == [
        (Area.REDIS, ERROR),
        (Area.REDIS, NOTE),
        (Area.NODES, WARNING),
        (Area.ENTRIES, ERROR),
    ]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_people_see_every_area_finding_evidence_and_cure(width: int) -> None:
    diagnosis = examine(replace(HEALTHY, pool=pool(node("a"), node("b", version="[b]2[/b]"))))
    stream = io.StringIO()
    Console(file=stream, width=width, markup=False, highlight=False).print(diagnosis_view(diagnosis, width))
    text = " ".join(stream.getvalue().split())
    for word in ("Redis: nothing to say", "different versions", "[b]2[/b]: b", "→ Nothing in a", "1 note."):
        assert word in text
    assert max(map(len, stream.getvalue().splitlines())) <= width


def test_document_is_json_with_counts_and_what_was_not_read() -> None:
    document = diagnosis_document(examine(replace(HEALTHY, trouble="?", server=None, pool=None)))
    assert json.loads(json.dumps(document)) == document
    assert (document["errors"], document["warnings"], document["notes"]) == (1, 0, 0)
    assert document["findings"][0]["area"] == "redis"
    assert document["not_read"] == ["nodes", "configs", "entries", "intents"]


# --- the reader ---------------------------------------------------------------------------------------------


class Every:
    def following(self, last: datetime, after: datetime) -> datetime:
        return last + ((after - last) // timedelta(seconds=10) + 1) * timedelta(seconds=10)

    def latest(self, last: datetime, now: datetime) -> tuple[datetime, int] | None:
        raise NotImplementedError


class NoFacets:
    def read(self, fingerprint: str) -> Mapping[str, str] | None:
        return {"entry:x": fingerprint}


def consulted(store: MemoryStore, *names: str, **changes: Any) -> Consulted:
    sources = Sources(
        pool=MemoryPool(store),
        ledger=MemoryLedger(store),
        intents=MemoryIntents(store),
        catalog=Catalog("v1", {name: Entry(name, Every(), "d1") for name in names}, {"bad": "no schedule"}),
        patience=timedelta(seconds=10.5),
        sketch=lambda entry: Sketch(),
        identity=APP,
    )
    made = Consulted(sources, lambda: GOOD_SERVER, MemoryOutbox(store), NoFacets(), {"entry:x": "own"})
    return replace(made, **changes)


def test_everything_is_read_into_one_snapshot() -> None:
    store = MemoryStore(ManualClock())
    now = store.now()
    store.fence = Fence("v1", now)
    store.epoch, store.identity = "e1", APP
    store.cursors.update(
        ahead=Cursor(now + timedelta(days=1), "d1", now),
        skips=Cursor(now, "d1", now, fired=1, skipped=3),
        torn=Damaged("?", "not JSON"),
    )
    asked = consulted(store, "ahead", "skips", "torn")
    said = told(catalog=asked.sources.catalog, shadowed=frozenset({"skips"}))
    asked = replace(asked, sources=replace(asked.sources, look=lambda config, names: said))
    asked.outbox.user_code.add("skips")  # type: ignore[attr-defined]
    snapshot = read_snapshot(asked)
    assert {entry.name: entry.state.value for entry in snapshot.wrong} == {
        "ahead": "ahead",
        "bad": "error",
        "torn": "damaged",
    }
    assert snapshot.shadowed == ("skips",)
    assert (snapshot.skipped, snapshot.skipped_total) == ((("skips", 3),), 3)
    assert snapshot.facets == {"v1": {"entry:x": "v1"}}
    assert snapshot.routes is not None
    assert [(route.one_write, route.names) for route in snapshot.routes.routes] == [
        (True, ("ahead", "torn")),
        (False, ("skips",)),
    ]


def test_outage_of_the_store_is_part_of_the_snapshot() -> None:
    store = MemoryStore(ManualClock())
    store.available = False
    snapshot = read_snapshot(consulted(store, "x", server=_unavailable))
    assert snapshot.trouble == "no answer"
    assert snapshot.pool is None
    assert snapshot.broken == {"bad": "no schedule"}


def test_outage_of_the_broker_is_part_of_the_snapshot() -> None:
    store = MemoryStore(ManualClock())
    store.broker_available = False
    snapshot = read_snapshot(consulted(store, "x"))
    assert snapshot.routes is not None
    assert snapshot.routes.error
    assert snapshot.pool is not None


def test_broker_whose_library_is_missing_is_an_error_like_any_other() -> None:
    class Broken(MemoryOutbox):
        def connect(self) -> None:
            raise ImportError("no module named qpid")

    store = MemoryStore(ManualClock())
    snapshot = read_snapshot(consulted(store, "x", outbox=Broken(store)))
    assert snapshot.routes is not None
    assert "qpid" in snapshot.routes.error


def _unavailable() -> Server:
    raise StoreUnavailable("no answer")


class Guarded:
    """A Redis client whose user may run nothing but TIME."""

    def info(self) -> Any:
        raise StoreRefused("Redis refused (NOPERM).")

    def config_get(self, name: str) -> Any:
        return self.info()

    def time(self) -> tuple[int, int]:
        return int(datetime.now(timezone.utc).timestamp()) + 30, 0


def test_server_that_refuses_questions_is_read_as_far_as_it_answers() -> None:
    server = read_server(Guarded())  # type: ignore[arg-type]
    assert server.refused == (
        "INFO", "CONFIG GET appendfsync", "CONFIG GET save", "CONFIG GET min-replicas-to-write",
    )  # fmt: skip
    assert (server.version, server.append_only, server.policy) == (None, None, None)
    assert timedelta(seconds=-31) < server.ahead < timedelta(seconds=-28)


def test_a_row_that_no_node_would_have_written_is_found_with_the_cure_of_its_key() -> None:
    entry, member = DamagedRow("{p}:entries", "job", "is damaged"), DamagedRow("{p}:members", "x", "is none")
    every = DamagedRow("{p}:entries", "", "is damaged")
    of_entry = the_finding("no node would", damaged_rows=(entry,))
    assert "dispatch remove <name>" in of_entry.cure and "HDEL" not in of_entry.cure
    assert "remove" not in the_finding("no node would", damaged_rows=(every,)).cure
    assert "dispatch pause --all" in the_finding("no node would", damaged_rows=(every,)).cure
    both = the_finding("no node would", damaged_rows=(entry, member))
    assert "dispatch remove <name>" in both.cure and "HDEL" in both.cure
    assert both.evidence == ("{p}:entries job: is damaged", "{p}:members x: is none")
