"""Real workers in a drill: beside the beats, or with a beat each; and what happens to them.

They run what the collector passes on, and what they ran is judged against what arrived.
"""

from __future__ import annotations

from tests.drills.node_faults import ended, handover
from tests.drills.process import wait_until
from tests.drills.stage import Stage

__all__ = ["beats_and_worker", "embedded_leave", "four_with_beats"]

_READY = 30.0
_QUIET = 400  # ms after a due: every message has been run
#: How a worker keeps its beat, and its pool: as Celery does it on its own, and without multiprocessing.
_KINDS = (("process", "prefork"), ("process", "threads"), ("thread", "solo"), ("thread", "solo"))


def beats_and_worker(stage: Stage) -> None:
    """Three beats, and one worker."""
    worker = stage.cluster.worker("worker", "-P", "threads", "-c", "2")
    wait_until(lambda: "ready." in worker.log, _READY, why=lambda: f"a worker\n{worker.log}")
    stage.cluster.start(stage.nodes, proxied=stage.proxied)


def four_with_beats(stage: Stage) -> None:
    """Four times ``celery worker -B``, and no other beat."""
    stage.nodes = len(_KINDS)
    for number, (mode, pool) in enumerate(_KINDS, start=1):
        stage.cluster.worker(
            f"worker-{number}", "-B", "-P", pool, "-c", "1", env={"DRILL_EMBED": mode}
        )  # fmt: skip
    stage.cluster.wait_for_nodes(stage.nodes)


def embedded_leave(stage: Stage) -> None:
    """One worker ends in order, and another at once, with its beat: when it holds no message."""
    handover(stage)
    leaving, killed = (stage.cluster.beats[name].process for name in ("worker-1", "worker-3"))
    stage.at_a_due()
    leaving.terminate()
    stage.note("SIGTERM to worker-1 -B")
    ended(stage, leaving)
    stage.cluster.wait_for_nodes(3, timeout=2)
    stage.run_on(0.4 * stage.lease)
    stage.at_a_due(_QUIET)
    killed.kill()
    stage.note("SIGKILL to worker-3 -B")
    stage.cluster.wait_for_nodes(2)
    stage.note("worker-3's node trimmed")
    stage.run_on(0.4 * stage.lease)
