"""Taking the snapshot: every question that the doctor asks, in one place; writes nothing.

Cursors are read in pages.  What cannot be read leaves its part of the snapshot empty and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from heapq import nlargest
from typing import Any, Protocol

from celery_dispatch.core.entry import Catalog, Occurrence
from celery_dispatch.core.ports import Outbox, Path
from celery_dispatch.errors import DispatchError, StoreError, StoreRefused
from celery_dispatch.manage.doctor.snapshot import MOST, DamagedRow, Route, Routes, Server, Snapshot
from celery_dispatch.manage.operations import Sources, judged, read_intents, read_of_all, read_pool
from celery_dispatch.manage.reports import EntryReport, PoolReport

__all__ = ["Consulted", "FacetReader", "read_snapshot"]


class FacetReader(Protocol):
    """What nodes published of their configs."""

    def read(self, fingerprint: str) -> Mapping[str, str] | None: ...


@dataclass(frozen=True)
class Consulted:
    """Whom the doctor asks, beside what the other commands read.

    ``server`` reads what the server says of itself; ``own_facets`` are those of the app that asks;
    ``damaged_rows`` looks for what no node would have written.
    """

    sources: Sources
    server: Callable[[], Server]
    outbox: Outbox
    facets: FacetReader
    own_facets: Mapping[str, str]
    damaged_rows: Callable[[], tuple[DamagedRow, ...]] = tuple


def read_snapshot(consulted: Consulted) -> Snapshot:
    """One reading of everything; an outage is part of the answer."""
    sources = consulted.sources
    about: dict[str, Any] = {
        "config": sources.catalog.fingerprint,
        "identity": sources.identity,
        "patience": sources.patience,
        "broken": sources.catalog.broken,
        "own_facets": consulted.own_facets,
        "routes": _routes(sources.catalog, consulted.outbox),
    }
    try:
        about |= {"server": consulted.server()}
        about |= _store(consulted)
    except StoreError as error:
        about |= {"trouble": str(error)}
    return Snapshot(**about)


def _store(consulted: Consulted) -> dict[str, Any]:
    """All that lies in the store."""
    sources = consulted.sources
    pool = read_pool(sources.pool, sources.ring)
    return {
        "pool": pool,
        **_entries(judged(sources, pool)),
        "open_intents": read_intents(sources.intents),
        "intents": tuple(sources.intents.read(MOST)[1]),
        "damaged_rows": consulted.damaged_rows(),
        "of_all": read_of_all(sources),
        "facets": {config: _facets(consulted.facets, config) for config in _configs(pool)},
    }


def _facets(facets: FacetReader, config: str) -> Mapping[str, str] | None:
    """What nodes said of a config; nothing where somebody else took their key, for they only explain."""
    try:
        return facets.read(config)
    except StoreRefused:
        return None


def _configs(pool: PoolReport) -> set[str]:
    return {node.config for node in pool.alive} | ({pool.fence.config} if pool.fence else set())


def _entries(reports: Iterable[EntryReport]) -> dict[str, Any]:
    """Those that are wrong or shadowed, those that skipped most, and how much was skipped by all."""
    wrong: list[EntryReport] = []
    shadowed: list[str] = []
    skipped: dict[str, int] = {}
    for report in reports:
        if report.state.is_wrong:
            wrong.append(report)
        if report.shadows:
            shadowed.append(report.name)
        if report.skipped:
            skipped[report.name] = report.skipped
    most = nlargest(MOST, skipped.items(), key=lambda item: item[1])
    return {
        "wrong": tuple(wrong),
        "shadowed": tuple(shadowed),
        "skipped": tuple(most),
        "skipped_total": sum(skipped.values()),
    }


def _routes(catalog: Catalog, outbox: Outbox) -> Routes:
    """How each entry's message would go now."""
    try:
        outbox.connect()
        groups: dict[tuple[bool, str], list[str]] = {}
        now = datetime.now(timezone.utc).replace(microsecond=0)
        for name, entry in catalog.entries.items():
            path: Path = outbox.path(Occurrence(entry, now))
            groups.setdefault((path.one_write, "" if path.one_write else path.why), []).append(name)
    except Exception as error:  # a transport may raise anything, its missing library among it
        return Routes(error=str(error) if isinstance(error, DispatchError) else repr(error))
    finally:
        outbox.close()
    ordered = sorted(groups.items(), key=lambda item: (not item[0][0], -len(item[1])))
    return Routes(
        tuple(
            Route(one_write, why, len(names), tuple(sorted(names)[:MOST]))
            for (one_write, why), names in ordered
        )
    )
