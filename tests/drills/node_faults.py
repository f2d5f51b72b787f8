"""What happens to beats: they come, leave, die, stand still and are slow.

Each function harms a running stage, in the very moment of firing where that is the nastiest, and returns when
the consequences are over.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from tests.drills.process import Process
from tests.drills.stage import Stage

_END = 15.0  # seconds that a beat may take to end in order; the machine may be busy


def nothing(stage: Stage) -> None:
    stage.run_on(1.5 * stage.lease)


def join(stage: Stage) -> None:
    stage.note("a fourth beat is started")
    stage.cluster.beat("node-4", proxied=stage.proxied)
    stage.cluster.wait_for_nodes(4)
    stage.note("4 nodes steady")
    stage.run_on(0.6 * stage.lease)


def terminate(stage: Stage) -> None:
    """It finishes what it is about, so that nothing is sent again, nor waits for a lease."""
    stage.may_repeat = False
    if stage.in_two_steps:
        handover(stage)
    stage.at_a_due()
    leave(stage, ["node-2"])
    stage.cluster.wait_for_nodes(2, timeout=1)
    stage.note("node-2 ended, and is no member")
    stage.run_on(stage.lease)


def churn(stage: Stage) -> None:
    """Three nodes become six, one and three again."""
    stage.may_repeat = False
    handover(stage)
    for count in range(stage.nodes + 1, 7):
        stage.cluster.beat(f"node-{count}", proxied=stage.proxied)
    stage.cluster.wait_for_nodes(6)
    stage.note("6 nodes steady")
    stage.run_on(0.4 * stage.lease)
    stage.at_a_due()
    leave(stage, [f"node-{number}" for number in (1, 2, 3, 5, 6)])
    stage.cluster.wait_for_nodes(1, timeout=2)
    stage.note("5 have left, 1 node steady")
    stage.run_on(0.4 * stage.lease)
    for number in (7, 8):
        stage.cluster.beat(f"node-{number}", proxied=stage.proxied)
    stage.cluster.wait_for_nodes(stage.nodes)
    stage.note(f"{stage.nodes} nodes steady")
    stage.run_on(0.4 * stage.lease)


def leave(stage: Stage, names: Sequence[str]) -> None:
    """SIGTERM, and the end in order."""
    victims = [stage.cluster.beats[name].process for name in names]
    for victim in victims:
        victim.terminate()
    stage.note(f"SIGTERM to {', '.join(names)}")
    for victim in victims:
        ended(stage, victim)


def ended(stage: Stage, victim: Process) -> None:
    """Wait until it has ended in order after a SIGTERM."""
    if status := victim.wait(_END):
        stage.complaints.append(f"{victim} ended with status {status} on SIGTERM:\n{victim.log[-2000:]}")


def kill(stage: Stage) -> None:
    handover(stage)
    stage.at_a_due()
    stage.cluster.beats["node-2"].process.kill()
    stage.note("SIGKILL to node-2")
    stage.cluster.wait_for_nodes(2)
    stage.note("node-2 trimmed")
    stage.run_on(0.4 * stage.lease)


def kill_two(stage: Stage) -> None:
    a_lease(stage)
    stage.at_a_due()
    for name in ("node-1", "node-2"):
        stage.cluster.beats[name].process.kill()
    stage.note("SIGKILL to node-1 and node-2 at once")
    stage.cluster.wait_for_nodes(1)
    stage.note("both trimmed")
    stage.run_on(0.4 * stage.lease)


def kill_in_turn(stage: Stage) -> None:
    """Seven kills, each a little further into the moment of firing, each with a new beat in its place.

    Those to whom an entry falls may be the next ones to be killed, so the time of the kills adds to a lease.
    """
    a_lease(stage)
    chance = random.Random(7)
    began = time.monotonic()
    for number, offset in enumerate((0, 1, 2, 3, 4, 6, 9), start=stage.nodes + 1):
        alive = [name for name, beat in stage.cluster.beats.items() if beat.process.alive]
        victim = chance.choice(alive)
        stage.at_a_due(offset)
        stage.cluster.beats[victim].process.kill()
        stage.note(f"SIGKILL to {victim} {offset} ms after a due")
        stage.cluster.beat(f"node-{number}")
        stage.cluster.wait_for_state(f"node-{number}", "steady")
    stage.bound += 1000 * (time.monotonic() - began)
    stage.cluster.wait_for_nodes(stage.nodes)
    stage.note("all dead ones trimmed")
    stage.run_on(0.4 * stage.lease)


def pause(stage: Stage) -> None:
    _pause(stage, 0.8 * stage.lease)


def pause_past_the_lease(stage: Stage) -> None:
    _pause(stage, stage.lease + stage.seconds("heartbeat_interval") + 2)


def _pause(stage: Stage, seconds: float) -> None:
    handover(stage)
    victim = stage.cluster.beats["node-2"].process
    stage.at_a_due()
    victim.pause()
    stage.note("SIGSTOP to node-2")
    stage.run_on(seconds)
    victim.resume()
    stage.note("SIGCONT to node-2")
    stage.cluster.wait_for_renewals(stage.nodes)
    stage.note("all nodes have renewed")
    stage.run_on(0.6 * stage.lease)


def flicker(stage: Stage) -> None:
    """One node has the processor for a fifth of the time."""
    handover(stage)
    victim = stage.cluster.beats["node-2"].process
    stage.note("node-2 is stopped for 80 ms in every 100")
    flickering(victim.pause, victim.resume, seconds=1.2 * stage.lease)
    stage.note("node-2 goes on as ever")
    stage.run_on(0.4 * stage.lease)


def flickering(pause: Callable[[], None], resume: Callable[[], None], *, seconds: float) -> None:
    """Let a process run for a fifth of the time only."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pause()
        time.sleep(0.08)
        resume()
        time.sleep(0.02)


def handover(stage: Stage) -> None:
    """The bound of a fault that the standbys make good."""
    stage.bound = 1000 * stage.seconds("handover_delay") + 200


def a_lease(stage: Stage) -> None:
    """The bound of a fault that owner and standby share."""
    stage.bound = 1000 * (stage.lease + stage.seconds("heartbeat_interval") + 1)
