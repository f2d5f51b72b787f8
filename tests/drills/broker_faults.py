"""What happens to a broker that is not the dispatch Redis."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.drills.stage import Stage
from tests.rabbitmq import RabbitMQ

__all__ = ["broker_blocked", "broker_down", "broker_killed", "two_steps"]


def two_steps(strike: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """A fault that also strikes what was claimed and not yet sent: that is taken over after a lease."""

    def struck(stage: Stage) -> None:
        strike(stage)
        stage.bound = max(stage.bound, 1000 * (stage.lease + 2))

    return struck


def _broker(stage: Stage) -> RabbitMQ:
    assert stage.ground.broker is not None
    return stage.ground.broker


def broker_down(stage: Stage) -> None:
    broker = _broker(stage)
    stage.at_a_due()
    began = time.monotonic()
    broker.stop()
    stage.note("RabbitMQ is stopped (SIGTERM)")
    stage.run_on(stage.lease)
    broker.start()
    _back(stage, began)


def broker_blocked(stage: Stage) -> None:
    broker = _broker(stage)
    began = time.monotonic()
    broker.block()
    stage.note("RabbitMQ has raised its memory alarm")
    stage.run_on(stage.lease)
    broker.unblock()
    _back(stage, began)


def broker_killed(stage: Stage) -> None:
    """Killed and started again twice, each a little further into the moment of firing."""
    broker = _broker(stage)
    for offset in (4, 12):
        stage.at_a_due(offset)
        began = time.monotonic()
        broker.kill()
        stage.note(f"RabbitMQ is killed (SIGKILL) {offset} ms after a due")
        broker.start()
        _back(stage, began)


def _back(stage: Stage, began: float) -> None:
    outage = time.monotonic() - began
    stage.bound = max(stage.bound, 1000 * (outage + 2))
    stage.note(f"RabbitMQ is back after {outage:.2f} s")
    stage.run_on(0.6 * stage.lease)
