"""Every port on Redis, whatever lies under its keys: a sane answer, or an error of this package's tree."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_dispatch.celery_bridge.raw_messages import RawMessage
from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import (
    Change,
    ChangeResult,
    Claim,
    Command,
    Damaged,
    Heartbeat,
    Intent,
    Member,
    MemberState,
    News,
    PoolState,
    Pulse,
    Settlement,
)
from celery_dispatch.core.rows import Row
from celery_dispatch.errors import DispatchError
from celery_dispatch.manage.doctor.rows import read_damaged_rows
from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.codec import decode_cursor, decode_intent, decode_member
from celery_dispatch.redis_store.facets import Facets
from celery_dispatch.redis_store.intents import RedisIntents
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from celery_dispatch.redis_store.listener import RedisListener
from celery_dispatch.redis_store.pool import RedisPool
from celery_dispatch.redis_store.row_codec import decode_row, encode_row
from celery_dispatch.redis_store.rows import RedisRows
from tests.security.hostile import POOL_FIELDS, VALUES, cursors, intents, members
from tests.security.world import Bystander
from tests.servers import Server, wait_until

bounded = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
NOW_MS = 1_893_456_000_000
FENCE = Fence("v1", NOW)
CURSOR = Cursor(NOW, "d", NOW)
INTENT = Intent("a", NOW, "d", "mine", "0123456789abcdef", NOW)
ROW = Row(7, "0123abcd", NOW, NOW, definition='{"task":"t"}')
PUSH = (Command("LPUSH", "celery", "message"),)
BEAT = Heartbeat(
    node="mine",
    host="h",
    config="v1",
    identity="app",
    state=MemberState.STEADY,
    lease=timedelta(seconds=10),
    interval=timedelta(seconds=2),
    handover=timedelta(seconds=0.5),
    info={},
    remembered=FENCE,
    merged="x",
    suspicious=True,
)

small = [value for value in VALUES.values() if len(value) < 100_000]
garbage = st.sampled_from(small) | st.binary(max_size=40) | st.integers().map(lambda n: str(n).encode())
names = st.sampled_from([b"a", b"mine", b"other", b"1893456000000:a"]) | garbage
rows = (
    st.sampled_from([row.encode() for row in cursors(NOW_MS)])
    | st.sampled_from([row.encode() for row in members(NOW_MS)])
    | st.sampled_from([row.encode("utf-8", "replace") for _, row in intents(NOW_MS)])
    | st.just(encode_row(ROW).encode())
    | garbage
)
scores = st.floats(allow_nan=False) | st.sampled_from([0.0, 1.0, float(NOW_MS), 1e14])
writes = st.one_of(
    st.tuples(st.just("pool"), st.sampled_from((*POOL_FIELDS, "schema", "config")).map(str.encode), garbage),
    st.tuples(st.sampled_from(["members", "cursor", "entries", "intents", "facets"]), names, rows),
    st.tuples(st.sampled_from(["nodes", "changes", "attempts"]), names, scores),
    st.tuples(st.just("facets"), st.just(b"count"), garbage),
    st.tuples(st.just("SET"), st.sampled_from(
        ["pool", "nodes", "members", "cursor", "entries", "changes", "intents", "attempts"]),
              st.just(b"taken")),
)  # fmt: skip


def write(anybody: Any, keys: Keys, place: str, name: Any, value: Any) -> None:
    """One write past the contract; nothing where Redis itself refuses it."""
    with suppress(redis.ResponseError):
        if place == "SET":
            anybody.set(getattr(keys, name), value)
        elif place in ("nodes", "changes", "attempts"):
            anybody.zadd(getattr(keys, place), {name: value})
        else:
            anybody.hset(keys.facets("v1") if place == "facets" else getattr(keys, place), name, value)


@pytest.fixture
def client(app: object, valkey: Server) -> Iterator[redis.Redis]:
    client = redis_client(valkey.url, {})
    yield client
    client.close()


def calls(client: redis.Redis, keys: Keys) -> Iterator[tuple[Callable[[], Any], Callable[[Any], object]]]:
    """Each function of each port, with what an answer of it must be."""
    pool, ledger, open_intents = (
        RedisPool(client, keys),
        RedisLedger(client, keys),
        RedisIntents(client, keys),
    )
    said, a_minute = RedisRows(client, keys), timedelta(seconds=60)
    change = Change("a", None, "0123abcd", NOW, NOW, definition='{"task":"t"}', drops_intents=True)

    def is_(kind: Any) -> Callable[[Any], bool]:
        return lambda answer: isinstance(answer, kind)

    def are(kind: Any) -> Callable[[Any], bool]:
        return lambda answer: all(isinstance(each, kind) for each in answer)

    yield lambda: pool.read(), is_(PoolState)
    yield lambda: ledger.read(["a", "b"]), are((Cursor, Damaged, type(None)))
    yield lambda: ledger.scan(0, 100)[1], lambda found: are((Cursor, Damaged))(row for _, row in found)
    yield lambda: said.news(0, 10), is_(News)
    yield lambda: said.read(["a", "b"]), are((Row, Damaged, type(None)))
    yield lambda: said.scan(0, 100)[1], lambda found: are((Row, Damaged))(row for _, row in found)
    yield lambda: said.change([change]), are(ChangeResult)
    yield lambda: said.put_back("x", 9, {"a": ROW}), is_(type(None))
    yield lambda: said.retire({"a": (ROW, CURSOR)}), is_(type(None))
    yield lambda: open_intents.read(10)[1], are(Intent)
    yield lambda: Facets(client, keys).read("v1"), is_((dict, type(None)))
    yield lambda: read_damaged_rows(client, keys), is_(tuple)
    yield lambda: pool.heartbeat(BEAT, known_epoch=None), is_(Pulse)
    yield lambda: ledger.claim(FENCE, [Claim("a", None, CURSOR)]).results, is_(tuple)
    yield lambda: ledger.claim(FENCE, [Claim("b", None, CURSOR, PUSH)]).results, is_(tuple)
    yield lambda: ledger.claim(FENCE, [Claim("c", None, CURSOR, intent=INTENT)]).results, is_(tuple)
    yield lambda: ledger.claim(FENCE, [Claim("a", None, CURSOR)], recovery="x").results, is_(tuple)
    yield lambda: open_intents.keep([INTENT]), are(bool)
    yield lambda: open_intents.settle([Settlement(INTENT, PUSH)]), is_(tuple)
    yield lambda: open_intents.take_over("mine", token="ab" * 6, older_than=a_minute, limit=100), are(Intent)
    yield lambda: Facets(client, keys).publish("v1", {"entry:a": "digest"}), is_(type(None))
    yield lambda: pool.drain("other", True), is_(bool)
    yield lambda: pool.leave("other"), is_(type(None))
    yield lambda: pool.adopt("another"), is_(type(None))
    yield lambda: pool.heartbeat(BEAT, known_epoch="another"), is_(Pulse)


@bounded
@given(st.lists(writes, min_size=1, max_size=12))
def test_every_port_answers_or_raises_an_error_of_the_tree(
    client: redis.Redis, bystander: Bystander, keys: Keys, written: list[tuple[str, Any, Any]]
) -> None:
    bystander.redis.flushall()
    RedisPool(client, keys).heartbeat(BEAT, known_epoch=None)
    for place, name, value in written:
        write(bystander.redis, keys, place, name, value)
    for call, is_sane in calls(client, keys):
        try:
            answer = call()
        except DispatchError:
            continue
        assert is_sane(answer), answer


@bounded
@given(
    st.text()
    | st.binary().map(lambda raw: raw.decode("utf-8", "replace"))
    | rows.map(lambda raw: raw.decode("utf-8", "replace"))
)
def test_every_text_is_decoded_or_damaged(raw: str) -> None:
    assert isinstance(decode_cursor(raw), (Cursor, Damaged))
    assert isinstance(decode_intent("1893456000000:a", raw), (Intent, Damaged))
    assert isinstance(decode_row(raw), (Row, Damaged))
    assert isinstance(decode_intent(raw, '0123456789abcdef 1 "gone"\n["d",null]'), (Intent, Damaged))
    assert isinstance(decode_member("other", "1", raw), (Member, type(None)))
    assert isinstance(decode_member("other", raw, "{}"), (Member, type(None)))


@pytest.mark.parametrize("raw", VALUES.values(), ids=list(VALUES))
def test_every_value_is_decoded_or_damaged(raw: bytes) -> None:
    text = raw.decode("utf-8", "replace")
    assert isinstance(decode_cursor(text), Damaged)
    assert isinstance(decode_intent("1:a", text), Damaged)
    assert isinstance(decode_intent("1:a", f'0123456789abcdef 1 "gone"\n["d",{text}]'), (Intent, Damaged))
    assert decode_member("other", "1", text) is None


# --- messages -----------------------------------------------------------------------------------------------

_OF_KOMBU = ("datetime", "date", "time", "decimal", "uuid", "bytes", "base64", "unheard-of", 5, None)


@pytest.mark.parametrize("raw", VALUES.values(), ids=list(VALUES))
def test_a_kept_message_that_is_none_is_no_message(raw: bytes) -> None:
    with pytest.raises(ValueError, match="holds no message"):
        RawMessage.of(Command("BASIC.PUBLISH", "/celery", raw.decode("utf-8", "replace")))


@pytest.mark.parametrize("kind", _OF_KOMBU)
@pytest.mark.parametrize("value", ['"x"', "5", "null", "{}", "[]", '{"hex": 5}', '{"int": 1e400}'])
def test_a_kept_message_of_a_false_type_is_no_message(kind: object, value: str) -> None:
    text = f'{{"__type__": "{kind}", "__value__": {value}}}'
    with pytest.raises(ValueError, match="holds no message"):
        RawMessage.of(Command("BASIC.PUBLISH", "/celery", text))


# --- wakes --------------------------------------------------------------------------------------------------


def test_no_notification_does_more_than_wake(
    valkey: Server, client: redis.Redis, bystander: Bystander, keys: Keys
) -> None:
    woken = threading.Semaphore(0)
    with ExitStack() as stack:
        own = redis_client(valkey.url, {})
        stack.callback(own.close)
        listener = RedisListener(own, keys)
        stack.callback(listener.stop)
        listener.start(lambda: (woken.release(), None)[1], lambda: None)
        assert woken.acquire(timeout=5)  # subscribed
        for value in VALUES.values():
            bystander.redis.publish(keys.wake, value)
            assert woken.acquire(timeout=5)
        assert any(thread.name == "dispatch-listener" for thread in threading.enumerate())


def test_a_listener_that_is_thrown_out_comes_back(
    valkey: Server, client: redis.Redis, bystander: Bystander, keys: Keys
) -> None:
    woken: list[None] = []
    with ExitStack() as stack:
        own = redis_client(valkey.url, {})
        stack.callback(own.close)
        listener = RedisListener(own, keys)
        stack.callback(listener.stop)
        listener.start(lambda: woken.append(None), lambda: None)
        wait_until(lambda: woken)
        bystander.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        wait_until(lambda: len(woken) > 1)
