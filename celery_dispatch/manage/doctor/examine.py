"""From a snapshot to a diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from celery_dispatch.manage.doctor.findings import Area, Diagnosis, Finding
from celery_dispatch.manage.doctor.of_broker import check_broker
from celery_dispatch.manage.doctor.of_configs import check_configs
from celery_dispatch.manage.doctor.of_entries import check_entries
from celery_dispatch.manage.doctor.of_intents import check_intents
from celery_dispatch.manage.doctor.of_nodes import check_nodes
from celery_dispatch.manage.doctor.of_redis import check_redis
from celery_dispatch.manage.doctor.of_rows import check_rows
from celery_dispatch.manage.doctor.snapshot import Snapshot
from celery_dispatch.manage.reports import Severity

__all__ = ["examine", "unusable_settings"]

_CHECKS: tuple[Callable[[Snapshot], Iterator[Finding]], ...] = (
    check_redis,
    check_rows,
    check_nodes,
    check_configs,
    check_broker,
    check_entries,
    check_intents,
)
_AREAS, _SEVERITIES = list(Area), list(Severity)
_STORED = frozenset({Area.NODES, Area.CONFIGS, Area.ENTRIES, Area.INTENTS})


def examine(snapshot: Snapshot) -> Diagnosis:
    """All findings, by area and the worst first."""
    findings = [finding for check in _CHECKS for finding in check(snapshot)]
    findings.sort(key=lambda finding: (_AREAS.index(finding.area), _SEVERITIES.index(finding.severity)))
    unread = _STORED if snapshot.pool is None else frozenset[Area]()
    return Diagnosis(tuple(findings), unread)


def unusable_settings(error: Exception) -> Diagnosis:
    """The diagnosis where the settings cannot be used: nothing else can be looked at."""
    first, *rest = str(error).splitlines()
    finding = Finding(
        Area.SETTINGS,
        Severity.ERROR,
        first.rstrip(":") + ".",
        tuple(line.strip().removeprefix("- ") for line in rest),
        "Correct the configuration of the app; no beat starts with it.",
    )
    return Diagnosis((finding,), frozenset(Area) - {Area.SETTINGS})
