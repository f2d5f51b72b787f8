"""Real processes for the integration tests; what they printed is shown with each failure."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import pytest

from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.keys import Keys
from tests.drills.cluster import Cluster, Spec
from tests.drills.redis_server import Server, new_server, running_server
from tests.servers import leaked_keys

MakeCluster = Callable[..., Cluster]

#: Queues and bindings, the drills' own lists, and the pool of the test that has another prefix.  "reports" is
#: that of crontabs which may be due while a test runs.
_ALLOWED = (
    "celery",
    "redbeat:*",
    "celery\x06*",
    "taken",
    "reports",
    "_kombu.*",
    "unacked*",
    "drill:*",
    *Keys("shop").permanent,
)

_CLUSTERS = pytest.StashKey[list[Cluster]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for cluster in item.session.stash.get(_CLUSTERS, []):
            report.sections.append(("processes", cluster.logs()))
    return report


@pytest.fixture(scope="session")
def _clusters(request: pytest.FixtureRequest) -> list[Cluster]:
    return request.session.stash.setdefault(_CLUSTERS, [])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """An empty server with an append-only file; what is left on it is looked through after the test."""
    with running_server(tmp_path / "redis") as server:
        yield server
        client = redis_client(server.url, {})
        leaked = leaked_keys(client, Keys("celery-dispatch"), _ALLOWED)
        client.close()
        assert leaked == []


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Server]:
    """A server that nobody has started yet; its port refuses connections."""
    server = new_server(tmp_path / "redis")
    yield server
    server.kill()


@pytest.fixture
def make_cluster(_clusters: list[Cluster], tmp_path: Path) -> Iterator[MakeCluster]:
    """``make_cluster(server, entries, **options)``; everything it starts is ended with the test."""
    made: list[Cluster] = []

    def make(server: Server, entries: Mapping[str, Spec], **options: object) -> Cluster:
        cluster = Cluster(server.url, tmp_path, entries, **options)  # type: ignore[arg-type]
        made.append(cluster)
        _clusters.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.close()
        _clusters.remove(cluster)
