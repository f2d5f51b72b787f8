"""The ``Intents`` contract, in memory and on real servers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from secrets import token_hex

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_dispatch.core.entry import Fence
from celery_dispatch.core.ports import ClaimStatus, Command, Damaged, Intent, Settlement
from celery_dispatch.errors import StoreRefused, StoreUnavailable
from celery_dispatch.redis_store.codec import decode_intent, encode_intent, intent_field, to_ms
from tests.contract.conftest import MemoryWorld, RedisWorld, World

WON, LOST, FAILED = ClaimStatus.WON, ClaimStatus.LOST, ClaimStatus.FAILED
SECOND = timedelta(seconds=1)
MS = timedelta(milliseconds=1)
LEASE = timedelta(seconds=10)
DUE = datetime(2026, 1, 1, tzinfo=timezone.utc)


def now_of(world: World) -> datetime:
    now = world.now()
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def opened(
    world: World, name: str = "report", *, node: str = "a", age: timedelta = SECOND, message: str | None = "m"
) -> Intent:
    """An intent that ``node`` has had for ``age``; without ``message`` it was not rendered."""
    commands = None if message is None else push(message=message)
    intent = Intent(name, DUE, "d", node, token_hex(8), now_of(world) - age, commands)
    world.put_intent(intent_field(intent), encode_intent(intent), intent.since)
    return intent


def push(queue: str = "celery", message: str = "m") -> tuple[Command, ...]:
    return (Command("LPUSH", queue, message),)


def live(world: World, *nodes: str) -> None:
    """These nodes are in the pool, for a minute."""
    for node in nodes:
        world.put_lease(node, now_of(world) + 60 * SECOND)


def taken_by(
    world: World, node: str, *, older_than: timedelta = LEASE, limit: int = 100, **dues: datetime | None
) -> list[Intent]:
    return world.intents.take_over(node, token=token_hex(6), older_than=older_than, limit=limit, **dues)


def in_order(*intents: Intent) -> list[Intent]:
    """The oldest first."""
    return sorted(intents, key=lambda intent: (intent.since, intent_field(intent).encode()))


def statuses(world: World, settlements: Sequence[Settlement]) -> list[ClaimStatus]:
    return [result.status for result in world.intents.settle(settlements)]


# --- settling -----------------------------------------------------------------------------------------------


def test_a_settled_intent_is_gone_and_its_message_is_on_the_broker(world: World) -> None:
    intent = opened(world)
    (result,) = world.intents.settle([Settlement(intent, (*push(message="1"), *push(message="2")))])

    assert (result.status, result.stored, result.detail) == (WON, None, "")
    assert world.queue("celery") == ["1", "2"]
    assert world.intents.read(10) == (0, [])


def test_a_message_that_is_on_another_broker_is_settled_without_commands(world: World) -> None:
    intent, other = opened(world, "a"), opened(world, "b")
    assert statuses(world, [Settlement(intent)]) == [WON]

    assert world.intents.read(10) == (1, [other])


def test_an_intent_is_settled_once(world: World) -> None:
    settlement = Settlement(opened(world), push())

    assert statuses(world, [settlement]) == [WON]
    assert statuses(world, [settlement]) == [LOST]
    assert world.queue("celery") == ["m"]


def test_only_the_attempt_that_is_stored_is_settled(world: World) -> None:
    intent = opened(world)
    earlier = replace(intent, token="0123456789abcdef")
    (result,) = world.intents.settle([Settlement(earlier, push())])

    assert (result.status, result.stored) == (LOST, None)
    assert world.queue("celery") == []
    assert world.intents.read(10) == (1, [intent])


def test_an_intent_whose_message_could_not_be_pushed_stands(world: World) -> None:
    world.refuse("spoilt")
    intent = opened(world)
    (result,) = world.intents.settle([Settlement(intent, push("spoilt"))])

    assert (result.status, result.stored) == (FAILED, None)
    assert "spoilt" in result.detail
    assert world.intents.read(10) == (1, [intent])
    live(world, "a")
    assert taken_by(world, "b") == []
    assert statuses(world, [Settlement(intent, push())]) == [WON]
    assert world.queue("celery") == ["m"]


def test_each_settlement_of_a_batch_has_a_result_of_its_own(world: World) -> None:
    names = ["won", "lost", "failed", "half", "bare"]
    intents = {name: opened(world, name) for name in names}
    world.refuse("spoilt")
    settlements = [
        Settlement(intents["won"], push(message="w")),
        Settlement(replace(intents["lost"], token="0" * 16), push(message="l")),
        Settlement(intents["failed"], push("spoilt", "f")),
        Settlement(intents["half"], (*push(message="h"), *push("spoilt", "h"))),
        Settlement(intents["bare"]),
        Settlement(replace(intents["won"], name="unknown"), push(message="u")),
    ]

    assert statuses(world, settlements) == [WON, LOST, FAILED, FAILED, WON, LOST]
    assert world.queue("celery") == ["w"]
    assert {intent.name for intent in world.intents.read(10)[1]} == {"lost", "failed", "half"}


def test_a_message_that_was_made_for_another_broker_fails_alone(real: RedisWorld) -> None:
    names = ["before", "foreign", "after"]
    intents = {name: opened(real, name) for name in names}
    settlements = [
        Settlement(intents["before"], push(message="1")),
        Settlement(intents["foreign"], (Command("BASIC.PUBLISH", "exchange/key", "{}"),)),
        Settlement(intents["after"], push(message="2")),
    ]
    results = real.intents.settle(settlements)

    assert [result.status for result in results] == [WON, FAILED, WON]
    assert "BASIC.PUBLISH" in results[1].detail
    assert sorted(real.queue("celery")) == ["1", "2"]
    assert real.intents.read(10) == (1, [intents["foreign"]])


def test_an_intent_may_not_be_settled_twice_in_a_batch(world: World) -> None:
    intent = opened(world)
    with pytest.raises(ValueError, match="twice"):
        world.intents.settle([Settlement(intent, push()), Settlement(replace(intent, token="0" * 16))])


def test_whatever_the_fence_and_during_a_recovery_intents_are_settled_and_taken_over(world: World) -> None:
    world.put_fence(Fence("v9", DUE), recovery="r1")
    intent = opened(world)
    (mine,) = taken_by(world, "b")

    assert world.intents.keep([mine]) == [True]
    assert statuses(world, [Settlement(intent, push())]) == [LOST]
    assert statuses(world, [Settlement(mine, push())]) == [WON]
    assert world.queue("celery") == ["m"]


def test_more_intents_than_one_script_takes_go_in_several(world: World) -> None:
    one = opened(world, "entry 6000", node="a")
    many = [replace(one, name=f"entry {i}", commands=None) for i in range(6_001)]
    kept = world.intents.keep(many)
    results = statuses(world, [Settlement(intent) for intent in many])

    assert (kept.count(True), kept.index(True)) == (1, 6_000)
    assert (results.count(WON), results.index(WON)) == (1, 6_000)
    assert (world.intents.settle([]), world.intents.keep([])) == ((), [])


# --- keeping the message ------------------------------------------------------------------------------------


def test_a_message_is_kept_in_the_intent_of_this_attempt_only(world: World) -> None:
    mine, lost, gone = (opened(world, name, message=None) for name in ("mine", "lost", "gone"))
    world.intents.settle([Settlement(gone)])
    rendered = [
        replace(mine, commands=push(message="é\n\x00 😀")),
        replace(lost, token="0" * 16, commands=push()),
        replace(gone, commands=push()),
    ]
    for _ in range(2):
        assert world.intents.keep(rendered) == [True, False, False]

    assert world.intents.read(10) == (2, in_order(rendered[0], lost))


# --- taking over --------------------------------------------------------------------------------------------


def test_the_intents_of_a_node_that_is_gone_are_taken_over(world: World) -> None:
    live(world, "a", "b")
    world.put_lease("expired", now_of(world) - MS)
    opened(world, "of a", node="a")
    theirs = [opened(world, name, node=name, age=2 * SECOND) for name in ("expired", "never there")]
    before = now_of(world)
    taken = taken_by(world, "b")

    assert [replace(i, token=t.token, since=t.since, node=t.node) for i, t in zip(taken, theirs)] == theirs
    assert {(intent.node, intent.since >= before) for intent in taken} == {("b", True)}
    assert len({intent.token for intent in (*taken, *theirs)}) == 4
    assert [intent.name for intent in world.intents.read(10)[1]] == ["of a", "expired", "never there"]


def test_an_intent_of_a_live_node_is_taken_over_when_it_is_old(world: World) -> None:
    live(world, "a", "b")
    opened(world, "young", age=LEASE - 2 * SECOND)
    opened(world, "old", age=LEASE)

    assert [intent.name for intent in taken_by(world, "b")] == ["old"]
    assert taken_by(world, "c", older_than=timedelta.max) == []


def test_a_node_that_does_not_know_how_its_own_intents_stand_takes_them_over(world: World) -> None:
    live(world, "a", "b")
    intent = opened(world, node="a")
    opened(world, "other", node="b")
    (again,) = taken_by(world, "a")

    assert again.token != intent.token
    assert statuses(world, [Settlement(intent, push())]) == [LOST]
    assert statuses(world, [Settlement(again, push())]) == [WON]
    assert world.queue("celery") == ["m"]


def test_only_what_was_due_in_the_time_asked_for_is_taken_over_from_others(world: World) -> None:
    for node in "ab":
        opened(world, f"of {node}", node=node, age=20 * SECOND)
    live(world, "b")

    assert taken_by(world, "c", due_from=DUE + MS) == []
    assert taken_by(world, "c", due_until=DUE) == []
    assert [intent.name for intent in taken_by(world, "b", due_from=DUE + MS)] == ["of b"], "its own"
    assert len(taken_by(world, "c", due_from=DUE, due_until=DUE + MS, older_than=timedelta(0))) == 2


def test_whoever_was_taken_over_from_settles_and_keeps_nothing(world: World) -> None:
    intent = opened(world)
    (theirs,) = taken_by(world, "b")

    assert world.intents.keep([replace(intent, commands=push(message="changed"))]) == [False]
    assert statuses(world, [Settlement(intent, push())]) == [LOST]
    assert world.intents.read(10) == (1, [theirs])
    assert taken_by(world, "b", limit=0) == []
    assert world.intents.read(10) == (1, [theirs])


def test_at_most_as_many_as_asked_for_are_taken_over_the_oldest_first(world: World) -> None:
    for age in (3, 5, 1, 4, 2):
        opened(world, f"aged {age}", age=age * SECOND)
    assert [intent.name for intent in world.intents.read(2)[1]] == ["aged 5", "aged 4"]
    first = taken_by(world, "b", limit=2)
    live(world, "b")
    second = taken_by(world, "c", limit=100)

    assert [intent.name for intent in first] == ["aged 5", "aged 4"]
    assert [intent.name for intent in second] == ["aged 3", "aged 2", "aged 1"]
    assert world.intents.read(0) == (5, [])


def test_many_that_may_not_be_taken_do_not_hide_those_that_may(world: World) -> None:
    live(world, "a", "b")
    for i in range(1_200):
        opened(world, f"of a {i}", age=3 * SECOND)
    opened(world, "of c", node="c", age=SECOND)

    assert [intent.name for intent in taken_by(world, "b")] == ["of c"]


@pytest.mark.parametrize("node", ['"', "é \\ \n", 'a"\nb', "\x00", "", "😀"])
def test_what_is_taken_over_is_carried_byte_by_byte(world: World, node: str) -> None:
    live(world, "b", node)
    message = json.dumps({"empty": [], "number": 1e300, "big": 2**60}) + '\n\x00é😀"\\'
    commands = (*push("ключ", message), Command("PUBLISH", "c", ""), Command("PEXPIRE", "ключ", "60000"))
    intent = Intent("é: 1\n\x00", DUE, '"d\n', node, token_hex(8), now_of(world) - SECOND, commands)
    world.put_intent(intent_field(intent), encode_intent(intent), intent.since)
    assert taken_by(world, "b" + node) == []
    (taken,) = taken_by(world, node)

    assert replace(taken, token=intent.token, since=intent.since) == intent
    assert world.intents.read(10) == (1, [taken])


def test_what_was_not_rendered_is_told_from_what_sends_nothing(world: World) -> None:
    for name, commands in (("bare", None), ("nothing", ())):
        intent = Intent(name, DUE, "d", "a", token_hex(8), now_of(world), commands)
        world.put_intent(intent_field(intent), encode_intent(intent), intent.since)

    assert {intent.name: intent.commands for intent in taken_by(world, "b")} == {"bare": None, "nothing": ()}


@pytest.mark.parametrize("token", ["", "0123", "x" * 12, "0123456789AB"])
def test_tokens_are_made_from_hexadecimal_digits_only(world: World, token: str) -> None:
    with pytest.raises(ValueError, match="12 hexadecimal"):
        world.intents.take_over("b", token=token, older_than=LEASE, limit=1)


# --- lost replies -------------------------------------------------------------------------------------------


def test_a_settlement_whose_reply_was_lost_was_carried_out_once() -> None:
    world = MemoryWorld()
    settlement = Settlement(opened(world), push())
    world.store.lose_next_reply()
    with pytest.raises(StoreUnavailable):
        world.intents.settle([settlement])

    assert statuses(world, [settlement]) == [LOST]
    assert world.queue("celery") == ["m"]


def test_keeping_a_message_may_be_repeated_when_the_reply_was_lost() -> None:
    world = MemoryWorld()
    rendered = replace(opened(world, message=None), commands=push())
    world.store.lose_next_reply()
    with pytest.raises(StoreUnavailable):
        world.intents.keep([rendered])

    assert world.intents.keep([rendered]) == [True]
    assert world.intents.read(10) == (1, [rendered])


def test_what_was_taken_over_without_hearing_of_it_is_taken_over_again() -> None:
    world = MemoryWorld()
    live(world, "b")
    opened(world)
    world.store.lose_next_reply()
    with pytest.raises(StoreUnavailable):
        taken_by(world, "b")
    (unheard,) = world.intents.read(10)[1]
    (taken,) = taken_by(world, "b")

    assert taken.token != unheard.token
    assert statuses(world, [Settlement(unheard, push())]) == [LOST]
    assert statuses(world, [Settlement(taken, push())]) == [WON]


# --- rows that are no intents -------------------------------------------------------------------------------

FIELD = f"{to_ms(DUE)}:report"
SOUND = '0123456789abcdef 1700000000000 "a"\n["d",[["LPUSH","celery","m"]]]'

HOSTILE_ROWS = [
    "",
    "x",
    "null",
    SOUND[:-1],
    SOUND + " ",
    SOUND + "\n",
    SOUND.upper(),
    SOUND.replace("\n", " "),
    SOUND.replace("\n", "\n\n"),
    SOUND.replace('"a"', "a"),
    SOUND.replace('"a"', "null"),
    SOUND.replace('"a"', '"a" '),
    SOUND.replace('"a"', '"\\ud800"'),
    SOUND.replace('"a"', '"é"'),
    SOUND.replace('"a"', '"a","b"'),
    SOUND.replace("0123", "012"),
    SOUND.replace("1700000000000", "-1"),
    SOUND.replace("1700000000000", "1e3"),
    SOUND.replace("1700000000000", "01700000000000"),
    SOUND.replace("1700000000000", "9" * 15),
    SOUND.replace("1700000000000", "9" * 5000),
    SOUND.replace('"d"', "1"),
    SOUND.replace('"d",', ""),
    SOUND.replace('"d"', '"d","d"'),
    SOUND.replace('"m"', "1"),
    SOUND.replace('"m"', "null"),
    SOUND.replace('"m"', '"\\udc00"'),
    SOUND.replace('"m"', '"m","m"'),
    SOUND.replace('"m"', '"\\u006d"'),
    SOUND.replace('[["', '["').replace(']]"', ']"'),
    SOUND.replace('[["LPUSH","celery","m"]]', "{}"),
    SOUND.replace('[["LPUSH","celery","m"]]', "[" * 100_000),
    SOUND.replace('[["LPUSH","celery","m"]]', "NaN"),
]
HOSTILE_FIELDS = ["", "report", ":report", "x:report", "-1:report", "01:report", "9" * 15 + ":r", "9" * 5000]


@pytest.mark.parametrize("raw", HOSTILE_ROWS, ids=lambda raw: raw[:60])
def test_a_row_that_is_no_intent_is_removed_and_logged(
    world: World, raw: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = opened(world, "good")
    world.put_intent(FIELD, raw, DUE)
    assert world.intents.read(10) == (2, [good])
    with caplog.at_level(logging.ERROR):
        taken = taken_by(world, "b")

    assert [intent.name for intent in taken] == ["good"]
    assert repr(FIELD) in caplog.text
    assert world.intents.read(10) == (1, taken)


@pytest.mark.parametrize("field", HOSTILE_FIELDS, ids=lambda field: field[:20])
def test_a_field_that_names_no_occurrence_is_removed_and_logged(
    world: World, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.put_intent(field, SOUND, DUE)
    with caplog.at_level(logging.ERROR):
        assert taken_by(world, "b") == []

    assert repr(field[:200]) in caplog.text
    assert world.intents.read(10) == (0, [])


def test_bytes_that_are_no_text_are_removed(real: RedisWorld) -> None:
    broken = [
        b"\xff",
        b"\xe9",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe1\xc3\x80\x80",
    ]
    for i, text in enumerate(broken):
        real.client.hset(real.keys.intents, b"1:" + text, SOUND)
        real.client.hset(real.keys.intents, f"{i}:row", SOUND.replace('"m"', '"').encode() + text)
        real.client.hset(real.keys.intents, f"{i}:node", SOUND.replace('"a"', '"').encode() + text)
    sound = ["\x7f", "é", "߿", "ࠀ", "\ufffd", "\ud7ff", "\ue000", "\U00010000", "\U0010ffff", "日本"]
    for name in sound:
        real.client.hset(real.keys.intents, f"1:{name}", SOUND)
    assert sorted(intent.name for intent in taken_by(real, "b")) == sorted(sound)

    assert real.client.hlen(real.keys.intents) == real.client.zcard(real.keys.attempts) == len(sound)


def test_an_attempt_at_nothing_is_removed_when_it_is_met(real: RedisWorld) -> None:
    real.client.zadd(real.keys.attempts, {"1:nothing": 1})
    assert taken_by(real, "b") == []
    assert not real.client.exists(real.keys.attempts)
    intent = opened(real)
    real.client.zadd(real.keys.attempts, {"1:nothing": 1, "x": "-inf", "y": "+inf"})
    assert real.intents.read(10) == (1, [intent])
    assert [taken.name for taken in taken_by(real, "b")] == ["report"]

    assert real.client.zrange(real.keys.attempts, 0, -1) == [intent_field(intent)]


def test_intents_that_no_attempt_leads_to_are_found_in_few_looks(real: RedisWorld) -> None:
    live(real, "a", "b")
    lost = {f"lost {i}" for i in range(1_500)}
    for name in lost:
        opened(real, name, node="c")
    real.client.delete(real.keys.attempts)
    young = opened(real, "young")
    assert real.intents.read(10) == (1_501, [young])
    found: set[str] = set()
    for _ in range(30):
        found |= {intent.name for intent in taken_by(real, "b", limit=5_000)}

    assert found == lost
    assert real.client.zcard(real.keys.attempts) == 1_501


def test_keys_that_hold_something_else_are_refused_with_the_cure(real: RedisWorld) -> None:
    settlement = Settlement(opened(real), push())
    keys = real.keys
    for key, calls in {
        keys.intents: ("settle", "keep", "take_over", "read"),
        keys.attempts: ("settle", "take_over", "read"),
        keys.nodes: ("take_over",),
    }.items():
        opened(real)
        real.client.delete(key)
        real.client.set(key, "not ours")
        for call in calls:
            with pytest.raises(StoreRefused, match=r"WRONGTYPE.*dispatch_key_prefix"):
                {
                    "settle": lambda: real.intents.settle([settlement]),
                    "keep": lambda: real.intents.keep([settlement.intent]),
                    "take_over": lambda: taken_by(real, "b"),
                    "read": lambda: real.intents.read(1),
                }[call]()
        real.client.delete(keys.intents, keys.attempts, keys.nodes)

    assert real.queue("celery") == []


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
instants = st.integers(0, 221_845_392_000_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=timezone.utc) + ms * MS
)
operations = st.sampled_from(["LPUSH", "PEXPIRE", "PUBLISH", "BASIC.PUBLISH"])
intents = st.builds(
    Intent,
    name=texts,
    due=instants,
    definition=texts,
    node=texts,
    token=st.text("0123456789abcdef", min_size=16, max_size=16),
    since=instants,
    commands=st.none()
    | st.lists(st.builds(Command, op=operations, key=texts, value=texts), max_size=3).map(tuple),
)


@given(intents)
def test_every_intent_is_read_back_as_it_was_written(intent: Intent) -> None:
    row = encode_intent(intent)

    assert row.isascii()
    assert decode_intent(intent_field(intent), row) == intent


json_texts = st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)
rows = st.text() | st.builds('0123456789abcdef {} "{}"\n{}'.format, st.integers(), st.text(), json_texts)
fields = st.text() | st.builds("{}:{}".format, st.integers(), st.text())


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


@given(fields, rows)
def test_no_text_breaks_the_reader_of_intents(field: str, raw: str) -> None:
    decoded = decode_intent(field, raw)

    if isinstance(decoded, Damaged):
        assert (decoded.raw, bool(decoded.reason)) == (raw, True)
    else:
        assert (intent_field(decoded), encode_intent(decoded)) == (field, raw)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.binary(max_size=30) | fields.map(_bytes),
            st.binary() | rows.map(_bytes),
            st.floats(allow_nan=False),
        ),
        max_size=8,
    )
)
def test_whatever_stands_in_the_keys_sound_intents_are_taken_over(
    real: RedisWorld, rubbish: list[tuple[bytes, bytes, float]]
) -> None:
    real.client.delete(real.keys.intents, real.keys.attempts)
    good = opened(real, "good", node="gone")
    for i, (field, row, score) in enumerate(rubbish):
        if i % 3:
            real.client.hset(real.keys.intents, field, row)
        if i % 3 != 1:
            real.client.zadd(real.keys.attempts, {field: score})
    assert "good" in [intent.name for intent in taken_by(real, "b")]
    live(real, "b")
    taken = taken_by(real, "b")  # as many attempts at nothing may have hidden as many lost rows

    assert [intent.token != good.token for intent in taken if intent.name == "good"] == [True]
    assert real.intents.read(100) == (len(taken), in_order(*taken))
    assert real.client.zcard(real.keys.attempts) == len(taken)
    real.client.delete(real.keys.intents, real.keys.attempts)


# --- rights and outages (real servers) ----------------------------------------------------------------------


def test_a_missing_right_to_one_queue_leaves_its_intents_open_only(
    real: RedisWorld, limited: Callable[..., RedisWorld]
) -> None:
    names = [f"entry {i}" for i in range(60)]
    guilty = {"entry 17", "entry 18", "entry 59"}
    intents = [opened(real, name) for name in names]
    settlements = [
        Settlement(intent, push("secret" if intent.name in guilty else f"good{i % 7}", intent.name))
        for i, intent in enumerate(intents)
    ]
    results = limited("~good*").intents.settle(settlements)

    assert {n for n, result in zip(names, results) if result.status is FAILED} == guilty
    assert {n for n, result in zip(names, results) if result.status is WON} == set(names) - guilty
    assert "NOPERM" in results[17].detail
    assert sorted(n for i in range(7) for n in real.queue(f"good{i}")) == sorted(set(names) - guilty)
    assert {intent.name for intent in real.intents.read(100)[1]} == guilty


def test_a_push_that_succeeds_in_part_is_settled_and_says_so(
    real: RedisWorld, limited: Callable[..., RedisWorld]
) -> None:
    silent = (Command("PUBLISH", "everyone", "m"),)
    part, quiet = opened(real, "part"), opened(real, "quiet")
    user = limited("~celery", "resetchannels")
    results = user.intents.settle([Settlement(part, (*push(), *silent)), Settlement(quiet, silent)])

    assert [result.status for result in results] == [WON, FAILED]
    assert all("everyone" in result.detail for result in results)
    assert real.queue("celery") == ["m"]
    assert real.intents.read(10) == (1, [quiet])
    live(real, "a")
    assert taken_by(real, "b") == []


def test_missing_rights_to_our_own_keys_are_refused_with_the_cure(
    real: RedisWorld, limited: Callable[..., RedisWorld]
) -> None:
    intent = opened(real)
    for user in (
        limited("~good", own="~elsewhere:*"),
        limited("~good", "-hdel", "-hset", "-hmget", "-hget", "-zrange"),
    ):
        for refused in (
            lambda user=user: user.intents.settle([Settlement(intent)]),
            lambda user=user: user.intents.settle([]) or user.intents.keep([intent]),
            lambda user=user: taken_by(user, "b"),
            lambda user=user: user.intents.read(1),
        ):
            with pytest.raises(StoreRefused):
                refused()

    assert real.intents.read(10) == (1, [intent])


def test_a_server_without_memory_is_an_outage_and_no_intent_is_lost(real: RedisWorld) -> None:
    intent, other = opened(real), opened(real, "other")
    settlements = [Settlement(other), Settlement(intent, push())]
    real.client.config_set("maxmemory", "1")
    try:
        for outage in (
            lambda: real.intents.settle(settlements),
            lambda: real.intents.keep([intent]),
            lambda: taken_by(real, "b"),
        ):
            with pytest.raises(StoreUnavailable, match="OOM"):
                outage()
    finally:
        real.client.config_set("maxmemory", "0")

    assert real.queue("celery") == []
    assert real.intents.read(10)[0] == 2
    assert statuses(real, settlements) == [WON, WON]


# --- who wins -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["take", "keep", "settle"])), max_size=40))
def test_any_interleaving_of_attempts_sends_a_message_once(
    world: World, moves: list[tuple[str, str]]
) -> None:
    """Each node goes on from the attempt that it last heard of, however old."""
    name, queue = token_hex(8), token_hex(8)
    first = opened(world, name, message=None)
    known = dict.fromkeys("abc", first)
    won = 0
    for node, move in moves:
        if move == "take":
            taken = [intent for intent in taken_by(world, node) if intent.name == name]
            known[node] = taken[0] if taken else known[node]
        elif move == "keep":
            world.intents.keep([known[node]])
        else:
            won += statuses(world, [Settlement(known[node], push(queue))]).count(WON)

    left = [intent for intent in world.intents.read(10)[1] if intent.name == name]
    assert won + len(left) == 1
    assert len(world.queue(queue)) == won
    world.intents.settle([Settlement(intent) for intent in left])
