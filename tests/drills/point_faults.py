"""A beat comes to harm at a stated point in the life of a message; see ``points``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.drills.node_faults import ended, handover
from tests.drills.points import ARMED, DONE, REACHED, Point
from tests.drills.process import wait_until
from tests.drills.stage import Stage

__all__ = ["HARMS", "at_point", "points_of"]

HARMS = {"kill": "SIGKILL", "term": "SIGTERM", "pause": "SIGSTOP past the lease", "cut": "cut from Redis"}
_PORTS = {
    "one": ("ledger.claim",),
    "code": ("ledger.claim", "outbox.render", "intents.settle"),
    "amqp": ("ledger.claim", "outbox.publish", "intents.settle"),
    "amqp-code": ("intents.keep",),
}
_VICTIM = "node-2"
_REACHED = 20.0  # seconds


def points_of(kind: str) -> Iterator[tuple[str, str, str]]:
    """Port, moment and harm of each point on a message's way: one write, with user code, or on AMQP."""
    for port in _PORTS[kind]:
        for when in ("before", "after"):
            for harm in HARMS:
                yield port, when, harm


def at_point(kind: str, port: str, when: str, harm: str) -> Callable[[Stage], None]:
    """The fault that befalls a beat at its third message from now on."""
    point = Point(port, when, 3, harm)

    def strike(stage: Stage) -> None:
        handover(stage)
        if kind != "one" and harm != "term":
            stage.bound = 1000 * (stage.lease + 2)
        file = stage.directory / "point"
        _start_victim(stage, point, file)
        file.write_text(ARMED)
        wait_until(
            lambda: file.read_text() == REACHED,
            _REACHED,
            why=lambda: f"{_VICTIM} at {point}\n{stage.cluster.beats[_VICTIM].process.log}",
        )
        stage.note(f"{_VICTIM} has reached {point}")
        {"kill": _killed, "term": _terminated, "pause": _paused, "cut": _cut}[harm](stage, file)

    return strike


def _start_victim(stage: Stage, point: Point, file: Path) -> None:
    """Start node-2 anew, prepared for its end."""
    stage.cluster.beats[_VICTIM].process.terminate()
    stage.cluster.beats[_VICTIM].process.wait(15)
    env = {"DRILL_POINT": str(point), "DRILL_POINT_FILE": str(file)}
    stage.cluster.beat(_VICTIM, proxied=point.harm == "cut", env=env)
    stage.cluster.wait_for_nodes(stage.nodes)
    stage.settled()
    stage.run_on(0.2 * stage.lease)


def _killed(stage: Stage, _: Path) -> None:
    process = stage.cluster.beats[_VICTIM].process
    process.ended_by_us = True
    process.wait(5)
    stage.cluster.wait_for_nodes(stage.nodes - 1)
    stage.note(f"{_VICTIM} trimmed")
    stage.run_on(0.4 * stage.lease)


def _terminated(stage: Stage, _: Path) -> None:
    """It ends in order: what it has begun to send is sent once."""
    process = stage.cluster.beats[_VICTIM].process
    process.ended_by_us = True
    stage.may_repeat = False
    ended(stage, process)
    stage.cluster.wait_for_nodes(stage.nodes - 1)
    stage.note(f"{_VICTIM} ended")
    stage.run_on(0.4 * stage.lease)


def _paused(stage: Stage, _: Path) -> None:
    stage.run_on(stage.lease + 2)
    stage.cluster.beats[_VICTIM].process.resume()
    stage.note(f"SIGCONT to {_VICTIM}")
    _renewed(stage)


def _cut(stage: Stage, file: Path) -> None:
    cable = stage.cluster.beats[_VICTIM].cable
    cable.refuse()
    file.write_text(DONE)
    stage.note(f"{_VICTIM} is cut from Redis")
    stage.run_on(0.8 * stage.lease)
    cable.heal()
    stage.note("healed")
    _renewed(stage)


def _renewed(stage: Stage) -> None:
    stage.cluster.wait_for_renewals(stage.nodes)
    stage.note("all nodes have renewed")
    stage.run_on(0.6 * stage.lease)
