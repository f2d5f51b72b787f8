"""Reading the pool and its entries; prints nothing and writes nothing.

Cursors are read in pages of 1,000, so that a large schedule never holds Redis up.  Rows are read after the
pool: what is overdue is judged by the time *before* the reading and what is ahead by the time *after* it, so
that a cursor which moved meanwhile is called neither.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from itertools import islice
from statistics import median

from celery_dispatch.core.clock import whole_ms
from celery_dispatch.core.entry import Catalog, Cursor, Entry, Fence, Occurrence
from celery_dispatch.core.ports import Intents, Ledger, Pool, Stored
from celery_dispatch.core.recurrence import Nominal
from celery_dispatch.core.ring import Ranks, Ring
from celery_dispatch.errors import EntryError
from celery_dispatch.manage.judgement import Bench
from celery_dispatch.manage.nodes import read_pool
from celery_dispatch.manage.problems import problems_of
from celery_dispatch.manage.reports import (
    Dues,
    EntryDetail,
    EntryList,
    EntryReport,
    EntryState,
    EntryTotals,
    IntentReport,
    Lag,
    NodeReport,
    PoolReport,
    Sketch,
    StatusReport,
)
from celery_dispatch.manage.run_time import Told, nothing_told
from celery_dispatch.manage.scanning import scanned
from celery_dispatch.redis_store.codec import printable

__all__ = [
    "EntryFilter",
    "Sources",
    "judged",
    "read_dues",
    "read_entries",
    "read_entry",
    "read_intents",
    "read_pool",
    "read_status",
    "read_of_all",
]


@dataclass(frozen=True)
class Sources:
    """Where the operations read, put together by whoever starts them.

    ``patience`` is lease and handover together: an entry later than that is overdue.  ``sketch`` puts an
    entry of the catalog into words.  ``identity`` names the app and its broker.  ``look`` lays what was said
    at run time over the catalog, all of it or that of some names.
    """

    pool: Pool
    ledger: Ledger
    intents: Intents
    catalog: Catalog
    patience: timedelta
    sketch: Callable[[Entry], Sketch]
    identity: str = ""
    look: Callable[[Catalog, Sequence[str] | None], Told] = nothing_told
    ring: Ring = field(default_factory=Ring)


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries to list: owned or stood by for by ``node``, named like ``name``, in one of ``states``.

    ``node`` and ``name`` are substrings, or globs if they hold one of ``*?[``.  ``limit`` 0 is all.
    """

    node: str | None = None
    name: str | None = None
    states: frozenset[EntryState] = frozenset()
    limit: int = 0


# --- all entries --------------------------------------------------------------------------------------------


def read_status(sources: Sources) -> StatusReport:
    """The pool, its entries counted, and what is wrong."""
    pool = read_pool(sources.pool, sources.ring)
    by_state: Counter[EntryState] = Counter()
    wrong: list[EntryReport] = []
    fired = skipped = 0
    for report in judged(sources, pool):
        by_state[report.state] += 1
        fired += report.fired
        skipped += report.skipped
        if report.state.is_wrong:
            wrong.append(report)
    total = sum(by_state.values()) - by_state[EntryState.TOMBSTONE]
    config, intents = sources.catalog.fingerprint, read_intents(sources.intents)
    return StatusReport(
        pool=pool,
        entries=EntryTotals(total=total, by_state=dict(by_state), fired=fired, skipped=skipped),
        intents=intents,
        lag=_lag_of(pool.alive),
        config=config,
        problems=problems_of(
            pool,
            wrong,
            config=config,
            intents=intents,
            patience=sources.patience,
            of_all=read_of_all(sources),
        ),
    )


def read_of_all(sources: Sources) -> Told:
    """What was said at run time of all entries together."""
    return sources.look(sources.catalog, [])


def judged(sources: Sources, pool: PoolReport) -> Iterator[EntryReport]:
    """Every entry that the config at hand or the ledger knows, by name."""
    rows, bench = _read_rows(sources, pool)
    for name in _names(bench.catalog, rows):
        yield bench.judge(name, rows.get(name))


def read_intents(intents: Intents) -> IntentReport:
    """How many are open, and since when the oldest is."""
    count, oldest = intents.read(1)
    return IntentReport(count, oldest[0].since if oldest else None)


def read_entries(sources: Sources, wanted: EntryFilter) -> EntryList:
    """The entries that the filter asks for, by name; those without a row and tombstones included."""
    pool = read_pool(sources.pool, sources.ring)
    rows, bench = _read_rows(sources, pool)
    names = _names(bench.catalog, rows)
    matching = [
        name for name in names if _is_named(name, wanted.name) and _is_near(name, wanted.node, pool.ranks)
    ]
    if wanted.states:
        reports = [bench.judge(name, rows.get(name)) for name in matching]
        reports = [report for report in reports if report.state in wanted.states]
        shown, matched = reports[: wanted.limit or None], len(reports)
    else:
        shown = [bench.judge(name, rows.get(name)) for name in matching[: wanted.limit or None]]
        matched = len(matching)
    return EntryList(now=pool.now, entries=tuple(shown), matched=matched, total=len(names))


def _read_rows(sources: Sources, pool: PoolReport) -> tuple[dict[str, Stored], Bench]:
    rows: dict[str, Stored] = {printable(name): row for name, row in scanned(sources.ledger)}
    return rows, _bench(sources, sources.look(sources.catalog, None), pool)


def _bench(sources: Sources, told: Told, pool: PoolReport) -> Bench:
    return Bench(
        pool=pool,
        later=pool.now + timedelta(seconds=time.monotonic() - pool.asked),
        catalog=told.catalog,
        patience=sources.patience,
        sketch=sources.sketch,
        pause=told.pause,
        shadowed=told.shadowed,
    )


def _names(catalog: Catalog, rows: Iterable[str]) -> list[str]:
    return sorted({*catalog.entries, *catalog.broken, *rows})


def _is_named(name: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    return fnmatchcase(name, pattern) if any(char in pattern for char in "*?[") else pattern in name


def _is_near(name: str, node: str | None, ranks: Ranks) -> bool:
    if node is None:
        return True
    return any(
        near is not None and _is_named(near, node) for near in (ranks.owner(name), ranks.standby(name))
    )


def _lag_of(nodes: Iterable[NodeReport]) -> Lag:
    """The median of the nodes' medians, and the worst of all."""
    lags = [node.lag for node in nodes]
    middles = [lag.p50 for lag in lags if lag.p50 is not None]
    worst = [lag.max for lag in lags if lag.max is not None]
    return Lag(p50=median(middles) if middles else None, max=max(worst, default=None))


# --- one entry ----------------------------------------------------------------------------------------------


def read_entry(sources: Sources, name: str, *, dues: int = 5) -> EntryDetail | None:
    """Everything of one entry, or ``None`` if neither this config nor the ledger knows it."""
    pool = read_pool(sources.pool, sources.ring)
    stored = sources.ledger.read([name])[0]
    told = sources.look(sources.catalog, [name])
    if stored is None and name not in told.catalog:
        return None
    bench = _bench(sources, told, pool)
    return EntryDetail(
        report=bench.judge(name, stored),
        entry=told.catalog.entries.get(name),
        stored=stored,
        dues=_dues(bench, name, stored, dues),
        writer=stored.node if isinstance(stored, Cursor) else None,
        pause=told.pause(name),
    )


def read_dues(sources: Sources, name: str, count: int) -> Dues | None:
    """The next dues of one entry, or ``None`` if neither this config nor the ledger knows it."""
    detail = read_entry(sources, name, dues=count)
    return detail.dues if detail is not None else None


def _dues(bench: Bench, name: str, stored: Stored, count: int) -> Dues:
    now = bench.pool.now
    entry = bench.catalog.entries.get(name)
    if entry is None:
        broken = bench.catalog.broken.get(name)
        return Dues(
            name, now, (), error=broken or "This config does not have the entry, so its dues are unknown."
        )
    if not isinstance(entry.recurrence, Nominal):
        return Dues(
            name, now, (), error="Its schedule only knows whether it is due now, not when it will be."
        )
    known, begin = bench.goes_on_from(entry, stored), whole_ms(now)
    cursor, fence = known or (Cursor.anchor(entry.definition, begin, ""), Fence("", begin))
    coming: list[Occurrence] = []
    error = None
    try:
        coming.extend(islice(entry.coming(cursor, fence), count))
    except EntryError as wrong:
        error = str(wrong)
    if error is None and len(coming) < count:
        error = "No more are to come: its schedule, its end or its count is reached."
    return Dues(
        name,
        now,
        tuple(occurrence.due for occurrence in coming),
        tuple(occurrence.fires_at for occurrence in coming) if entry.jitter else (),
        assumed=known is None,
        error=error,
    )
