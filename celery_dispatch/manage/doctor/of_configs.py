"""The configs: which one is in force, who runs another, and in what they differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from celery_dispatch.celery_bridge.facets import Difference, differences
from celery_dispatch.manage.doctor.findings import Area, Finding, from_problem
from celery_dispatch.manage.doctor.snapshot import MOST, Snapshot
from celery_dispatch.manage.problems import problems_of_configs
from celery_dispatch.manage.reports import NodeReport, NodeState, PoolReport, Severity
from celery_dispatch.manage.words import clock_time, counted, listed, relative

__all__ = ["check_configs"]


def check_configs(snapshot: Snapshot) -> Iterator[Finding]:
    """Nodes of other configs or apps, and whether this command runs what the pool runs."""
    pool = snapshot.pool
    if pool is None:
        return
    yield from _ahead(pool)
    yield from _this_app(snapshot, pool)
    groups = _by_config(pool)
    everybody = sum(map(len, groups.values()))
    if everybody > 1 and len(groups) == everybody:
        yield _all_differ(snapshot, pool, groups)
    for problem in problems_of_configs(pool, snapshot.config, snapshot.patience):
        yield from_problem(problem, Area.CONFIGS)
    yield from _others(snapshot, pool, groups)


def _by_config(pool: PoolReport) -> Mapping[str, list[NodeReport]]:
    """The live nodes of the pool's app by the config that they run."""
    groups: defaultdict[str, list[NodeReport]] = defaultdict(list)
    for node in pool.alive:
        if node.state is not NodeState.FOREIGN:
            groups[node.config].append(node)
    return groups


def _ahead(pool: PoolReport) -> Iterator[Finding]:
    if pool.switch is not None:
        yield Finding(
            Area.CONFIGS,
            Severity.NOTE,
            f"The pool switches to config {pool.switch.config} {relative(pool.switch.since, pool.now)}.",
            (f"at {clock_time(pool.switch.since)}",),
        )
    elif pool.challenger:
        yield Finding(
            Area.CONFIGS,
            Severity.NOTE,
            f"Most nodes run config {pool.challenger}, which is not in force yet.",
            cure="Wait: it takes over after it has led for two heartbeats, and not while the pool recovers.",
        )


def _this_app(snapshot: Snapshot, pool: PoolReport) -> Iterator[Finding]:
    if pool.identity and snapshot.identity != pool.identity:
        foreign = [node.id for node in pool.alive if node.state is NodeState.FOREIGN]
        yield Finding(
            Area.CONFIGS,
            Severity.WARNING,
            "This command runs another app, or with another broker, than the pool belongs to.",
            (
                f"the pool: {pool.identity}",
                f"this app: {snapshot.identity}",
                *([f"standing by for it: {listed(foreign)}"] if foreign else []),
            ),
            "If these are two apps, give one another dispatch_key_prefix. If the pool moved: "
            "celery -A <app> dispatch adopt.",
        )


def _all_differ(snapshot: Snapshot, pool: PoolReport, groups: Mapping[str, list[NodeReport]]) -> Finding:
    return Finding(
        Area.CONFIGS,
        Severity.WARNING,
        "Every node runs a config of its own, so only one of them fires.",
        tuple(f"{nodes[0].id} runs {config}" for config, nodes in sorted(groups.items())),
        "Outside of a deploy, something in the schedule or the settings is not equal in all processes (a "
        "random number, a time, an address): what differs is said below. Make it equal, or set "
        "dispatch_config_version to the release.",
    )


def _others(
    snapshot: Snapshot, pool: PoolReport, groups: Mapping[str, list[NodeReport]]
) -> Iterator[Finding]:
    """In what each other config differs from the one in force, where that is known."""
    if pool.fence is None:
        return
    in_force = pool.fence.config
    rows = snapshot.facets.get(in_force)
    if rows is None and snapshot.config == in_force:
        rows = snapshot.own_facets
    for config, nodes in sorted(groups.items()):
        if config != in_force:
            others = snapshot.own_facets if config == snapshot.config else snapshot.facets.get(config)
            yield _compared(f"Config {config} ({listed([node.id for node in nodes])})", rows, others)
    if snapshot.config != in_force and snapshot.config not in groups:
        yield _compared(f"This command's config {snapshot.config}", rows, snapshot.own_facets)


def _compared(whose: str, rows: Mapping[str, str] | None, others: Mapping[str, str] | None) -> Finding:
    if rows is None or others is None:
        return Finding(
            Area.CONFIGS,
            Severity.NOTE,
            f"{whose} differs from the one in force; in what cannot be told.",
            cure="Nodes say so within a heartbeat of meeting another config. Large schedules do not.",
        )
    found = differences(rows, others)
    if not found:
        return Finding(
            Area.CONFIGS,
            Severity.NOTE,
            f"{whose} has the same entries and settings as the one in force.",
            cure="Its nodes differ in something that has no entry or setting: are they of one version?",
        )
    more = len(found) - MOST
    return Finding(
        Area.CONFIGS,
        Severity.NOTE,
        f"{whose} differs from the one in force in {counted(len(found), 'place')}.",
        (*map(_words, found[:MOST]), *([f"and {more:,} more"] if more > 0 else [])),
    )


def _words(difference: Difference) -> str:
    if not difference.entry:
        return f"setting {difference.fields[0]}"
    if not difference.fields:
        return (
            f"entry {difference.entry}: only in {'the one in force' if difference.only_first else 'this one'}"
        )
    return f"entry {difference.entry}: {', '.join(difference.fields)}"
