"""All that the doctor looks at, read at once; plain values, so that a check needs no server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from celery_dispatch.core.entry import Catalog
from celery_dispatch.core.ports import Intent
from celery_dispatch.manage.reports import EntryReport, IntentReport, PoolReport
from celery_dispatch.manage.run_time import Told, nothing_told

__all__ = ["MOST", "DamagedRow", "Route", "Routes", "Server", "Snapshot"]

#: How many entries, differences or intents are kept of what may be as long as the schedule.
MOST = 10


@dataclass(frozen=True, slots=True)
class Server:
    """The Redis server that holds the pool, as it describes itself; ``None`` is what it would not say.

    ``version`` is that of the Redis it is compatible with.  ``mode`` is ``standalone``, ``cluster`` or
    ``sentinel``; ``role`` is ``master`` or ``slave``.  ``save`` is the setting as Redis writes it, empty for
    none.  ``good_replicas`` keep up, where ``min_replicas`` wants any.  ``failing`` names what it could not
    write to disk lately.  ``ahead`` is how far this host's clock is ahead of the server's, give or take
    ``precision``.  ``refused`` names the commands that this user may not run.  ``sentinels``: they say which
    server it is.
    """

    version: str | None = None
    mode: str | None = None
    role: str | None = None
    replicas: int = 0
    min_replicas: int | None = None
    good_replicas: int | None = None
    append_only: bool | None = None
    append_fsync: str | None = None
    save: str | None = None
    failing: tuple[str, ...] = ()
    max_memory: int | None = None
    used_memory: int = 0
    policy: str | None = None
    ahead: timedelta = timedelta()
    precision: timedelta = timedelta()
    refused: tuple[str, ...] = ()
    sentinels: bool = False


@dataclass(frozen=True, slots=True)
class DamagedRow:
    """A field or member of one of the pool's keys that no node would have written; all of it printable."""

    key: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Route:
    """Entries that reach the broker in one way, and why in this one; ``names`` are the first of ``count``."""

    one_write: bool
    why: str
    count: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Routes:
    """How the messages of this app's entries reach its broker; ``error`` says why that cannot be told."""

    routes: tuple[Route, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Snapshot:
    """One reading.

    ``config`` and ``identity`` are those of the app that asks, ``broken`` its entries that cannot be fired.
    ``trouble`` says why the store could not be read; then ``server``, ``pool`` and what comes of them are
    missing.  ``wrong`` are the entries that are wrong, ``shadowed`` the names that were created at run time
    and are the config's now, ``skipped`` those that skipped most, and how often; ``intents`` the oldest of
    ``open_intents``.  ``facets`` are the rows of each config in the pool, ``None`` where no node has told
    them, and ``own_facets`` those of this app.  ``damaged_rows`` are those of other keys than the cursors'.
    ``of_all`` is what was said at run time of all entries.
    """

    config: str
    identity: str
    patience: timedelta
    broken: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""
    server: Server | None = None
    pool: PoolReport | None = None
    wrong: tuple[EntryReport, ...] = ()
    shadowed: tuple[str, ...] = ()
    skipped: tuple[tuple[str, int], ...] = ()
    skipped_total: int = 0
    open_intents: IntentReport = field(default_factory=IntentReport)
    intents: tuple[Intent, ...] = ()
    routes: Routes | None = None
    facets: Mapping[str, Mapping[str, str] | None] = field(default_factory=dict)
    own_facets: Mapping[str, str] = field(default_factory=dict)
    damaged_rows: tuple[DamagedRow, ...] = ()
    of_all: Told = field(default_factory=lambda: nothing_told(Catalog("", {})))
