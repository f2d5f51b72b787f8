"""What the commands say of real beats that fire nothing: at once, with an exit status and a cure."""

from __future__ import annotations

import json
from typing import Any

from tests.drills.cluster import Cluster, Finished, every
from tests.drills.redis_server import Server
from tests.integration.conftest import MakeCluster
from tests.servers import wait_until

LEASE = 30  # seconds; what is said sooner was not learnt from leases that ran out


def ask(cluster: Cluster, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit status and document of a ``dispatch`` command."""
    done: Finished = cluster.run("dispatch", *arguments, "--json")
    return done.status, json.loads(done.out)


def states(cluster: Cluster) -> set[str]:
    return {node["state"] for node in ask(cluster, "nodes")[1]["nodes"]}


def errors(status: dict[str, Any]) -> str:
    return "\n".join(f"{p['what']} {p['cure']}" for p in status["problems"] if p["severity"] == "error")


def test_beats_that_redis_refuses_to_write_for_are_said_to_be_late_long_before_their_leases_end(
    server: Server, make_cluster: MakeCluster
) -> None:
    cluster = make_cluster(server, every(3), settings={"dispatch_lease_ttl": LEASE})
    cluster.start(2)
    assert ask(cluster, "status")[0] == 0
    cluster.redis.config_set("maxmemory", "1")
    wait_until(lambda: states(cluster) == {"late"}, LEASE / 2, "both are late")
    code, status = ask(cluster, "status")
    assert (code, status["fine"]) == (1, False)
    assert "2 nodes are late with the heartbeat" in errors(status)
    assert "Nothing is fired" in errors(status)
    code, health = ask(cluster, "health", "--ready")
    assert (code, health["healthy"]) == (1, False)
    code, diagnosis = ask(cluster, "doctor")
    assert code == 2
    assert "Redis has used up its memory" in " ".join(found["what"] for found in diagnosis["findings"])
    cluster.redis.config_set("maxmemory", "0")
    wait_until(lambda: ask(cluster, "status")[0] == 0, LEASE / 2, "all is well again")
    assert states(cluster) == {"steady"}


def test_drained_node_that_is_left_alone_is_named_with_the_command_that_puts_it_back(
    server: Server, make_cluster: MakeCluster
) -> None:
    cluster = make_cluster(server, every(3), settings={"dispatch_lease_ttl": LEASE})
    cluster.start(2)
    (drained,) = [node for node in cluster.nodes() if node.startswith("node-1-")]
    assert ask(cluster, "drain", drained)[0] == 0
    assert ask(cluster, "health", "--ready")[0] == 0
    cluster.beats["node-2"].process.kill()
    wait_until(lambda: ask(cluster, "status")[0] == 1, LEASE / 2, "status is loud")
    assert f"undrain {drained}" in errors(ask(cluster, "status")[1])
    code, health = ask(cluster, "health", "--ready")
    assert code == 1 and f"undrain {drained}" in health["why"]
    code, diagnosis = ask(cluster, "doctor")
    assert code == 2
    assert f"undrain {drained}" in " ".join(found["cure"] or "" for found in diagnosis["findings"])
    assert ask(cluster, "undrain", drained)[0] == 0
    wait_until(lambda: ask(cluster, "status")[0] == 0, LEASE / 2, "it fires again")
    assert ask(cluster, "health", "--ready")[0] == 0
