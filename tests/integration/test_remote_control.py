from __future__ import annotations

import celery.beat
import pytest

from tests.drills.cluster import every
from tests.drills.process import wait_until
from tests.drills.redis_server import Server
from tests.integration.conftest import MakeCluster


@pytest.mark.skipif(not hasattr(celery.beat, "BeatPidbox"), reason="this Celery's beat has no remote control")
def test_a_beat_answers_ping_while_it_fires(server: Server, make_cluster: MakeCluster) -> None:
    cluster = make_cluster(server, every(5), settings={"beat_enable_remote_control": True})
    beat = cluster.beat("one").process
    wait_until(lambda: "Sending due task" in beat.log, 30, why=lambda: beat.log)
    answer = cluster.run("inspect", "ping", "--timeout", "5")
    assert answer.status == 0, answer
    assert "celerybeat@" in answer.out and "pong" in answer.out
    before = beat.log.count("Sending due task")
    wait_until(lambda: beat.log.count("Sending due task") > before, 5, why=lambda: beat.log)
