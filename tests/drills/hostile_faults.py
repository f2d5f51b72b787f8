"""What happens when somebody else writes to the pool's own keys.

Each function harms a running stage and returns when the consequences are over.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from tests.drills.loss_faults import excuse_now, recovered, recovery
from tests.drills.oracle import Every
from tests.drills.releases import Spec, every
from tests.drills.stage import Stage

__all__ = ["ENTRIES", "hostile_rows", "wrong_types"]

_QUIET = 400  # ms after a due: nothing is on its way
#: The damaged ones are due on whole seconds whatever their cursors say, so that a reset keeps their grid.
ENTRIES = {**every(20), **{f"entry-{number:02}": Spec(Every(1, relative=True)) for number in range(3)}}
_DAMAGED = ("entry-00", "entry-01", "entry-02")
_ROWS: Mapping[str, Mapping[str, str | bytes]] = {
    "members": {
        "ghost-1": "{",
        "ghost-2": '{"host": 1}', "ghost-3": b"\xff\xfe", "": "[]", "ghost-4": "null"},
    "cursor": {
        "no-such-entry": b"\xff\xfe",
        "nor-this": "[]",
        **dict(zip(_DAMAGED, ("", "[1, 2, 3]", b'["\xff", null, -1]'))),
    },
    "intents": {
        "": "x",
        "no field": b"\xff",
        "-1:entry-03": "no row",
        "99999999999999999999:entry-04": "0123456789abcdef 1 \"ghost\"\n{",
        "1:entry-05": '0123456789abcdef 1 "ghost"\n["no definition",[["FLUSHALL"]]]',
        b"\xff:entry-06".decode("latin-1"): "0000000000000000 nan \"\"\n",
    },
    "pool": {
        "no-such-field": "x",
        "challenger": b"\xff",
        "challenger_at": "nan",
        "vote_at": "1e400",
        "no_trim_until": "-5",
        "beat_at": "soon",
        "before_config": b"\xff",
        "before_since": "[]",
        "before_until": "many",
        "identity_at": "99999999999999999999",
        "recovery_names": "[",
        "epoch": "",
    },
}  # fmt: skip
_SCORES: Mapping[str, Mapping[str, float]] = {
    "nodes": {"": 0, "ghost-1": float("inf"), "ghost-9": float("-inf"), "ghost-8": 1e300},
    "attempts": {"": 0, "no field": float("inf"), "5:entry-03": float("-inf"), "no row:x": 1e300},
}


def hostile_rows(stage: Stage) -> None:
    """Rows that are nonsense in every key, and in place of a node's own and of three cursors."""
    recovery(stage)
    stage.at_a_due(_QUIET)
    began, node = stage.now(), stage.cluster.nodes()[0]
    redis = stage.cluster.redis
    for key, rows in _ROWS.items():
        redis.hset(stage.cluster.key(key), mapping=dict(rows))
    for key, scores in _SCORES.items():
        redis.zadd(stage.cluster.key(key), dict(scores))
    redis.hset(stage.cluster.key("members"), node, "[]")
    facets = stage.cluster.key(f"facets:{stage.seen.found[-1].config}")
    redis.hset(facets, mapping={"": "x", "entries": b"\xff"})
    redis.expire(facets, 60)
    stage.note("nonsense is in every key")
    stage.run_on(stage.lease)
    _reset_damaged(stage)
    stage.excuse(began, stage.now(), names=_DAMAGED)
    stage.run_on(stage.lease)
    _gone(stage)


def _reset_damaged(stage: Stage) -> None:
    """The documented cure of a cursor that is none."""
    done = stage.cluster.run("dispatch", "cursor", "reset", *_DAMAGED)
    if done.status:
        stage.complaints.append(f"cursor reset ended with {done.status}: {done.out}{done.err}")
    stage.note("the damaged cursors are reset")


def _gone(stage: Stage) -> None:
    """Nonsense that would be read again and again must have been removed."""
    left = {
        "nodes": stage.cluster.redis.zrange(stage.cluster.key("nodes"), 0, -1),
        "members": stage.cluster.redis.hkeys(stage.cluster.key("members")),
        "intents": stage.cluster.redis.hkeys(stage.cluster.key("intents")),
        "attempts": stage.cluster.redis.zrange(stage.cluster.key("attempts"), 0, -1),
    }
    stage.complaints += [
        f"{key} should have {count} rows: {left[key]}"
        for key, count in (("nodes", stage.nodes), ("members", stage.nodes), ("intents", 0), ("attempts", 0))
        if len(left[key]) != count
    ]


def wrong_types(stage: Stage) -> None:
    """Each key in turn becomes a string, with all that it held lost, and is removed a while later."""
    hold = 2 * stage.seconds("heartbeat_interval")
    recovery(stage)
    stage.bound += 1000 * hold
    for name in ("nodes", "members", "cursor", "intents", "attempts", "pool"):
        key = stage.cluster.key(name)
        stage.at_a_due()
        began = time.monotonic()
        stage.cluster.redis.set(key, "no hash")
        stage.note(f"{name} is a string")
        if name == "intents" and stage.in_two_steps:
            excuse_now(stage, stage.now())  # what was claimed and not yet sent is lost with its intent
        stage.run_on(hold)
        stage.cluster.redis.delete(key)
        stage.note(f"{name} is removed after {time.monotonic() - began:.1f} s")
        recovered(stage)
