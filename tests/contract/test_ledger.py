"""The ``Ledger`` contract, in memory and on real servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Claim, ClaimStatus, Command, Damaged, Intent, Settlement
from celery_dispatch.errors import FencedError, StoreRefused, StoreUnavailable
from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.codec import decode_cursor, encode_cursor
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from tests.contract.conftest import MemoryWorld, RedisWorld, World
from tests.servers import Server, running

SECOND = timedelta(seconds=1)
MS = timedelta(milliseconds=1)
WON, LOST, EARLY, FAILED = ClaimStatus.WON, ClaimStatus.LOST, ClaimStatus.EARLY, ClaimStatus.FAILED


@pytest.fixture
def fence(world: World) -> Fence:
    """The config in force in ``world``, for long enough to have dues."""
    return in_force(world)


def in_force(world: World) -> Fence:
    fence = Fence("v1", ms_of(world.now()) - SECOND)
    world.put_fence(fence)
    return fence


def anchor(fence: Fence, node: str = "a") -> Cursor:
    return Cursor.anchor("d", fence.since, node)


def after(cursor: Cursor, fence: Fence, *, node: str = "a", by: timedelta = MS, fired: int = 1) -> Cursor:
    return cursor.advance(
        cursor.due + by, definition="d", fence=fence, node=node, fired=fired, skipped=1 - fired
    )


TOKEN = "0123456789abcdef"


def ms_of(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def intent(name: str, wanted: Cursor, *, token: str = TOKEN, **changes: Any) -> Intent:
    """The intent of the occurrence that ``wanted`` fires."""
    plain = Intent(name, wanted.due, "d", wanted.node, token, since=wanted.due)
    return replace(plain, **changes)


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


def test_an_occurrence_that_is_due_and_not_to_be_fired_yet_is_early(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "fired", "skipped", "now")
    wanted = after(start, fence)
    later = wanted.due + timedelta(hours=1)
    claims = [
        Claim("fired", start, wanted, push(), not_before=later),
        Claim("skipped", start, wanted, not_before=later),
        Claim("now", start, wanted, push(), not_before=wanted.due),
    ]

    assert statuses(world, fence, claims) == [EARLY, EARLY, WON]
    assert world.queue("celery") == ["m"]


def test_what_is_fired_after_a_switch_belongs_to_the_new_config_whatever_its_due(
    world: World, fence: Fence
) -> None:
    start = anchored(world, fence, "e")
    new = switched(world, fence, timedelta(0))
    wanted = after(start, fence)
    assert wanted.due < new.since

    with pytest.raises(FencedError, match="Under"):
        world.ledger.claim(fence, [Claim("e", start, wanted, push(), not_before=new.since)])
    assert statuses(world, fence, [Claim("e", start, wanted, push(), not_before=wanted.due)]) == [WON]
    assert world.queue("celery") == ["m"]


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


def test_fanout_messages_are_published_with_the_claim(real: RedisWorld) -> None:
    fence = in_force(real)
    start = anchored(real, fence, "report")
    with real.client.pubsub() as subscriber:
        subscriber.subscribe("/0.everyone")
        assert subscriber.get_message(timeout=2)["type"] == "subscribe"
        commands = (Command("PUBLISH", "/0.everyone", "hello"),)
        assert statuses(real, fence, [Claim("report", start, after(start, fence), commands)]) == [WON]
        assert subscriber.get_message(timeout=2)["data"] == "hello"


def test_claims_of_every_kind_share_a_batch(real: RedisWorld) -> None:
    fence = in_force(real)
    names = [f"{kind}{number}" for number in (1, 2) for kind in ("plain", "intent", "undo", "silent", "many")]
    start = anchored(real, fence, *names)
    wanted = after(start, fence)
    undone = {name: intent(name, wanted) for name in names if name.startswith("undo")}
    real.ledger.claim(fence, [Claim(name, start, wanted, intent=undone[name]) for name in undone])
    given_back = wanted.undo(start, "a")
    claims = []
    for name in names:
        kind, number = name[:-1], name[-1]
        if kind == "undo":
            claims.append(Claim(name, wanted, given_back, undoes=undone[name]))
        elif kind == "intent":
            claims.append(Claim(name, start, wanted, intent=intent(name, wanted)))
        else:
            commands = {
                "plain": push(message=name),
                "silent": (),
                "many": (
                    *push(f"q{number}", name),
                    Command("PEXPIRE", f"q{number}", "60000"),
                    Command("PUBLISH", "/0.everyone", name),
                    *push(message=name),
                ),
            }
            claims.append(Claim(name, start, wanted, commands[kind]))

    assert statuses(real, fence, claims) == [WON] * len(names)
    assert real.ledger.read(names) == [claim.wanted for claim in claims]
    assert sorted(real.queue("celery")) == ["many1", "many2", "plain1", "plain2"]
    assert [real.queue(f"q{number}") for number in (1, 2)] == [["many1"], ["many2"]]
    assert all(0 < real.client.pttl(f"q{number}") <= 60_000 for number in (1, 2))  # type: ignore[operator]
    assert {open_.name for open_ in real.intents.read(10)[1]} == {"intent1", "intent2"}


def test_a_queue_with_a_time_to_live_gets_it_with_the_push(real: RedisWorld) -> None:
    fence = in_force(real)
    start = anchored(real, fence, "report")
    commands = (*push("short"), Command("PEXPIRE", "short", "60000"))
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
        with pytest.raises(FencedError, match="The config in force is"):
            world.ledger.claim(other, [claim])

    assert world.queue("celery") == []
    assert world.ledger.read(["report"]) == [start]


def test_without_a_pool_every_claim_is_fenced(world: World) -> None:
    fence = Fence("v1", world.now().replace(microsecond=0))
    with pytest.raises(FencedError):
        world.ledger.claim(fence, [Claim("report", None, anchor(fence))])


def switched(world: World, fence: Fence, by: timedelta) -> Fence:
    """Another config comes into force ``by`` from now; dues before that are claimable for 10 s."""
    new = Fence("v2", ms_of(world.now()) + by)
    world.put_fence(new, before=fence, until=new.since + 10 * SECOND)
    return new


def test_before_a_switch_that_was_announced_both_configs_claim_what_is_due(
    world: World, fence: Fence
) -> None:
    start = anchored(world, fence, "old", "new")
    new = switched(world, fence, timedelta(seconds=5))

    assert statuses(world, fence, [Claim("old", start, after(start, fence), push())]) == [WON]
    assert statuses(world, new, [Claim("new", start, after(start, fence), push())]) == [WON]
    late = start.advance(new.since, definition="d", fence=new, node="a", fired=1, skipped=0)
    assert statuses(world, new, [Claim("other", None, anchor(new))]) == [WON]
    assert statuses(world, new, [Claim("new", after(start, fence), late, push())]) == [EARLY]
    assert world.queue("celery") == ["m", "m"]


def test_after_a_switch_the_old_config_claims_what_was_due_before_and_nothing_else(
    world: World, fence: Fence
) -> None:
    start = anchored(world, fence, "report", "other")
    new = switched(world, fence, timedelta(milliseconds=-500))
    at_switch = after(start, fence, by=new.since - start.due)
    for refused in (
        Claim("report", start, at_switch, push()),
        Claim("report", start, after(start, fence, by=new.since - start.due, fired=0)),
        Claim("report", start, at_switch, intent=intent("report", at_switch)),
        Claim("third", None, anchor(fence)),
        Claim("report", start, start.bury(new, "a")),
        Claim("report", start, None),
    ):
        with pytest.raises(FencedError, match="only what was due before"):
            world.ledger.claim(fence, [Claim("other", start, after(start, fence), push()), refused])

    assert world.ledger.read(["report", "other", "third"]) == [start, start, None]
    assert world.queue("celery") == []
    assert world.intents.read(10) == (0, [])
    just_before = after(start, fence, by=new.since - MS - start.due)
    skipped = after(start, fence, fired=0)
    claims = [Claim("report", start, just_before, push()), Claim("other", start, skipped)]
    assert statuses(world, fence, claims) == [WON, WON]


def test_a_lease_after_a_switch_the_old_config_claims_nothing(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "report")
    new = Fence("v2", fence.since + 500 * MS)
    world.put_fence(new, before=fence, until=ms_of(world.now()))
    claim = Claim("report", start, after(start, fence), push())
    with pytest.raises(FencedError, match="v2"):
        world.ledger.claim(fence, [claim])

    assert world.queue("celery") == []
    assert statuses(world, new, [claim]) == [WON]


# --- recovery -----------------------------------------------------------------------------------------------


def test_during_a_recovery_nothing_can_be_claimed(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "report")
    world.put_fence(fence, recovery="r1")
    for claims in ([Claim("report", start, after(start, fence), push())], [Claim("new", None, start)], []):
        with pytest.raises(FencedError, match="recovery r1"):
            world.ledger.claim(fence, claims)
    with pytest.raises(FencedError, match="recovery r1"):
        world.ledger.claim(fence, [Claim("report", start, after(start, fence))], recovery="r0")

    assert world.ledger.read(["report", "new"]) == [start, None]


def test_during_a_recovery_any_cursor_is_put_back_whatever_the_fence(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "behind")
    known = after(start, fence, by=timedelta(hours=1))
    world.put_fence(fence, recovery="r1")
    other = Fence("v0", fence.since - SECOND)
    claims = [Claim("behind", start, known), Claim("gone", None, known)]
    for _ in range(2):
        reply = world.ledger.claim(other, claims, recovery="r1")
        assert [result.status for result in reply.results] == [WON, WON]

    assert world.ledger.read(["behind", "gone"]) == [known, known]
    (lost,) = world.ledger.claim(other, [Claim("gone", None, start)], recovery="r1").results
    assert (lost.status, lost.stored) == (LOST, known)


def test_a_recovery_puts_cursors_back_and_sends_nothing(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "report")
    world.put_fence(fence, recovery="r1")
    wanted = after(start, fence)
    for claim in (
        Claim("report", start, wanted, push()),
        Claim("report", start, wanted, intent=intent("report", wanted)),
        Claim("report", wanted, wanted.undo(start, "a"), undoes=intent("report", wanted)),
    ):
        with pytest.raises(ValueError, match="only puts cursors back"):
            world.ledger.claim(fence, [claim], recovery="r1")


def test_after_a_recovery_no_cursor_is_put_back(world: World, fence: Fence) -> None:
    with pytest.raises(FencedError, match="r1 is over"):
        world.ledger.claim(fence, [Claim("report", None, anchor(fence))], recovery="r1")

    assert world.ledger.read(["report"]) == [None]


def test_on_another_server_than_the_pools_nothing_can_be_claimed(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "report")
    claim = Claim("report", start, after(start, fence))
    for recovery in ("", "r1"):
        world.put_fence(fence, recovery=recovery)
        world.restart()
        with pytest.raises(FencedError, match="not the server"):
            world.ledger.claim(fence, [claim], recovery=recovery)
    assert world.ledger.read(["report"]) == [start]

    world.flush()
    with pytest.raises(FencedError, match="no pool"):
        world.ledger.claim(fence, [claim])
    assert world.ledger.read(["report"]) == [None]


def test_where_the_server_may_not_be_asked_its_name_it_is_not_checked(
    real: RedisWorld, started: Fence, limited: Callable[..., RedisWorld]
) -> None:
    user = limited("-info")
    real.restart()
    assert statuses(user, started, [Claim("report", None, anchor(started))]) == [WON]
    with pytest.raises(FencedError):
        real.ledger.claim(started, [Claim("other", None, anchor(started))])


# --- intents ------------------------------------------------------------------------------------------------


def test_an_intent_is_written_with_its_claim_and_no_message_is_sent(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "é: report")
    wanted = after(start, fence)
    open_ = intent("é: report", wanted, commands=push(message="é"))
    claim = Claim("é: report", start, wanted, intent=open_)
    assert statuses(world, fence, [claim]) == [WON]

    assert world.ledger.read(["é: report"]) == [wanted]
    assert world.intents.read(10) == (1, [open_])
    assert world.queue("celery") == []


def test_a_repeated_claim_with_an_intent_answers_won_and_writes_nothing(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "report")
    wanted = after(start, fence)
    claim = Claim("report", start, wanted, intent=intent("report", wanted))
    assert statuses(world, fence, [claim]) == [WON]
    (settled,) = world.intents.settle([Settlement(intent("report", wanted))])
    assert settled.status is WON
    assert statuses(world, fence, [claim]) == [WON]

    assert world.intents.read(10) == (0, [])


def test_a_claim_with_an_intent_that_is_lost_or_early_writes_none(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "lost", "early")
    wanted, late = after(start, fence), after(start, fence, by=timedelta(hours=1))
    world.put_cursor("lost", after(start, fence, node="b"))
    claims = [
        Claim("lost", start, wanted, intent=intent("lost", wanted)),
        Claim("early", start, late, intent=intent("early", late)),
        Claim("new", None, late, intent=intent("new", late)),
    ]

    assert statuses(world, fence, claims) == [LOST, EARLY, EARLY]
    assert world.intents.read(10) == (0, [])


def test_an_occurrence_that_cannot_be_sent_is_given_back_once(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "report")
    wanted = after(start, fence)
    open_ = intent("report", wanted)
    world.ledger.claim(fence, [Claim("report", start, wanted, intent=open_)])
    world.intents.keep([replace(open_, commands=push())])
    undo = Claim("report", wanted, wanted.undo(start, "a"), undoes=open_)

    assert statuses(world, fence, [undo]) == statuses(world, fence, [undo]) == [WON]
    assert world.ledger.read(["report"]) == [undo.wanted]
    assert world.intents.read(10) == (0, [])


def test_an_intent_that_is_undone_leaves_no_attempt_behind(real: RedisWorld, started: Fence) -> None:
    start = anchored(real, started, "report")
    wanted = after(start, started)
    open_ = intent("report", wanted)
    real.ledger.claim(started, [Claim("report", start, wanted, intent=open_)])
    real.ledger.claim(started, [Claim("report", wanted, wanted.undo(start, "a"), undoes=open_)])

    assert not real.client.exists(real.keys.intents, real.keys.attempts)


def test_what_another_node_took_over_or_settled_is_not_given_back(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "taken", "settled")
    wanted = after(start, fence)
    mine = {name: intent(name, wanted) for name in ("taken", "settled")}
    world.ledger.claim(fence, [Claim(name, start, wanted, intent=mine[name]) for name in mine])
    world.intents.settle([Settlement(mine["settled"])])
    (theirs,) = world.intents.take_over("b", token=TOKEN[:12], older_than=SECOND, limit=10)
    undo = wanted.undo(start, "a")
    reply = world.ledger.claim(fence, [Claim(name, wanted, undo, undoes=mine[name]) for name in mine])

    assert [(result.status, result.stored) for result in reply.results] == [(LOST, wanted)] * 2
    assert world.ledger.read(["taken", "settled"]) == [wanted, wanted]
    assert world.intents.read(10) == (1, [theirs])


def test_the_old_config_may_still_give_back_what_it_claimed(world: World, fence: Fence) -> None:
    start = anchored(world, fence, "report")
    wanted = after(start, fence)
    open_ = intent("report", wanted)
    world.ledger.claim(fence, [Claim("report", start, wanted, intent=open_)])
    switched(world, fence, timedelta(milliseconds=-500))

    assert statuses(world, fence, [Claim("report", wanted, wanted.undo(start, "a"), undoes=open_)]) == [WON]


def test_a_claim_is_of_one_kind(world: World, fence: Fence) -> None:
    wanted = after(anchor(fence), fence)
    open_ = intent("report", wanted)
    for claim in (
        Claim("report", anchor(fence), wanted, push(), intent=open_),
        Claim("report", anchor(fence), wanted, push(), undoes=open_),
        Claim("report", anchor(fence), wanted, intent=open_, undoes=open_),
    ):
        with pytest.raises(ValueError, match="two kinds"):
            world.ledger.claim(fence, [claim])


def test_an_intent_without_a_proper_token_is_none(world: World, fence: Fence) -> None:
    wanted = after(anchor(fence), fence)
    for token in ("", "x" * 16, TOKEN.upper(), TOKEN + "0"):
        claim = Claim("report", anchor(fence), wanted, intent=intent("report", wanted, token=token))
        with pytest.raises(ValueError, match="token"):
            world.ledger.claim(fence, [claim])


# --- rights (real servers) ----------------------------------------------------------------------------------


@pytest.fixture
def started(real: RedisWorld) -> Fence:
    """The config in force in ``real``."""
    return in_force(real)


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
    real: RedisWorld, started: Fence, limited: Callable[..., RedisWorld]
) -> None:
    start = anchored(real, started, "report")
    user = limited("~good", own="~elsewhere:*")
    claim = Claim("report", start, after(start, started), push("good"))
    for refused in (
        lambda: user.ledger.claim(started, [claim]),
        lambda: user.ledger.claim(started, [Claim("new", None, start)]),
        lambda: user.ledger.read(["report"]),
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


@pytest.mark.parametrize("right", ["-zadd", "-hset"])
def test_a_user_without_the_right_to_write_intents_moves_no_cursor(
    real: RedisWorld, started: Fence, limited: Callable[..., RedisWorld], right: str
) -> None:
    start = anchored(real, started, "report")
    wanted = after(start, started)
    claim = Claim("report", start, wanted, intent=intent("report", wanted))
    with pytest.raises(StoreRefused):
        limited(right).ledger.claim(started, [claim])

    assert real.ledger.read(["report"]) == [start]
    assert real.intents.read(10) == (0, [])


@pytest.mark.parametrize("key", ["pool", "cursor", "intents", "attempts"])
def test_keys_that_hold_something_else_are_refused_with_the_cure(
    real: RedisWorld, started: Fence, key: str
) -> None:
    start = anchored(real, started, "plain", "two steps")
    wanted = after(start, started)
    spoilt = getattr(real.keys, key)
    real.client.delete(spoilt)
    real.client.set(spoilt, "not ours")
    claims = [
        Claim("plain", start, wanted, push()),
        Claim("two steps", start, wanted, intent=intent("two steps", wanted)),
    ]
    for batch in (claims, claims[:1] if key in ("pool", "cursor") else claims[1:]):
        with pytest.raises(StoreRefused, match=r"WRONGTYPE.*dispatch_key_prefix"):
            real.ledger.claim(started, batch)

    if key in ("intents", "attempts"):
        assert real.ledger.read(["two steps"]) == [start]
    real.queues.add("celery")
    real.client.delete(spoilt)


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


def test_messages_that_may_not_be_pushed_leave_their_cursors(
    real: RedisWorld, limited: Callable[..., RedisWorld], started: Fence
) -> None:
    names = [f"e{number}" for number in range(2_500)]
    start = anchored(real, started, *names, "silent")
    wanted = after(start, started)
    claims = [Claim(name, start, wanted, push(f"q{number % 2}", name)) for number, name in enumerate(names)]
    user = limited("~q0", "~q1", "-lpush")
    *failed, won = user.ledger.claim(started, [*claims, Claim("silent", start, wanted)]).results

    assert {(result.status, result.stored) for result in failed} == {(FAILED, start)}
    assert ["q0" in result.detail for result in failed[:2]] == [True, False]
    assert (won.status, won.stored) == (WON, wanted)
    assert real.ledger.read([*names, "silent"]) == [start] * len(names) + [wanted]
    assert statuses(real, started, claims) == [WON] * len(names)
    assert real.queue("q0") == names[::2] and real.queue("q1") == names[1::2]


def test_a_partial_push_in_memory_is_told_like_on_redis() -> None:
    world = MemoryWorld()
    fence = in_force(world)
    start = anchored(world, fence, "report")
    world.refuse("everyone")
    commands = (*push(), Command("PUBLISH", "everyone", "m"))
    (result,) = world.ledger.claim(fence, [Claim("report", start, after(start, fence), commands)]).results

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


def test_a_server_that_restarted_knows_the_script_again(keys: Keys) -> None:
    with running("valkey", appendonly=True) as server:
        client = redis_client(server.url, {})
        ledger = RedisLedger(client, keys)
        fence = in_force(RedisWorld(client, keys, set()))
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
        with pytest.raises(FencedError, match="not the server"):
            ledger.claim(fence, [claim])
        RedisWorld(client, keys, set()).put_fence(fence)
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


def test_a_claim_whose_reply_was_lost_was_carried_out_once() -> None:
    world = MemoryWorld()
    fence = in_force(world)
    start = anchored(world, fence, "report")
    claim = Claim("report", start, after(start, fence), push())
    world.store.lose_next_reply()
    with pytest.raises(StoreUnavailable):
        world.ledger.claim(fence, [claim])

    assert statuses(world, fence, [claim]) == [WON]
    assert world.queue("celery") == ["m"]


def test_a_claim_with_an_intent_whose_reply_was_lost_may_be_repeated() -> None:
    world = MemoryWorld()
    fence = in_force(world)
    start = anchored(world, fence, "report")
    wanted = after(start, fence)
    open_ = intent("report", wanted)
    claim = Claim("report", start, wanted, intent=open_)
    undo = Claim("report", wanted, wanted.undo(start, "a"), undoes=open_)
    for attempt, left in ((claim, [open_]), (undo, [])):
        world.store.lose_next_reply()
        with pytest.raises(StoreUnavailable):
            world.ledger.claim(fence, [attempt])
        assert statuses(world, fence, [attempt]) == [WON]
        assert world.intents.read(10) == (len(left), left)


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


@pytest.mark.parametrize("raw", ["[garbage", "", " ", "\ufffd"])
def test_a_damaged_row_can_be_replaced_by_who_has_read_it(fence: Fence, world: World, raw: str) -> None:
    world.put_cursor("report", raw)
    (row,) = world.ledger.read(["report"])
    wanted = anchor(fence)

    (stale,) = world.ledger.claim(fence, [Claim("report", Damaged("[other", "?"), wanted)]).results
    assert (stale.status, stale.stored) == (LOST, row)
    assert statuses(world, fence, [Claim("report", row, wanted)]) == [WON]
    assert world.ledger.read(["report"]) == [wanted]


def test_bytes_that_are_no_text_are_damaged(real: RedisWorld) -> None:
    real.client.hset(real.keys.cursor, "report", SOUND.replace('"a"', '"').encode() + b'\xff"]')

    assert isinstance(real.ledger.read(["report"])[0], Damaged)


def test_bytes_that_are_no_text_can_be_replaced_by_who_has_read_them(fence: Fence, real: RedisWorld) -> None:
    real.put_fence(fence)
    real.client.hset(real.keys.cursor, "report", b'["\xff", null]')
    (row,) = real.ledger.read(["report"])
    real.client.hset(real.keys.cursor, "report", b'["\xfe", null]')
    assert statuses(real, fence, [Claim("report", row, anchor(fence))]) == [LOST]

    (row,) = real.ledger.read(["report"])
    assert statuses(real, fence, [Claim("report", row, anchor(fence))]) == [WON]
    assert real.ledger.read(["report"]) == [anchor(fence)]


instants = st.integers(0, 221_845_392_000_000).map(
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
