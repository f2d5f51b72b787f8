"""The ``Ledger`` contract, in memory and on real servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from secrets import token_hex

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Claim, ClaimStatus, Command, Damaged, Heartbeat
from celery_dispatch.errors import FencedError, StoreRefused, StoreUnavailable
from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.codec import decode_cursor, encode_cursor
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from celery_dispatch.redis_store.pool import RedisPool
from celery_dispatch.testing import MemoryLedger, MemoryPool, MemoryStore
from tests.contract.conftest import RedisWorld, World
from tests.servers import Server, running

Beat = Callable[..., Heartbeat]
MS = timedelta(milliseconds=1)
WON, LOST, EARLY, FAILED = ClaimStatus.WON, ClaimStatus.LOST, ClaimStatus.EARLY, ClaimStatus.FAILED


@pytest.fixture
def fence(world: World, beat: Beat) -> Fence:
    """The config in force in ``world``, for long enough to have dues."""
    world.pool.heartbeat(beat("a"), known_epoch=None)
    world.let_pass(1)
    world.pool.heartbeat(beat("a"), known_epoch=None)
    fence = world.pool.read().fence
    assert fence is not None
    return fence


def anchor(fence: Fence, node: str = "a") -> Cursor:
    return Cursor.anchor("d", fence.since, node)


def after(cursor: Cursor, fence: Fence, *, node: str = "a", by: timedelta = MS, fired: int = 1) -> Cursor:
    return cursor.advance(
        cursor.due + by, definition="d", fence=fence, node=node, fired=fired, skipped=1 - fired
    )


def push(queue: str = "celery", message: str = "m") -> tuple[Command, ...]:
    return (Command("LPUSH", queue, message),)


def statuses(world: World, fence: Fence, claims: Sequence[Claim]) -> list[ClaimStatus]:
    return [result.status for result in world.ledger.claim(fence, claims).results]


def anchored(world: World, fence: Fence, *names: str) -> Cursor:
    start = anchor(fence)
    assert set(statuses(world, fence, [Claim(name, None, start) for name in names])) == {WON}
    return start


# --- one claim ----------------------------------------------------------------------------------------------


def test_an_anchor_is_written_once_and_the_second_node_is_told_of_it(world: World, fence: Fence) -> None:
    first, second = anchor(fence, "a"), anchor(fence, "b")
    assert world.ledger.read(["report"]) == [None]
    assert statuses(world, fence, [Claim("report", None, first)]) == [WON]
    (lost,) = world.ledger.claim(fence, [Claim("report", None, second)]).results

    assert (lost.status, lost.stored) == (LOST, first)
    assert world.ledger.read(["missing", "report"]) == [None, first]


def test_a_won_claim_moves_the_cursor_and_pushes_in_order(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "report")
    wanted = after(start, fence)
    commands = (*push(message="one"), *push(message="two"), *push("other", "three"))
    before = world.now()
    reply = world.ledger.claim(fence, [Claim("report", start, wanted, commands)])

    assert before <= reply.now <= world.now()
    assert (reply.results[0].status, reply.results[0].stored, reply.results[0].detail) == (WON, wanted, "")
    assert world.ledger.read(["report"]) == [wanted]
    assert (world.queue("celery"), world.queue("other")) == (["one", "two"], ["three"])


def test_a_repeated_claim_answers_won_without_a_second_push(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "report")
    claim = Claim("report", start, after(start, fence), push())

    assert statuses(world, fence, [claim]) == statuses(world, fence, [claim]) == [WON]
    assert world.queue("celery") == ["m"]


def test_of_two_nodes_with_one_occurrence_one_wins(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "report")
    ours, theirs = after(start, fence, node="a"), after(start, fence, node="b")
    assert statuses(world, fence, [Claim("report", start, ours, push())]) == [WON]
    (lost,) = world.ledger.claim(fence, [Claim("report", start, theirs, push())]).results

    assert (lost.status, lost.stored) == (LOST, ours)
    assert world.queue("celery") == ["m"]


def test_a_claim_on_a_cursor_that_is_gone_is_lost(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "report")
    world.put_cursor("report", None)
    (lost,) = world.ledger.claim(fence, [Claim("report", start, after(start, fence), push())]).results

    assert (lost.status, lost.stored) == (LOST, None)
    assert world.queue("celery") == []


def test_an_occurrence_that_is_not_due_by_the_servers_clock_is_early(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "fired", "skipped")
    wanted = after(start, fence, by=timedelta(hours=1))
    claims = [Claim("fired", start, wanted, push()), Claim("skipped", start, wanted)]
    reply = world.ledger.claim(fence, claims)

    assert [(result.status, result.stored) for result in reply.results] == [(EARLY, start)] * 2
    assert world.queue("celery") == []
    assert world.ledger.read(["fired", "skipped"]) == [start, start]


def test_an_anchor_is_never_early_though_the_clock_went_back(world: World, fence: Fence) -> None:
    ahead = Cursor.anchor("d", fence.since + timedelta(hours=1), "a")

    assert statuses(world, fence, [Claim("report", None, ahead)]) == [WON]


def test_a_claim_without_commands_only_moves_the_cursor(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "report")
    skipped = after(start, fence, fired=0)
    buried = skipped.bury(fence, "a")

    assert statuses(world, fence, [Claim("report", start, skipped)]) == [WON]
    assert statuses(world, fence, [Claim("report", skipped, buried)]) == [WON]
    assert world.ledger.read(["report"]) == [buried]


def test_a_removed_cursor_is_gone_and_removing_it_again_is_won(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "report")
    other = anchored(world, fence, "other")
    remove = Claim("report", start, None)

    assert statuses(world, fence, [remove]) == statuses(world, fence, [remove]) == [WON]
    assert world.ledger.read(["report", "other"]) == [None, other]
    assert statuses(world, fence, [Claim("other", after(start, fence), None)]) == [LOST]


def test_fanout_messages_are_published_with_the_claim(real: RedisWorld, beat: Beat) -> None:
    fence = real.pool.heartbeat(beat("a"), known_epoch=None).fence
    start = anchored(real, fence, "report")
    with real.client.pubsub() as subscriber:
        subscriber.subscribe("/0.everyone")
        assert subscriber.get_message(timeout=2)["type"] == "subscribe"
        commands = (Command("PUBLISH", "/0.everyone", "hello"),)
        real.let_pass(1)
        fence = real.pool.heartbeat(beat("a"), known_epoch=None).fence
        assert statuses(real, fence, [Claim("report", start, after(start, fence), commands)]) == [WON]
        assert subscriber.get_message(timeout=2)["data"] == "hello"


def test_a_queue_with_a_time_to_live_gets_it_with_the_push(real: RedisWorld, beat: Beat) -> None:
    fence = real.pool.heartbeat(beat("a"), known_epoch=None).fence
    start = anchored(real, fence, "report")
    commands = (*push("short"), Command("PEXPIRE", "short", "60000"))
    while real.now() <= start.due + MS:
        pass
    assert statuses(real, fence, [Claim("report", start, after(start, fence), commands)]) == [WON]
    assert 0 < real.client.pttl("short") <= 60000


def test_messages_and_names_are_carried_byte_by_byte(world: World, fence: Fence) -> None:
    name, message = "é\n\x00 😀", "\u2028 ü \x00"
    start = anchored(world, fence, name)
    assert statuses(world, fence, [Claim(name, start, after(start, fence), push("ключ", message))]) == [WON]

    assert world.queue("ключ") == [message]
    assert world.ledger.scan(0, 10) == (0, [(name, after(start, fence))])


# --- batches ------------------------------------------------------------------------------------------------


def test_each_claim_of_a_batch_has_a_result_of_its_own(world: World, fence: Fence) -> None:
    names = ["won", "lost", "early", "failed", "repeated", "gone"]
    start = anchored(world, fence, *names)
    wanted, late = after(start, fence), after(start, fence, by=timedelta(hours=1))
    other = after(start, fence, node="b")
    world.ledger.claim(
        fence, [Claim("lost", start, other), Claim("repeated", start, wanted, push(message="r"))]
    )
    world.put_cursor("gone", None)
    world.refuse("spoilt")
    reply = world.ledger.claim(
        fence,
        [
            Claim("won", start, wanted, push(message="w")),
            Claim("lost", start, wanted, push(message="l")),
            Claim("early", start, late, push(message="e")),
            Claim("failed", start, wanted, push("spoilt", "f")),
            Claim("repeated", start, wanted, push(message="r")),
            Claim("gone", start, wanted, push(message="g")),
        ],
    )

    assert [(result.status, result.stored) for result in reply.results] == [
        (WON, wanted),
        (LOST, other),
        (EARLY, start),
        (FAILED, start),
        (WON, wanted),
        (LOST, None),
    ]
    assert world.queue("celery") == ["r", "w"]


def test_a_queue_of_another_type_spoils_its_entry_only(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "good", "bad", "half", "also good")
    wanted = after(start, fence)
    world.refuse("spoilt")
    claims = [
        Claim("good", start, wanted, push(message="1")),
        Claim("bad", start, wanted, push("spoilt")),
        Claim("half", start, wanted, (*push("whole"), *push("spoilt"))),
        Claim("also good", start, wanted, push(message="2")),
    ]
    reply = world.ledger.claim(fence, claims)

    assert [result.status for result in reply.results] == [WON, FAILED, FAILED, WON]
    assert "spoilt" in reply.results[1].detail
    assert world.ledger.read(["good", "bad", "half"]) == [wanted, start, start]
    assert (world.queue("celery"), world.queue("whole")) == (["1", "2"], [])


def test_an_entry_may_not_be_claimed_twice_in_a_batch(world: World, fence: Fence) -> None:
    with pytest.raises(ValueError, match="twice"):
        world.ledger.claim(fence, [Claim("report", None, anchor(fence))] * 2)


def test_an_instant_finer_than_milliseconds_is_no_cursor(world: World, fence: Fence) -> None:
    fine = Cursor.anchor("d", fence.since.replace(microsecond=1), "a")
    with pytest.raises(ValueError, match="millisecond"):
        world.ledger.claim(fence, [Claim("report", None, fine)])


def test_an_empty_batch_says_the_time(world: World, fence: Fence) -> None:
    before = world.now()
    reply = world.ledger.claim(fence, [])

    assert before <= reply.now <= world.now()
    assert reply.results == ()
    assert world.ledger.read([]) == []


def test_more_claims_than_one_script_takes_go_in_several(world: World, fence: Fence) -> None:
    names = [f"entry {i}" for i in range(9_001)]
    start = anchored(world, fence, *names)
    wanted = after(start, fence)
    claims = [Claim(name, start, wanted, push(message=name)) for name in names]

    assert set(statuses(world, fence, claims)) == {WON}
    assert world.queue("celery") == names
    assert world.ledger.read(names) == [wanted] * len(names)


# --- the fence ----------------------------------------------------------------------------------------------


def test_a_claim_under_another_config_or_instant_writes_nothing(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "report")
    claim = Claim("report", start, after(start, fence), push())
    for other in (Fence("v2", fence.since), Fence(fence.config, fence.since - MS)):
        with pytest.raises(FencedError):
            world.ledger.claim(other, [claim])

    assert world.queue("celery") == []
    assert world.ledger.read(["report"]) == [start]


def test_without_a_pool_every_claim_is_fenced(world: World) -> None:
    fence = Fence("v1", world.now().replace(microsecond=0))
    with pytest.raises(FencedError):
        world.ledger.claim(fence, [Claim("report", None, anchor(fence))])


def test_a_node_that_slept_through_a_takeover_fires_nothing_of_the_old_config(
    world: World, fence: Fence, beat: Beat
) -> None:
    start = anchored(world, fence, "report")
    world.pool.heartbeat(beat("b", config="v2"), known_epoch=None)
    world.lapse("a")
    new = world.pool.heartbeat(beat("b", config="v2"), known_epoch=None).fence
    assert new.config == "v2"

    with pytest.raises(FencedError, match="v2"):
        world.ledger.claim(fence, [Claim("report", start, after(start, fence), push())])
    world.pool.heartbeat(beat("a"), known_epoch=None)
    with pytest.raises(FencedError):
        world.ledger.claim(fence, [Claim("report", start, after(start, fence), push())])
    assert world.queue("celery") == []


# --- rights (real servers) ----------------------------------------------------------------------------------


@pytest.fixture
def limited(real: RedisWorld, server: Server) -> Iterator[Callable[..., RedisWorld]]:
    """``limited("~good", ...)``: the same store, for a user with the pool's keys and these rights."""
    users: list[RedisWorld] = []

    def limited(*rights: str, own: str = "~{celery-dispatch}:*") -> RedisWorld:
        url = server.url.replace("://", "://limited:secret@")
        real.client.execute_command(
            "ACL", "SETUSER", "limited", "reset", "on", ">secret", "+@all", own, *rights
        )
        users.append(RedisWorld(redis_client(url, {}), real.keys, real.queues))
        return users[-1]

    yield limited
    for user in users:
        user.client.close()
    real.client.acl_deluser("limited")


@pytest.fixture
def started(real: RedisWorld, beat: Beat) -> Fence:
    """The config in force in ``real``."""
    real.pool.heartbeat(beat("a"), known_epoch=None)
    real.let_pass(1)
    return real.pool.heartbeat(beat("a"), known_epoch=None).fence


def test_a_missing_right_to_one_queue_spoils_its_entries_only(
    real: RedisWorld, started: Fence, limited: Callable[..., RedisWorld]
) -> None:
    names = [f"entry {i}" for i in range(100)]
    start = anchored(real, started, *names)
    wanted = after(start, started)
    user = limited("~good*")
    guilty = {"entry 17", "entry 18", "entry 99"}
    claims = [
        Claim(name, start, wanted, push("secret" if name in guilty else f"good{i % 7}", name))
        for i, name in enumerate(names)
    ]
    for _ in range(2):
        reply = user.ledger.claim(started, claims)
        assert {n for n, result in zip(names, reply.results) if result.status is FAILED} == guilty
        assert {n for n, result in zip(names, reply.results) if result.status is WON} == set(names) - guilty
        assert "NOPERM" in reply.results[17].detail

    assert sorted(n for i in range(7) for n in real.queue(f"good{i}")) == sorted(set(names) - guilty)
    assert real.queue("secret") == []
    assert real.ledger.read(["entry 17", "entry 16"]) == [start, wanted]


def test_a_missing_right_to_the_only_queue_costs_few_round_trips(
    real: RedisWorld, started: Fence, limited: Callable[..., RedisWorld]
) -> None:
    names = [f"entry {i}" for i in range(500)]
    start = anchored(real, started, *names)
    user = limited()
    before = evalshas(real)
    claims = [Claim(name, start, after(start, started), push("secret")) for name in names]
    assert set(statuses(user, started, claims)) == {FAILED}

    assert 1 < evalshas(real) - before <= 5


def evalshas(real: RedisWorld) -> int:
    """How many scripts the server was asked to run, refused ones included."""
    stats = real.client.info("commandstats")["cmdstat_evalsha"]
    return int(stats["calls"]) + int(stats["rejected_calls"])


def test_a_time_to_live_alone_is_no_message(
    real: RedisWorld, started: Fence, limited: Callable[..., RedisWorld]
) -> None:
    start = anchored(real, started, "report")
    user = limited("~short", "-lpush")
    commands = (*push("short"), Command("PEXPIRE", "short", "60000"))
    (result,) = user.ledger.claim(started, [Claim("report", start, after(start, started), commands)]).results

    assert (result.status, result.stored) == (FAILED, start)
    assert "LPUSH" in result.detail


def test_missing_rights_to_our_own_keys_are_refused_with_the_cure(
    real: RedisWorld, started: Fence, limited: Callable[..., RedisWorld], beat: Beat
) -> None:
    start = anchored(real, started, "report")
    user = limited("~good", own="~elsewhere:*")
    claim = Claim("report", start, after(start, started), push("good"))
    for refused in (
        lambda: user.ledger.claim(started, [claim]),
        lambda: user.ledger.claim(started, [Claim("new", None, start)]),
        lambda: user.ledger.read(["report"]),
        lambda: user.pool.heartbeat(beat("b"), known_epoch=None),
        user.pool.read,
    ):
        with pytest.raises(StoreRefused, match=r"NOPERM.*right"):
            refused()


def test_a_user_without_the_right_to_write_cursors_pushes_nothing(
    real: RedisWorld, started: Fence, limited: Callable[..., RedisWorld]
) -> None:
    start = anchored(real, started, "report")
    user = limited("~good", "-hset")
    assert statuses(user, started, [Claim("report", start, after(start, started), push("good"))]) == [FAILED]
    with pytest.raises(StoreRefused):
        user.ledger.claim(started, [Claim("new", None, start)])

    assert real.queue("good") == []


def test_a_push_that_succeeds_in_part_counts_as_fired_and_says_so(
    real: RedisWorld, started: Fence, limited: Callable[..., RedisWorld]
) -> None:
    start = anchored(real, started, "report", "quiet")
    user = limited("~celery", "resetchannels")
    wanted = after(start, started)
    silent = (Command("PUBLISH", "everyone", "m"),)
    reply = user.ledger.claim(
        started, [Claim("report", start, wanted, (*push(), *silent)), Claim("quiet", start, wanted, silent)]
    )

    partial, nothing = reply.results
    assert (partial.status, partial.stored) == (WON, wanted)
    assert "everyone" in partial.detail
    assert (nothing.status, nothing.stored) == (FAILED, start)
    assert real.queue("celery") == ["m"]
    assert real.ledger.read(["report", "quiet"]) == [wanted, start]


def test_a_partial_push_in_memory_is_told_like_on_redis(beat: Beat) -> None:
    store = MemoryStore()
    fence = MemoryPool(store).heartbeat(beat("a"), known_epoch=None).fence
    ledger, start = MemoryLedger(store), anchor(fence)
    ledger.claim(fence, [Claim("report", None, start)])
    store.clock.advance(1)
    store.refused.add("everyone")
    commands = (*push(), Command("PUBLISH", "everyone", "m"))
    (result,) = ledger.claim(fence, [Claim("report", start, after(start, fence), commands)]).results

    assert result.status is WON
    assert "everyone" in result.detail


# --- outages ------------------------------------------------------------------------------------------------


def test_a_server_without_memory_is_an_outage_and_no_entrys_fault(real: RedisWorld, started: Fence) -> None:
    start = anchored(real, started, "report")
    claim = Claim("report", start, after(start, started), push())
    real.client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable, match="OOM"):
            real.ledger.claim(started, [claim])
    finally:
        real.client.config_set("maxmemory", "0")

    assert real.queue("celery") == []
    assert statuses(real, started, [claim]) == [WON]


def test_a_read_only_replica_is_an_outage(server: Server, started: Fence, real: RedisWorld) -> None:
    start = anchored(real, started, "report")
    real.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(StoreUnavailable):
            real.ledger.claim(started, [Claim("report", start, after(start, started), push())])
    finally:
        real.client.execute_command("REPLICAOF", "NO", "ONE")

    assert real.queue("celery") == []


def test_a_server_that_restarted_knows_the_script_again(keys: Keys, beat: Beat) -> None:
    with running("valkey", appendonly=True) as server:
        client = redis_client(server.url, {})
        pool, ledger = RedisPool(client, keys), RedisLedger(client, keys)
        fence = pool.heartbeat(beat("a"), known_epoch=None).fence
        claim = Claim("report", None, anchor(fence))
        assert ledger.claim(fence, [claim]).results[0].status is WON
        server.kill()
        for outage in (
            lambda: ledger.claim(fence, [claim]),
            lambda: ledger.read(["report"]),
            lambda: ledger.scan(0, 10),
        ):
            with pytest.raises(StoreUnavailable):
                outage()
        server.start()
        assert ledger.claim(fence, [claim]).results[0].status is WON
        assert ledger.read(["report"]) == [claim.wanted]
        client.close()


def test_a_server_that_answers_no_more_is_unavailable_within_the_timeout(keys: Keys) -> None:
    with running("valkey") as server:
        client = redis_client(server.url, {"socket_timeout": 0.1})
        ledger = RedisLedger(client, keys)
        assert ledger.read(["report"]) == [None]
        server.pause()
        with pytest.raises(StoreUnavailable):
            ledger.read(["report"])
        server.resume()
        assert ledger.read(["report"]) == [None]
        client.close()


def test_a_claim_whose_reply_was_lost_was_carried_out_once(beat: Beat) -> None:
    store = MemoryStore()
    fence = MemoryPool(store).heartbeat(beat("a"), known_epoch=None).fence
    ledger, start = MemoryLedger(store), anchor(fence)
    ledger.claim(fence, [Claim("report", None, start)])
    store.clock.advance(1)
    claim = Claim("report", start, after(start, fence), push())
    store.lose_next_reply()
    with pytest.raises(StoreUnavailable):
        ledger.claim(fence, [claim])

    assert ledger.claim(fence, [claim]).results[0].status is WON
    assert store.queues["celery"] == ["m"]


# --- rows that are no cursors -------------------------------------------------------------------------------

SOUND = '[1700000000000,"d",1700000000000,1,0,0,"a"]'


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "x",
        "null",
        "{}",
        "[]",
        SOUND[:-1],
        SOUND + " ",
        SOUND.replace(",", ", ", 1),
        SOUND.replace(",1,0", ",true,0"),
        SOUND.replace(",1,0", ",1.0,0"),
        SOUND.replace(",1,0", ",0,0"),
        SOUND.replace(",0,0", ",-1,0"),
        SOUND.replace(",0,0", f",{2**60},0"),
        SOUND.replace("1700000000000", "1700000000000.5", 1),
        SOUND.replace("1700000000000", '"1700000000000"', 1),
        SOUND.replace("1700000000000", "-1", 1),
        SOUND.replace("1700000000000", "1e300", 1),
        SOUND.replace("1700000000000", "9" * 5000, 1),
        SOUND.replace("1700000000000", "NaN", 1),
        SOUND.replace('"a"', "null"),
        SOUND.replace('"a"', '"é"'),
        SOUND.replace('"a"', '"\\u0061"'),
        SOUND.replace('"a"', '"\ufffd"'),
        "[" * 100_000,
    ],
    ids=lambda raw: raw[:50],
)
def test_a_row_that_is_no_cursor_is_damaged_and_matches_no_claim(
    world: World, fence: Fence, raw: str
) -> None:
    world.put_cursor("report", raw)
    (row,) = world.ledger.read(["report"])
    assert isinstance(row, Damaged)
    assert row.raw == raw
    assert row.reason
    assert world.ledger.scan(0, 10) == (0, [("report", row)])

    for expected in (None, anchor(fence)):
        wanted = after(anchor(fence), fence)
        (result,) = world.ledger.claim(fence, [Claim("report", expected, wanted, push())]).results
        assert (result.status, result.stored) == (LOST, row)
    assert world.queue("celery") == []


def test_bytes_that_are_no_text_are_damaged(real: RedisWorld) -> None:
    real.client.hset(real.keys.cursor, "report", SOUND.replace('"a"', '"').encode() + b'\xff"]')

    assert isinstance(real.ledger.read(["report"])[0], Damaged)


instants = st.integers(0, 253_402_300_799_999).map(
    lambda ms: datetime.fromisoformat("1970-01-01T00:00+00:00") + ms * MS
)
cursors = st.builds(
    Cursor,
    due=instants,
    definition=st.text(max_size=20),
    effective_from=instants,
    revision=st.integers(1, 2**53),
    fired=st.integers(0, 2**53),
    skipped=st.integers(0, 2**53),
    node=st.text(max_size=20),
)


@given(cursors)
def test_every_cursor_is_read_back_as_it_was_written(cursor: Cursor) -> None:
    row = encode_cursor(cursor)

    assert row.isascii()
    assert decode_cursor(row) == cursor


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr))
def test_no_text_breaks_the_reader_of_cursors(raw: str) -> None:
    row = decode_cursor(raw)

    assert isinstance(row, Damaged) or encode_cursor(row) == raw


# --- pages --------------------------------------------------------------------------------------------------


def test_pages_hold_every_cursor_though_others_come_and_go(world: World, fence: Fence) -> None:
    names = {f"entry {i}" for i in range(1_500)}
    start = anchored(world, fence, *sorted(names))
    seen: dict[str, object] = {}
    position, pages = 0, 0
    while True:
        position, page = world.ledger.scan(position, 200)
        seen.update(page)
        pages += 1
        world.ledger.claim(fence, [Claim(f"late {pages}", None, start), Claim(f"entry {pages}", start, None)])
        if position == 0:
            break

    assert pages > 3
    assert names - {f"entry {i}" for i in range(1, pages + 1)} <= set(seen)
    assert set(seen.values()) == {start}


# --- who wins -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["read", "claim", "claim", "repeat"])), max_size=60)
)
def test_any_interleaving_of_claimers_pushes_each_occurrence_once(
    world: World, fence: Fence, moves: list[tuple[int, str]]
) -> None:
    """Each claimer goes on from what it last heard, however old; ``repeat`` sends its last claim again."""
    name, queue = token_hex(8), token_hex(8)
    start = anchored(world, fence, name)
    known = dict.fromkeys(range(4), start)
    last: dict[int, Claim] = {}
    for claimer, move in moves:
        if move == "read":
            (stored,) = world.ledger.read([name])
        else:
            if move == "claim" or claimer not in last:
                wanted = after(known[claimer], fence, node=str(claimer))
                message = str((wanted.due - start.due) // MS)
                last[claimer] = Claim(name, known[claimer], wanted, push(queue, message))
            stored = world.ledger.claim(fence, [last[claimer]]).results[0].stored
        assert isinstance(stored, Cursor)
        known[claimer] = stored

    (final,) = world.ledger.read([name])
    assert isinstance(final, Cursor)
    assert world.queue(queue) == [str(i + 1) for i in range(final.fired)]


def test_claimers_at_the_same_time_push_each_occurrence_once(world: World, fence: Fence) -> None:
    names = [f"entry {i}" for i in range(5)]
    start = anchored(world, fence, *names)

    def claimer(node: str) -> None:
        known = dict.fromkeys(names, start)
        while any(cursor.fired < 40 for cursor in known.values()):
            open_ = [name for name in names if known[name].fired < 40]
            claims = [
                Claim(n, known[n], after(known[n], fence, node=node), push(n, str(known[n].fired)))
                for n in open_
            ]
            for name, result in zip(open_, world.ledger.claim(fence, claims).results):
                assert isinstance(result.stored, Cursor)
                known[name] = result.stored

    threads = [threading.Thread(target=claimer, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert [world.queue(name) for name in names] == [[str(i) for i in range(40)]] * 5


def test_damaged_definition_is_not_equal_to_a_sound_one(fence: Fence, world: World) -> None:
    start = anchored(world, fence, "report")
    changed = replace(start, definition="other")

    assert statuses(world, fence, [Claim("report", changed, after(start, fence), push())]) == [LOST]
