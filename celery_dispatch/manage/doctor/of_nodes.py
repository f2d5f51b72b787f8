"""The nodes: whether somebody fires, and what one more fault would cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta

from celery_dispatch.manage.doctor.findings import Area, Finding, from_problem
from celery_dispatch.manage.doctor.snapshot import Snapshot
from celery_dispatch.manage.problems_of_nodes import problems_of_life, problems_of_nodes
from celery_dispatch.manage.reports import NodeState, Severity
from celery_dispatch.manage.words import clock_time, listed, relative

__all__ = ["check_nodes"]

_LATELY = timedelta(days=1)


def check_nodes(snapshot: Snapshot) -> Iterator[Finding]:
    """Nodes that are missing, alone, away, or of different versions."""
    pool = snapshot.pool
    if pool is None:
        return
    for problem in (*problems_of_life(pool), *problems_of_nodes(pool)):
        yield from_problem(problem, Area.NODES)
    recovered = max((node.recovered for node in pool.alive if node.recovered is not None), default=None)
    if recovered is not None and not pool.recovery and pool.now - recovered < _LATELY:
        yield Finding(
            Area.NODES,
            Severity.NOTE,
            f"The pool had to recover {relative(recovered, pool.now)}.",
            (f"at {clock_time(recovered)}",),
            "Nothing, if Redis was restarted then; else look into its log: it failed over or lost data.",
        )
    versions: defaultdict[str, list[str]] = defaultdict(list)
    for node in pool.alive:
        if node.state is not NodeState.FOREIGN:
            versions[node.version or "not known"].append(node.id)
    if len(versions) > 1:
        yield Finding(
            Area.NODES,
            Severity.NOTE,
            "The nodes run different versions of celery-dispatch.",
            tuple(f"{version}: {listed(ids)}" for version, ids in sorted(versions.items())),
            "Nothing in a rolling upgrade; else bring all to one version.",
        )
