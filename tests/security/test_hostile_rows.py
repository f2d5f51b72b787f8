"""A node and the commands beside it, among rows that no node would have written.

Judged by the messages on the queues: only entries of the catalog are fired, and the sound ones go on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from celery import Celery

from celery_dispatch.core.report import Skip
from celery_dispatch.redis_store.keys import Keys
from tests.security.hostile import (
    ESCAPES,
    FAR,
    VALUES,
    WHOLE_KEYS,
    WITNESS,
    cursors,
    fill_pool,
    fill_rows,
    intents,
    members,
    put_intent,
    put_member,
    take_key,
)
from tests.security.world import NAMES, Bystander, LoneNode, told

Start = Callable[[], LoneNode]

COMMANDS = (
    *(["status"], ["doctor"], ["nodes"], ["entries"], ["show", "good-1"]),
    *(["status", "--json"], ["doctor", "--json"], ["entries", "--json"], ["show", "good-1", "--json"]),
)
_ENOUGH = 5.0  # seconds; a good one fires after a tenth of one


def now_ms() -> int:
    return int(time.time() * 1000)


def fires_on(node: LoneNode, bystander: Bystander, *names: str) -> bool:
    """Whether each of ``names`` is fired twice from now on."""
    bystander.redis.delete("celery")
    node.wake()
    return node.run(_ENOUGH, lambda: bystander.fired_by(names or NAMES) >= 2)


def fires_or_reports(node: LoneNode, bystander: Bystander, name: str) -> bool:
    return node.run(_ENOUGH, lambda: name in node.says or bystander.fired_by((name,)) >= 2)


def assert_harmless(bystander: Bystander) -> None:
    """Nothing but what the catalog has was fired, and nobody believed a pickle."""
    assert {*bystander.fired()} <= {(name, f"tasks.{name}") for name in NAMES}
    assert not os.path.exists(WITNESS)


def assert_commands_answer(app: Celery) -> str:
    """What the doctor says, once no command fails or prints what a terminal obeys."""
    for command in COMMANDS:
        result = told(app, *command)
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            command,
            result.exc_info,
        )
        raw = {char for char in result.output if not char.isprintable()} - {"\n"}
        assert not raw, f"{command} prints {raw}"
        assert "\nforged" not in result.output
    return " ".join(told(app, "doctor").output.split())


# --- any value anywhere -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES.values(), ids=list(VALUES))
def test_a_value_in_every_row_stops_no_sound_entry(
    start: Start, app: Celery, bystander: Bystander, keys: Keys, value: bytes
) -> None:
    node = start()
    fill_rows(bystander.redis, keys, value)
    says = assert_commands_answer(app)
    assert "unheard-of" in says and "damaged in Redis" in says
    assert f"{keys.members} other: is no member" in says
    assert f"{keys.intents} 1:good-1" in says

    assert fires_on(node, bystander, "good-2", "good-3"), node.says
    assert fires_or_reports(node, bystander, "good-1")
    assert_harmless(bystander)
    assert bystander.redis.hkeys(keys.members) == [b"mine"]
    assert bystander.redis.hlen(keys.intents) == 0


@pytest.mark.parametrize("value", VALUES.values(), ids=list(VALUES))
def test_a_value_in_every_field_of_the_pool_is_mended_or_told(
    start: Start, app: Celery, bystander: Bystander, keys: Keys, value: bytes
) -> None:
    node = start()
    fill_pool(bystander.redis, keys, value)
    says = assert_commands_answer(app)

    assert fires_on(node, bystander) or f"{keys.pool} since" in says, node.says
    assert_harmless(bystander)


@pytest.mark.parametrize("value", ["bytes", "megabyte", "negative", "deep-array", "escapes", "pickle-4"])
@pytest.mark.parametrize("field", ["schema", "config"])
def test_a_pool_of_an_unknown_config_or_schema_is_told(
    start: Start, app: Celery, bystander: Bystander, keys: Keys, field: str, value: str
) -> None:
    node = start()
    bystander.redis.hset(keys.pool, field, VALUES[value])
    says = assert_commands_answer(app)
    assert ("has schema" if field == "schema" else "nothing is fired") in says
    node.run(0.1)
    assert_harmless(bystander)


@pytest.mark.parametrize("what", WHOLE_KEYS)
def test_a_key_of_another_type_is_named_with_its_cure(
    start: Start, app: Celery, bystander: Bystander, keys: Keys, what: str
) -> None:
    node = start()
    key = take_key(bystander.redis, keys, what)
    if key != keys.entries:  # which a node reads when something is changed
        assert node.run(_ENOUGH, lambda: f"{key} is no" in node.says), node.says
        assert "delete them" in node.says
    says = assert_commands_answer(app)
    assert f"{key} is no" in says and "dispatch_key_prefix" in says

    bystander.redis.delete(key)
    assert fires_on(node, bystander), node.says
    assert_harmless(bystander)


# --- what looks right ---------------------------------------------------------------------------------------


def test_no_cursor_stops_a_node(start: Start, app: Celery, bystander: Bystander, keys: Keys) -> None:
    node = start()
    for number, row in enumerate(cursors(now_ms())):
        bystander.redis.hset(keys.cursor, "good-1", row)
        if number % 40 == 0:
            assert_commands_answer(app)
        node.run(0.02)
    bystander.redis.hdel(keys.cursor, "good-1")
    assert fires_on(node, bystander, "good-2", "good-3"), node.says
    assert_harmless(bystander)


def test_a_cursor_of_the_far_future_is_told(
    start: Start, app: Celery, bystander: Bystander, keys: Keys
) -> None:
    node = start()
    bystander.redis.hset(keys.cursor, "good-1", f'[{FAR},"d",0,9,1,0,"n"]')
    assert fires_on(node, bystander, "good-2", "good-3")
    says = assert_commands_answer(app)
    assert "good-1" in says and "in the future" in says and "cursor reset" in says


def test_what_a_cursor_says_of_itself_is_shown_without_its_escapes(
    start: Start, app: Celery, bystander: Bystander, keys: Keys
) -> None:
    start()
    for row in cursors(now_ms()):
        bystander.redis.hset(keys.cursor, "good-1", row)
        assert "\x1b" not in told(app, "show", "good-1").output


def test_no_member_stops_a_node(start: Start, app: Celery, bystander: Bystander, keys: Keys) -> None:
    node = start()
    for number, row in enumerate(members(now_ms())):
        put_member(bystander.redis, keys, f"other-{number}", row)
    bystander.redis.hset(keys.pool, "epoch", "another")
    says = assert_commands_answer(app)
    assert "a lease that no node took" in says and "is no member" in says

    assert fires_on(node, bystander), node.says
    assert_harmless(bystander)


def test_no_intent_does_anything_but_send_a_message(
    start: Start, app: Celery, bystander: Bystander, keys: Keys
) -> None:
    node = start()
    for field, row in intents(now_ms()):
        put_intent(bystander.redis, keys, field.encode("utf-8", "replace"), row)
    assert_commands_answer(app)

    assert fires_on(node, bystander), node.says
    assert node.run(_ENOUGH, lambda: bystander.redis.hlen(keys.intents) == 0)
    assert bystander.redis.exists("victim") == 0
    assert_harmless(bystander)


def test_an_unrendered_intent_of_another_entry_is_dropped(
    start: Start, bystander: Bystander, keys: Keys
) -> None:
    node = start()
    put_intent(bystander.redis, keys, f"{now_ms()}:evil", '0123456789abcdef 1 "gone"\n["d",null]')

    assert node.run(_ENOUGH, lambda: bystander.redis.hlen(keys.intents) == 0)
    assert fires_on(node, bystander)
    assert_harmless(bystander)
    assert node.report.skips[Skip.LEFT] == 1


def test_an_unrendered_intent_of_another_definition_is_dropped(
    start: Start, bystander: Bystander, keys: Keys
) -> None:
    node = start()
    put_intent(bystander.redis, keys, f"{now_ms()}:good-1", '0123456789abcdef 1 "gone"\n["evil",null]')

    assert node.run(_ENOUGH, lambda: bystander.redis.hlen(keys.intents) == 0)
    assert node.report.skips[Skip.LEFT] == 1
    assert_harmless(bystander)


def test_a_name_that_a_terminal_obeys_is_shown_without_it(
    start: Start, app: Celery, bystander: Bystander, keys: Keys
) -> None:
    start()
    put_intent(bystander.redis, keys, f"1:{ESCAPES}", f'0123456789abcdef 1 "{ESCAPES!a}"\n["d",null]')
    assert_commands_answer(app)
