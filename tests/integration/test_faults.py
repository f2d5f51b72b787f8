"""Faults on a small pool with short leases; ``python -m tests.drills.table`` runs all of them at full length.

A drill mostly waits, so two are run at a time, begun in the order of the tests and judged each by its own.
What is lost, doubled or early is judged as ever; how late something may be is left to a quiet machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import pytest

from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.keys import Keys
from tests.drills.clocks import faketime
from tests.drills.faults import FAULTS, POINTS, VARIANTS
from tests.drills.ground import Ground
from tests.drills.runs import drill as run
from tests.programs import is_ci
from tests.servers import KINDS, leaked_keys

SHORT: dict[str, object] = {"dispatch_heartbeat_interval": 0.5, "dispatch_lease_ttl": 3}
HASTE = 2_000.0  # ms that a busy machine may add to a bound; with a handover less than a lease in all
CALM = 1.5  # seconds
AT_A_TIME = 2
STAYS = ("_kombu.*", "drill:*")

pytestmark = pytest.mark.timeout(300)  # a test may wait for the drills that were begun before its own

_CLOCKS = pytest.mark.skipif(faketime() is None and not is_ci(), reason="libfaketime is not installed")

#: The longest first, so that the last ones do not wait for it.
DRILLS = [
    "deploy",
    "canary",
    "pause",
    "point-code-claim-after-pause",
    "amqp-down",
    "point-amqp-publish-after-kill",
    "point-amqp-publish-after-term",
    "wrong-types",
    "redis-promoted",
    "redis-old",
    "redis-flush",
    "redis-down",
    "redis-kill",
    "churn",
    "embedded",
    "lost-reply-retried",
    "queue-spoilt",
    "unserialisable",
    "slow-link",
    "live-changes",
    "late-reply",
    "code-lock",
    pytest.param("redis-clock", marks=_CLOCKS),
    "join",
    "term",
    "kill",
    "kill-two",
    "cut",
    "lost-reply",
    "point-code-settle-before-kill",
    pytest.param("clock-step", marks=_CLOCKS),
]


def drill(name: str, directory: Path, kind: str) -> list[str]:
    """Run one drill to its end; what is wrong, with what happened when and the logs."""
    fault = {**FAULTS, **POINTS, **VARIANTS}[name]
    with fault.ground(directory, kind) as ground:
        stage = fault.stage(ground, directory, settings=SHORT, calm=CALM)
        outcome = run(stage, fault, haste=HASTE)
        problems = [*outcome.problems, *leaked(ground)]
        return [*problems, *map(str, outcome.events), stage.cluster.logs()] if problems else []


def leaked(ground: Ground) -> list[str]:
    client = redis_client(ground.url, {})
    found = leaked_keys(client, Keys("celery-dispatch"), STAYS)
    client.close()
    return [f"keys are left: {found}"] if found else []


@pytest.fixture(scope="module")
def drills(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[list[str]]]]:
    """Every drill of this session that is not skipped, by name; begun in order, each on the other server."""
    chosen = [
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and not any(mark.args[0] for mark in item.iter_markers("skipif"))
    ]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {
            name: pool.submit(drill, name, tmp_path_factory.mktemp(name), kind)
            for name, kind in zip(chosen, cycle(KINDS))
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", DRILLS)
def test_nothing_is_lost_or_doubled(name: str, drills: dict[str, Future[list[str]]]) -> None:
    assert not (problems := drills[name].result()), "\n".join(problems)
