"""What must hold when nothing was wrong any more for long enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from celery_dispatch.core.entry import Cursor
from celery_dispatch.core.pool import View
from celery_dispatch.core.ports import Damaged
from celery_dispatch.core.ring import OWNER, STANDBY
from celery_dispatch.core.rows import Row
from celery_dispatch.testing import MemoryStore
from tests.simulation.grid import TICK
from tests.simulation.plan import Plan, Spec
from tests.simulation.process import DRIFT, Process
from tests.simulation.witness import Witness

__all__ = ["ending"]

_UNDER_WAY = 1.0  # seconds that an occurrence may take from its due to the broker
_PUNCTUAL = 0.25  # seconds of lag that a healthy pool may have here, where turns may begin late


def ending(plan: Plan, store: MemoryStore, witness: Witness) -> Iterator[str]:
    """Everything that did not come right."""
    live = [process for process in witness.processes if not process.dead]
    if not live:
        return
    if store.recovery:
        yield f"the pool still recovers: {store.recovery} waits for {sorted(store.recovery_names)}"
        return
    lately = store.now() - timedelta(seconds=_UNDER_WAY)
    for name, due in witness.owed:
        if due < lately:
            yield f"{name} {due} was claimed and never sent"
    for intent in store.intents.values():
        if isinstance(intent, Damaged) or intent.since < lately:
            yield f"an intent is still open: {intent}"
    fence = store.fence
    if fence is None or not any(process.catalog.fingerprint == fence.config for process in live):
        yield f"no live node runs the config in force, {fence}"
        return
    yield from _agreement(store, live)
    config = int(fence.config[1:])
    specs = [*plan.configs[config], *_defined(store)]
    yield from _ranks(specs, [it for it in live if it.config == config])
    yield from _cursors(plan, specs, store)
    yield from _lags(plan, store, witness)


def _agreement(store: MemoryStore, live: list[Process]) -> Iterator[str]:
    names = {process.name for process in live}
    if set(store.members) != names:
        yield f"the pool has the members {sorted(store.members)}, and {sorted(names)} live"
    for process in live:
        view = process.membership.view
        if view is None or (view.fence, view.members and {m.id for m in view.members}) != (
            store.fence,
            names,
        ):
            yield f"{process.name} does not see the pool as it is: {view and view.fence}"
        for name, row in store.rows.items():
            if isinstance(row, Row) and process.version(name) != row.version:
                yield f"{process.name} knows version {process.version(name)} of {name!r}, not {row.version}"


def _defined(store: MemoryStore) -> list[Spec]:
    """The entries that were created at run time and are there."""
    rows = [row for row in store.rows.values() if isinstance(row, Row) and row.definition]
    return [Spec.from_text(row.definition) for row in rows]


def _ranks(specs: Sequence[Spec], running: list[Process]) -> Iterator[str]:
    """Every entry has one owner, and one standby where there is a second node on the ring."""
    views = [view for process in running if (view := process.membership.view) is not None]
    if not views:
        return
    if len({_nodes(view) for view in views}) > 1:
        yield f"the nodes have different rings: {[_nodes(view) for view in views]}"
    second = 1 if len(views[0].ranks.nodes) > 1 else 0
    for spec in specs:
        ranks = [item.rank for process in running if (item := process.item(spec.name)) is not None]
        if (ranks.count(OWNER), ranks.count(STANDBY)) != (1, second):
            yield f"{spec.name} has {ranks.count(OWNER)} owners and {ranks.count(STANDBY)} standbys"


def _nodes(view: View) -> tuple[str, ...]:
    return view.ranks.nodes


def _cursors(plan: Plan, specs: Sequence[Spec], store: MemoryStore) -> Iterator[str]:
    """What the config has in it is up to date; what it has not is buried or gone."""
    names = {spec.name for spec in specs}
    for name, cursor in store.cursors.items():
        if name not in names and not (isinstance(cursor, Cursor) and cursor.is_tombstone):
            yield f"{name} is in no config, and its cursor was not buried: {cursor}"
    limit = store.now() - timedelta(seconds=2 * plan.settings.handover + 1)
    for spec in specs:
        cursor, row = store.cursors.get(spec.name), store.rows.get(spec.name)
        definition = row.hash if isinstance(row, Row) and row.definition else spec.definition
        if not isinstance(cursor, Cursor):
            yield f"{spec.name} has no cursor"
        elif cursor.definition != definition:
            yield f"{spec.name} has the definition {cursor.definition!r}, not {definition!r}"
        elif cursor.due < limit and (due := _following(spec, cursor)) <= limit:
            yield f"{spec.name} is behind: {due} is still open, and it is {store.now()}"


def _following(spec: Spec, cursor: Cursor) -> datetime:
    if spec.polled:
        return max(cursor.due + timedelta(seconds=spec.every), cursor.effective_from)
    due = spec.grid.following(cursor.due, max(cursor.due, cursor.effective_from - TICK))
    return spec.entry.fires_at(due)


def _lags(plan: Plan, store: MemoryStore, witness: Witness) -> Iterator[str]:
    """In the last third of the calm everything is fired in time."""
    since = plan.quiet + (plan.until - plan.quiet) * 2 / 3
    lags = [push.lag for pushes in witness.pushes.values() for push in pushes if push.at > since]
    if lags and max(lags) > _PUNCTUAL + 3 * plan.settings.interval * DRIFT:
        yield f"the pool is slow in calm: {max(lags):.3f} s"
