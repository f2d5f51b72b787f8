"""Each fault on a small pool with short leases; ``python -m tests.drills.table`` runs them at full length."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drills.cluster import every
from tests.drills.faults import FAULTS
from tests.drills.node_faults import faketime
from tests.drills.redis_server import Server
from tests.drills.stage import Stage

SHORT: dict[str, object] = {"dispatch_heartbeat_interval": 0.5, "dispatch_lease_ttl": 3}
HASTE = 250.0  # ms that a busy test machine may add to a bound

_CLOCKS = pytest.mark.skipif(faketime() is None, reason="libfaketime is not installed")


@pytest.mark.parametrize(
    "name, settings",
    [
        ("join", SHORT),
        ("term", SHORT),
        ("kill", {}),
        ("pause", SHORT),
        ("pause-long", SHORT),
        ("cut", SHORT),
        ("cut-held", SHORT),
        ("lost-reply", SHORT),
        ("kill-two", SHORT),
        ("redis-down", SHORT),
        ("redis-kill", SHORT),
        pytest.param("clock-step", SHORT, marks=_CLOCKS),
    ],
)
def test_nothing_is_lost_or_doubled(
    name: str, settings: dict[str, object], server: Server, tmp_path: Path
) -> None:
    fault = FAULTS[name]
    stage = Stage(server, tmp_path, every(20), settings=settings, proxied=fault.proxied, calm=1.5)
    with stage:
        stage.begin()
        fault.strike(stage)
        stage.run_on(1.5)
        stage.bound += HASTE
        outcome = stage.finish()
        assert outcome.passed, "\n".join([*outcome.problems, *map(str, outcome.events), stage.cluster.logs()])
