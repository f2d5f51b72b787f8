"""What happens around beats: the network between one of them and Redis, and Redis itself.

Each function harms a running stage, in the very moment of firing where that is the nastiest, and returns when
the consequences are over.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.drills.node_faults import flickering, handover
from tests.drills.process import wait_until
from tests.drills.stage import Stage

_PATIENCE = 2.5  # seconds; a client's is over after 2


def cut_deaf(stage: Stage) -> None:
    _cut(stage, "deaf", 1.2 * stage.lease)


def cut_held(stage: Stage) -> None:
    _cut(stage, "held", 0.8 * stage.lease)


def cut_refused(stage: Stage) -> None:
    _cut(stage, "refused", 0.8 * stage.lease)


def slow_link(stage: Stage) -> None:
    """Each byte between one node and Redis takes 300 ms, both ways."""
    handover(stage)
    cable = stage.cluster.beats["node-2"].cable
    cable.delay(0.3)
    stage.note("node-2 is 300 ms away from Redis")
    stage.run_on(1.2 * stage.lease)
    cable.heal()
    stage.note("node-2 is near again")
    stage.run_on(0.4 * stage.lease)


def redis_far(stage: Stage) -> None:
    """Redis answers every node late."""
    handover(stage)
    cables = [beat.cable for beat in stage.cluster.beats.values()]
    for cable in cables:
        cable.delay(0.1)
    stage.note("Redis is 100 ms away from every node")
    stage.run_on(1.2 * stage.lease)
    for cable in cables:
        cable.heal()
    stage.note("Redis is near again")
    stage.run_on(0.4 * stage.lease)


def redis_slow(stage: Stage) -> None:
    """Redis has the processor for a fifth of the time."""
    handover(stage)
    server = stage.ground.server
    stage.note("Redis is stopped for 80 ms in every 100")
    flickering(server.pause, server.resume, seconds=1.2 * stage.lease)
    stage.note("Redis goes on as ever")
    stage.run_on(0.4 * stage.lease)


def _cut(stage: Stage, how: str, seconds: float) -> None:
    handover(stage)
    cable = stage.cluster.beats["node-2"].cable
    before = set(stage.cluster.nodes())
    stage.at_a_due()
    {"deaf": cable.go_deaf, "held": cable.hold, "refused": cable.refuse}[how]()
    stage.note(f"node-2 cut from Redis ({how})")
    stage.run_on(seconds)
    cable.heal()
    stage.note("healed")
    stage.cluster.wait_for_renewals(stage.nodes)
    stage.cluster.wait_for_nodes(stage.nodes)
    stage.note("all nodes have renewed")
    if (after := set(stage.cluster.nodes())) != before:
        stage.complaints.append(f"nodes came back under other ids: {sorted(before)}, then {sorted(after)}")
    stage.run_on(0.5 * stage.lease)


def lost_replies(stage: Stage, *, silently: bool = False) -> None:
    """The answer to two claims of each node never arrives, though they were carried out."""
    handover(stage)
    for number in range(1, stage.nodes + 1):
        cable = stage.cluster.beats[f"node-{number}"].cable
        for wanted in (cable.dropped + 1, cable.dropped + 2):
            cable.drop_reply(after=b"drill.record", silently=silently)  # only a claim carries messages
            wait_until(lambda: cable.dropped == wanted, 10, why=lambda: "a claim went by")  # noqa: B023
            stage.note(f"a reply to node-{number} was dropped")
        if silently:
            stage.run_on(_PATIENCE)
    stage.run_on(3)


def late_replies(stage: Stage) -> None:
    """The same, but the connections stay open: who asked waits until its patience is over."""
    lost_replies(stage, silently=True)


def redis_down(stage: Stage) -> None:
    stage.at_a_due()
    began = time.monotonic()
    stage.ground.server.stop()
    stage.note("Redis is stopped (SIGTERM)")
    stage.run_on(stage.lease)
    _back(stage, began, stage.ground.server.start)


def redis_killed(stage: Stage, *, on_kill: Callable[[int], None] = lambda at: None) -> None:
    """Killed and started again five times, each a little further into the moment of firing.

    ``on_kill`` is told when, in ms.
    """
    for offset in (0, 2, 4, 6, 10):
        stage.at_a_due(offset)
        began, at = time.monotonic(), time.time_ns() // 1_000_000
        stage.ground.server.kill()
        on_kill(at)
        stage.note(f"Redis is killed (SIGKILL) {offset} ms after a due")
        _back(stage, began, stage.ground.server.start)


def redis_paused(stage: Stage) -> None:
    """Clients time out, and what they had asked for is carried out afterwards."""
    stage.at_a_due(-20)
    began = time.monotonic()
    stage.ground.server.pause()
    stage.note("Redis stands still (SIGSTOP)")
    stage.run_on(stage.lease)
    _back(stage, began, stage.ground.server.resume)


def _back(stage: Stage, began: float, bring_back: Callable[[], None]) -> None:
    bring_back()
    stage.wait_for_server()
    outage = time.monotonic() - began
    stage.bound = max(stage.bound, 1000 * (outage + 2))
    stage.note(f"Redis is back after {outage:.2f} s")
    stage.cluster.wait_for_renewals(stage.nodes)
    stage.note("all nodes have renewed")
    stage.run_on(0.4 * stage.lease)
