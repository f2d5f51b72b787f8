"""Harms that last as long as a ``with`` block, so that a soak can lay several over each other.

Each is ``harm(stage, victim)``; those of a server and of the pool need no victim.  What is dead when the
block ends stays dead: ``mend`` starts it again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from tests.drills.node_faults import flickering
from tests.drills.stage import Stage

__all__ = ["DEADLY", "OF_NODES", "OF_SERVERS", "Harm", "mend"]

Harm = Callable[[Stage, str], AbstractContextManager[None]]

_SERVED = b"drill.record"  # a request that carries messages


@contextmanager
def _killed(stage: Stage, victim: str) -> Iterator[None]:
    stage.cluster.beats[victim].process.kill()
    yield


@contextmanager
def _ended(stage: Stage, victim: str) -> Iterator[None]:
    stage.cluster.beats[victim].process.terminate()
    yield


@contextmanager
def _stopped(stage: Stage, victim: str) -> Iterator[None]:
    process = stage.cluster.beats[victim].process
    process.pause()
    yield
    process.resume()


@contextmanager
def _slowed(stage: Stage, victim: str) -> Iterator[None]:
    process = stage.cluster.beats[victim].process
    with _flickering(process.pause, process.resume):
        yield


def _cut(how: str) -> Harm:
    @contextmanager
    def cut(stage: Stage, victim: str) -> Iterator[None]:
        cable = stage.cluster.beats[victim].cable
        {"deaf": cable.go_deaf, "held": cable.hold, "refused": cable.refuse}[how]()
        yield
        cable.heal()

    return cut


@contextmanager
def _far(stage: Stage, victim: str) -> Iterator[None]:
    cable = stage.cluster.beats[victim].cable
    cable.delay(0.3)
    yield
    cable.heal()


def _reply_lost(*, silently: bool) -> Harm:
    @contextmanager
    def lost(stage: Stage, victim: str) -> Iterator[None]:
        stage.cluster.beats[victim].cable.drop_reply(after=_SERVED, silently=silently)
        yield

    return lost


@contextmanager
def _joined(stage: Stage, victim: str) -> Iterator[None]:
    guest = stage.cluster.beat("guest", proxied=True).process
    yield
    guest.terminate()
    guest.wait(30)


@contextmanager
def _redis_killed(stage: Stage, victim: str) -> Iterator[None]:
    stage.ground.server.kill()
    yield
    stage.ground.server.start()


@contextmanager
def _redis_ended(stage: Stage, victim: str) -> Iterator[None]:
    stage.ground.server.stop()
    yield
    stage.ground.server.start()


@contextmanager
def _redis_stopped(stage: Stage, victim: str) -> Iterator[None]:
    stage.ground.server.pause()
    yield
    stage.ground.server.resume()


@contextmanager
def _redis_slowed(stage: Stage, victim: str) -> Iterator[None]:
    with _flickering(stage.ground.server.pause, stage.ground.server.resume):
        yield


@contextmanager
def _flickering(pause: Callable[[], None], resume: Callable[[], None]) -> Iterator[None]:
    over = threading.Event()

    def flicker() -> None:
        while not over.is_set():
            flickering(pause, resume, seconds=0.1)

    thread = threading.Thread(target=flicker, name="drill-flicker", daemon=True)
    thread.start()
    yield
    over.set()
    thread.join(5)


OF_NODES: Mapping[str, Harm] = {
    "SIGKILL": _killed,
    "SIGTERM": _ended,
    "SIGSTOP": _stopped,
    "a fifth of a CPU": _slowed,
    "deaf": _cut("deaf"),
    "held back": _cut("held"),
    "refused": _cut("refused"),
    "300 ms away": _far,
    "a reply lost": _reply_lost(silently=False),
    "a reply late": _reply_lost(silently=True),
}
#: After these a process is another one.
DEADLY = ("SIGKILL", "SIGTERM")

OF_SERVERS: Mapping[str, Harm] = {
    "Redis SIGKILLed": _redis_killed,
    "Redis ended": _redis_ended,
    "Redis SIGSTOPped": _redis_stopped,
    "Redis slow": _redis_slowed,
    "a guest": _joined,
}


def mend(stage: Stage, *, within: float = 60.0) -> None:
    """Start what is dead again, as a supervisor does, and wait until the pool is whole."""
    stage.wait_for_server()
    for name, beat in list(stage.cluster.beats.items()):
        if beat.process.ended_by_us and name != "guest":
            beat.process.wait(within)
            stage.cluster.beat(name, proxied=stage.proxied)
    stage.cluster.wait_for_nodes(stage.nodes, within)
    stage.cluster.wait_for_renewals(stage.nodes, within)
    time.sleep(stage.seconds("handover_delay"))
