"""The ``Rows`` contract, in memory and on real servers: what a change does to a row and to its cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from secrets import token_hex
from typing import Any

import pytest

from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import (
    Change,
    ChangeResult,
    ChangeStatus,
    Claim,
    ClaimStatus,
    Damaged,
    Heartbeat,
    Intent,
    MemberState,
    Stored,
)
from celery_dispatch.core.rows import ALL, Pause, Row
from celery_dispatch.errors import FencedError
from celery_dispatch.redis_store.row_codec import decode_row, encode_row
from tests.contract.conftest import HANDOVER, INTERVAL, LEASE, RedisWorld, World, create

MS = timedelta(milliseconds=1)
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def fence(world: World) -> Fence:
    """A config is in force."""
    fence = Fence("v1", whole(world.now()) - timedelta(seconds=1))
    world.put_fence(fence)
    return fence


def whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def cursor_of(world: World, name: str) -> Cursor:
    stored = world.ledger.read([name])[0]
    assert isinstance(stored, Cursor)
    return stored


def change(world: World, name: str, row: Row | Damaged | None, **said: Any) -> ChangeResult:
    kept: dict[str, Any] = {"created": LONG_AGO, "updated": LONG_AGO, "token": token_hex(4)}
    if isinstance(row, Row):
        kept |= {"definition": row.definition, "pause": row.pause}
    (result,) = world.rows.change([Change(name, row, **{**kept, **said})])
    return result


def done(result: ChangeResult) -> Row:
    assert result.status is ChangeStatus.DONE
    assert isinstance(result.row, Row)
    return result.row


def create_all(world: World, names: Sequence[str]) -> list[Row]:
    made = []
    for start in range(0, len(names), 100):
        some = names[start : start + 100]
        made += world.rows.change(
            [
                Change(name, None, token_hex(4), LONG_AGO, LONG_AGO, '{"task":"t"}', anchor=LONG_AGO)
                for name in some
            ]
        )
    return [done(result) for result in made]


# --- a row and its cursor -----------------------------------------------------------------------------------


def test_a_new_entry_is_anchored_at_its_creation(world: World, fence: Fence) -> None:
    before = whole(world.now())
    row = create(world, "report", '{"task":"t"}')
    cursor = cursor_of(world, "report")
    assert before <= cursor.due <= world.now()
    assert cursor == Cursor(cursor.due, row.hash, cursor.due, change=row.version)
    assert world.rows.read(["report", "none"]) == [row, None]


def test_an_entry_that_moves_in_begins_where_it_was_last_due(world: World, fence: Fence) -> None:
    create(world, "report", anchor=LONG_AGO)
    cursor = cursor_of(world, "report")
    assert (cursor.due, cursor.effective_from) == (LONG_AGO, LONG_AGO)


def test_versions_grow_with_each_change_and_are_never_behind_the_clock(world: World, fence: Fence) -> None:
    before = world.now().timestamp() * 1000
    rows = [create(world, name) for name in "abc"]
    versions = [row.version for row in rows]
    assert before - 1 <= versions[0] < versions[1] < versions[2]
    assert world.rows.news(0, 10).version == versions[2]


@pytest.mark.parametrize("definition", ['{"task":', "[1]", '"t"', "null", "[" * 100_000])
def test_a_row_whose_definition_is_no_object_is_damaged(definition: str) -> None:
    whole = encode_row(Row(1, "0123abcd", LONG_AGO, LONG_AGO, definition='{"task":"t"}'))
    assert isinstance(decode_row(whole), Row)
    assert isinstance(decode_row(whole.replace('{"task":"t"}', definition)), Damaged)


def test_what_a_row_that_cannot_be_read_had_defined_is_buried_by_who_says_what_it_was(
    world: World, fence: Fence
) -> None:
    row = create(world, "report")
    world.put_row("report", "nonsense")
    (damaged,) = world.rows.read(["report"])
    assert isinstance(damaged, Damaged)
    gone = done(change(world, "report", damaged, before="another"))
    assert cursor_of(world, "report").definition == row.hash
    world.put_row("report", "nonsense")
    gone = done(change(world, "report", damaged, before=row.hash))
    assert cursor_of(world, "report").is_tombstone
    assert change(world, "report", gone, definition='{"task":"u"}').status is ChangeStatus.DONE


def test_an_update_takes_the_cursor_along_from_now_on(world: World, fence: Fence) -> None:
    row = create(world, "report", anchor=LONG_AGO)
    before = whole(world.now())
    new = done(change(world, "report", row, definition='{"task":"u"}'))
    cursor = cursor_of(world, "report")
    assert new.version > row.version and new.hash != row.hash
    assert (cursor.due, cursor.definition, cursor.revision, cursor.change) == (
        LONG_AGO,
        new.hash,
        2,
        new.version,
    )
    assert before <= cursor.effective_from <= world.now()


def test_what_is_due_stays_due_where_the_new_definition_fires_the_same(world: World, fence: Fence) -> None:
    row = create(world, "report", anchor=LONG_AGO)
    new = done(change(world, "report", row, definition='{"task":"u"}', keeps_since=True))
    cursor = cursor_of(world, "report")
    assert cursor == Cursor(LONG_AGO, new.hash, LONG_AGO, 2, change=new.version)


def test_a_node_that_has_not_heard_of_a_change_cannot_claim(world: World, fence: Fence) -> None:
    row = create(world, "report", anchor=LONG_AGO)
    known = cursor_of(world, "report")
    done(change(world, "report", row, definition='{"task":"u"}'))
    wanted = known.advance(LONG_AGO + MS, definition=row.hash, fence=fence, node="a", fired=1, skipped=0)
    (result,) = world.ledger.claim(fence, [Claim("report", known, wanted)]).results
    assert result.status is ClaimStatus.LOST
    assert result.stored == cursor_of(world, "report")


def test_a_claim_that_came_first_keeps_its_due(world: World, fence: Fence) -> None:
    row = create(world, "report", anchor=LONG_AGO)
    known = cursor_of(world, "report")
    wanted = known.advance(
        LONG_AGO + MS, definition=row.hash, fence=fence, node='b"\\[1,2]",3', fired=1, skipped=2
    )
    world.ledger.claim(fence, [Claim("report", known, wanted)])
    new = done(change(world, "report", row, definition='{"task":"u"}'))
    cursor = cursor_of(world, "report")
    assert cursor == replace(
        wanted, definition=new.hash, effective_from=cursor.effective_from, revision=2, change=new.version
    )


def test_a_deleted_entry_leaves_a_tombstone_and_a_row_that_says_nothing(world: World, fence: Fence) -> None:
    row = create(world, "report", anchor=LONG_AGO)
    marker = done(change(world, "report", row, definition=""))
    assert (marker.definition, marker.pause) == ("", None)
    cursor = cursor_of(world, "report")
    assert cursor.is_tombstone
    assert (cursor.change, cursor.revision, cursor.due) == (marker.version, 2, LONG_AGO)


def test_an_entry_that_is_created_again_begins_anew(world: World, fence: Fence) -> None:
    row = create(world, "report", anchor=LONG_AGO)
    marker = done(change(world, "report", row, definition=""))
    again = create(world, "report", expected=marker)
    cursor = cursor_of(world, "report")
    assert cursor == Cursor(cursor.due, again.hash, cursor.due, 3, change=again.version)
    assert cursor.due > LONG_AGO


def test_a_change_that_leaves_the_definition_leaves_what_it_is_effective_from(
    world: World, fence: Fence
) -> None:
    row = create(world, "report", anchor=LONG_AGO)
    paused = done(change(world, "report", row, pause=Pause(LONG_AGO, None, "why", "me")))
    assert paused.pause == Pause(LONG_AGO, None, "why", "me")
    cursor = cursor_of(world, "report")
    assert cursor == Cursor(LONG_AGO, row.hash, LONG_AGO, 2, change=paused.version)


# --- names of the config ------------------------------------------------------------------------------------


def test_a_name_that_the_config_has_cannot_be_created(world: World, fence: Fence) -> None:
    cursor = Cursor(LONG_AGO, "of-config", LONG_AGO, node="a")
    world.put_cursor("report", cursor)
    result = change(world, "report", None, definition='{"task":"t"}')
    assert result == ChangeResult(ChangeStatus.TAKEN, None)
    assert world.rows.read(["report"]) == [None]
    assert cursor_of(world, "report") == cursor


def test_a_name_that_left_the_config_can_be_created(world: World, fence: Fence) -> None:
    world.put_cursor("report", Cursor(LONG_AGO, "", LONG_AGO, 4, 7, 8, "a"))
    row = create(world, "report")
    cursor = cursor_of(world, "report")
    assert cursor == Cursor(cursor.due, row.hash, cursor.due, 5, 0, 0, "a", row.version)


def test_a_pause_of_a_configs_entry_touches_only_what_its_cursor_stands_under(
    world: World, fence: Fence
) -> None:
    world.put_cursor("report", Cursor(LONG_AGO, "of-config", LONG_AGO, 4, 7, 8, "a"))
    row = done(change(world, "report", None, pause=Pause(LONG_AGO)))
    assert cursor_of(world, "report") == Cursor(LONG_AGO, "of-config", LONG_AGO, 5, 7, 8, "a", row.version)


def test_a_pause_of_a_configs_entry_that_no_node_has_taken_up_yet_has_a_cursor(
    world: World, fence: Fence
) -> None:
    row = done(change(world, "report", None, pause=Pause(LONG_AGO)))
    cursor = cursor_of(world, "report")
    assert cursor.is_tombstone
    assert cursor.change == row.version


def test_a_shadowed_row_touches_only_what_the_cursor_stands_under(world: World, fence: Fence) -> None:
    row = create(world, "report")
    taken = replace(cursor_of(world, "report"), definition="of-config", revision=2)
    world.put_cursor("report", taken)
    new = done(change(world, "report", row, definition='{"task":"u"}'))
    assert cursor_of(world, "report") == replace(taken, revision=3, change=new.version)
    gone = done(change(world, "report", new, definition=""))
    assert cursor_of(world, "report") == replace(taken, revision=4, change=gone.version)
    assert change(world, "report", gone, definition='{"task":"t"}').status is ChangeStatus.TAKEN


# --- two writers, and one that is not heard -----------------------------------------------------------------


def test_of_two_writers_one_wins_and_the_other_is_shown_the_row(world: World, fence: Fence) -> None:
    row = create(world, "report")
    first = done(change(world, "report", row, definition='{"task":"u"}'))
    cursor = cursor_of(world, "report")
    assert change(world, "report", row, definition='{"task":"v"}') == ChangeResult(ChangeStatus.STALE, first)
    assert change(world, "report", None, definition="x") == ChangeResult(ChangeStatus.STALE, first)
    assert change(world, "other", row) == ChangeResult(ChangeStatus.STALE, None)
    assert cursor_of(world, "report") == cursor


def test_a_change_that_is_repeated_is_done_once(world: World, fence: Fence) -> None:
    row = create(world, "report", token="0123abcd", created=LONG_AGO, updated=LONG_AGO)
    cursor = cursor_of(world, "report")
    again = create(world, "report", token="0123abcd", created=LONG_AGO, updated=LONG_AGO)
    assert again == row
    assert cursor_of(world, "report") == cursor


def test_a_batch_is_one_step_with_one_answer_each(world: World, fence: Fence) -> None:
    create(world, "old")
    world.put_cursor("config", Cursor(LONG_AGO, "of-config", LONG_AGO))
    world.put_cursor("broken", "[]")
    results = world.rows.change([
        Change(name, None, token_hex(4), LONG_AGO, LONG_AGO, definition="{}")
        for name in ("new", "old", "config", "broken", "newer")
    ])  # fmt: skip
    assert [result.status.value for result in results] == ["done", "stale", "taken", "damaged", "done"]
    assert [row is not None for row in world.rows.read(["new", "config", "broken", "newer"])] == [
        True, False, False, True
    ]  # fmt: skip


def test_a_row_that_is_none_can_be_replaced_by_who_has_seen_it(world: World, fence: Fence) -> None:
    world.put_row("report", "nonsense")
    (found,) = world.rows.read(["report"])
    assert isinstance(found, Damaged)
    done(change(world, "report", found))
    assert cursor_of(world, "report").is_tombstone


def test_what_says_no_clear_thing_is_no_change(world: World, fence: Fence) -> None:
    with pytest.raises(ValueError, match="no token"):
        change(world, "report", None, token="")
    one = Change("report", None, "0123abcd", LONG_AGO, LONG_AGO)
    with pytest.raises(ValueError, match="twice"):
        world.rows.change([one, one])
    with pytest.raises(ValueError, match="at most 100"):
        world.rows.change([replace(one, name=str(number)) for number in range(201)])


# --- intents ------------------------------------------------------------------------------------------------


def claimed(world: World, fence: Fence, name: str) -> Intent:
    known = cursor_of(world, name)
    due = known.due + MS
    wanted = known.advance(due, definition=known.definition, fence=fence, node="a", fired=1, skipped=0)
    intent = Intent(name, due, known.definition, "a", token_hex(8), whole(world.now()))
    (result,) = world.ledger.claim(fence, [Claim(name, known, wanted, intent=intent)]).results
    assert result.status is ClaimStatus.WON
    return intent


def test_what_is_claimed_and_not_sent_goes_with_a_deletion_and_no_other(world: World, fence: Fence) -> None:
    rows = {name: create(world, name, anchor=LONG_AGO) for name in ("report", "1:report", "stays")}
    intents = {name: claimed(world, fence, name) for name in rows}
    done(change(world, "report", rows["report"], definition="", drops_intents=True))
    count, left = world.intents.read(10)
    assert count == 2
    assert {intent.name for intent in left} == {"1:report", "stays"}
    assert not world.intents.keep([intents["report"]])[0]


def test_of_any_number_of_open_intents_all_go_with_the_deletion(world: World, fence: Fence) -> None:
    names = [f"e{i}" for i in range(2_100)]
    rows = dict(zip(names, create_all(world, names)))
    claims = []
    for name, known in zip(names, world.ledger.read(names)):
        assert isinstance(known, Cursor)
        wanted = known.advance(
            LONG_AGO + MS, definition=known.definition, fence=fence, node="a", fired=1, skipped=0
        )
        intent = Intent(name, LONG_AGO + MS, known.definition, "a", token_hex(8), whole(world.now()))
        claims.append(Claim(name, known, wanted, intent=intent))
    for start in range(0, len(claims), 500):
        results = world.ledger.claim(fence, claims[start : start + 500]).results
        assert {result.status for result in results} == {ClaimStatus.WON}
    assert world.intents.read(1)[0] == len(names)
    for start in range(23):  # from all pages of the open ones at once
        some = [
            Change(name, rows[name], token_hex(4), LONG_AGO, LONG_AGO, drops_intents=True)
            for name in names[start::23]
        ]
        assert {result.status for result in world.rows.change(some)} == {ChangeStatus.DONE}
        left = sum(len(names[later::23]) for later in range(start + 1, 23))
        assert world.intents.read(1)[0] == left


# --- the gate -----------------------------------------------------------------------------------------------


def test_a_pause_of_all_entries_fences_those_that_have_not_heard_of_it(world: World, fence: Fence) -> None:
    row = create(world, "report", anchor=LONG_AGO)
    known = cursor_of(world, "report")
    gate = world.rows.news(0, 10).gate
    halt = done(change(world, ALL, None, pause=Pause(LONG_AGO)))
    news = world.rows.news(row.version, 10)
    assert news.changed == ((ALL, halt.version),)
    assert news.gate != gate
    assert news.gate.partition(".")[0] == gate.partition(".")[0]
    wanted = known.advance(LONG_AGO + MS, definition=row.hash, fence=fence, node="a", fired=0, skipped=1)
    with pytest.raises(FencedError, match="gate"):
        world.ledger.claim(fence, [Claim("report", known, wanted)], gate=gate)
    world.ledger.claim(fence, [Claim("report", known, wanted)], gate=news.gate)
    assert cursor_of(world, "report") == wanted
    done(change(world, ALL, halt, pause=Pause(LONG_AGO, LONG_AGO + MS)))
    assert world.rows.news(0, 10).gate != news.gate


# --- news ---------------------------------------------------------------------------------------------------


def test_news_are_what_was_written_since(world: World, fence: Fence) -> None:
    assert world.rows.news(0, 10).changed == ()
    rows = {name: create(world, name) for name in "abcd"}
    a = done(change(world, "a", rows["a"], pause=Pause(LONG_AGO)))
    news = world.rows.news(rows["b"].version, 10)
    assert news.changed == (("c", rows["c"].version), ("d", rows["d"].version), ("a", a.version))
    assert news.version == a.version
    assert world.rows.news(0, 2).changed == (("b", rows["b"].version), ("c", rows["c"].version))
    assert world.rows.news(a.version, 10).changed == ()


def test_a_scan_meets_every_row(world: World, fence: Fence) -> None:
    written = {f"e{number}": create(world, f"e{number}") for number in range(30)}
    found: dict[str, object] = {}
    position, rounds = 0, 0
    while position or not rounds:
        position, page = world.rows.scan(position, 7)
        found.update(page)
        rounds += 1
    assert found == written


# --- losses -------------------------------------------------------------------------------------------------


def recovering(world: World) -> None:
    world.put_fence(Fence("v1", LONG_AGO), recovery="r1")


def test_nothing_can_be_changed_while_the_pool_recovers(world: World, fence: Fence) -> None:
    row = create(world, "report")
    recovering(world)
    with pytest.raises(FencedError, match="recovery r1"):
        create(world, "another")
    with pytest.raises(FencedError, match="recovery r1"):
        world.rows.retire({"report": (row, cursor_of(world, "report"))})
    assert world.rows.read(["another", "report"]) == [None, row]


def test_nothing_can_be_changed_on_another_server_while_nodes_live(world: World, fence: Fence) -> None:
    world.put_lease("a", whole(world.now()) + timedelta(seconds=10))
    world.restart()
    with pytest.raises(FencedError, match="server"):
        create(world, "report")
    world.put_lease("a", whole(world.now()) - timedelta(seconds=10))
    create(world, "report")


def test_rows_can_be_written_before_there_is_a_pool_and_stay_when_it_begins(world: World) -> None:
    row = create(world, "report")
    beat = Heartbeat("a", "h", "v1", "app", MemberState.STEADY, LEASE, INTERVAL, HANDOVER, {})
    world.pool.heartbeat(beat, known_epoch=None)
    assert world.rows.read(["report"]) == [row]
    assert world.rows.news(0, 10).version == row.version


def test_only_what_is_newer_than_stored_is_put_back(world: World, fence: Fence) -> None:
    old, newer, gone = (create(world, name) for name in ("old", "newer", "gone"))
    stored = done(change(world, "newer", newer, pause=Pause(LONG_AGO)))
    gate = world.rows.news(0, 10).gate
    world.put_row("gone", None)
    lost = replace(old, version=old.version + 10_000, token="abcdef00")
    recovering(world)
    world.rows.put_back("r1", 0, {"old": lost, "newer": newer, "gone": gone})
    assert world.rows.read(["old", "newer", "gone"]) == [lost, stored, gone]
    news = world.rows.news(0, 10)
    assert dict(news.changed) == {"old": lost.version, "newer": stored.version, "gone": gone.version}
    assert news.version > lost.version
    assert news.gate.partition(".")[0] != gate.partition(".")[0]


def test_the_pause_of_all_entries_is_put_back_with_its_gate(world: World, fence: Fence) -> None:
    halt = done(change(world, ALL, None, pause=Pause(LONG_AGO)))
    world.flush()
    recovering(world)
    world.rows.put_back("r1", halt.version, {ALL: halt})
    assert world.rows.read([ALL]) == [halt]
    assert world.rows.news(0, 10).gate.partition(".")[2] == str(halt.version)


def test_a_node_that_knows_of_a_later_change_says_so_and_puts_nothing_back(world: World) -> None:
    recovering(world)
    world.rows.put_back("r1", 77, {})
    assert world.rows.news(0, 10) == replace(world.rows.news(0, 10), version=77, gate="", changed=())
    with pytest.raises(FencedError, match="in recovery r1"):
        world.rows.put_back("r2", 78, {})


def test_a_row_is_retired_with_its_cursor_and_raises_the_floor(world: World, fence: Fence) -> None:
    row = create(world, "report")
    marker = done(change(world, "report", row, definition=""))
    cursor = cursor_of(world, "report")
    world.rows.retire({"report": (row, cursor)})
    world.rows.retire({"report": (marker, replace(cursor, node="another"))})
    assert world.rows.read(["report"]) == [marker]
    world.rows.retire({"report": (marker, cursor)})
    assert world.rows.read(["report"]) == [None]
    stored: list[Stored] = world.ledger.read(["report"])
    assert stored == [None]
    news = world.rows.news(0, 10)
    assert (news.floor, news.changed) == (marker.version, ())


# --- on a server --------------------------------------------------------------------------------------------


def test_a_row_reads_as_json(real: RedisWorld) -> None:
    row = create(real, "report", '{"task":"t"}', token="0123abcd", created=LONG_AGO, updated=LONG_AGO)
    assert real.client.hget(real.keys.entries, "report") == (
        f'{{"v":{row.version},"token":"0123abcd","created":1577836800000,"updated":1577836800000,'
        '"definition":{"task":"t"}}'
    )


def test_fields_that_nobody_of_us_wrote_are_not_news(real: RedisWorld) -> None:
    real.client.hset(real.keys.pool, mapping={"catalog": "x", "catalog_floor": "-3", "gate": "?"})
    real.client.zadd(real.keys.changes, {"far": "inf"})
    news = real.rows.news(0, 10)
    assert (news.version, news.floor, news.changed) == (0, 0, ())
    row = create(real, "report")
    assert real.rows.news(0, 10).changed == (("report", row.version),)
