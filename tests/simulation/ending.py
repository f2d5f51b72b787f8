"""What must hold when nothing was wrong any more for long enough."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from celery_dispatch.core.entry import Cursor
from celery_dispatch.core.pool import View
from celery_dispatch.core.ports import Damaged
from celery_dispatch.core.ring import OWNER, STANDBY
from celery_dispatch.testing import MemoryStore
from tests.simulation.grid import TICK
from tests.simulation.plan import Plan
from tests.simulation.process import Process
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
    yield from _ranks(plan, config, [it for it in live if it.config == config])
    yield from _cursors(plan, config, store)
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


def _ranks(plan: Plan, config: int, running: list[Process]) -> Iterator[str]:
    """Every entry has one owner, and one standby where there is a second node on the ring."""
    views = [view for process in running if (view := process.membership.view) is not None]
    if not views:
        return
    if len({_nodes(view) for view in views}) > 1:
        yield f"the nodes have different rings: {[_nodes(view) for view in views]}"
    second = 1 if len(views[0].ranks.nodes) > 1 else 0
    for spec in plan.configs[config]:
        ranks = [item.rank for process in running if (item := process.item(spec.name)) is not None]
        if (ranks.count(OWNER), ranks.count(STANDBY)) != (1, second):
            yield f"{spec.name} has {ranks.count(OWNER)} owners and {ranks.count(STANDBY)} standbys"


def _nodes(view: View) -> tuple[str, ...]:
    return view.ranks.nodes


def _cursors(plan: Plan, config: int, store: MemoryStore) -> Iterator[str]:
    """What the config has in it is up to date; what it has not is buried or gone."""
    names = {spec.name for spec in plan.configs[config]}
    for name, cursor in store.cursors.items():
        if name not in names and not (isinstance(cursor, Cursor) and cursor.is_tombstone):
            yield f"{name} is in no config, and its cursor was not buried: {cursor}"
    limit = store.now() - timedelta(seconds=2 * plan.settings.handover + 1)
    for spec in plan.configs[config]:
        cursor = store.cursors.get(spec.name)
        if not isinstance(cursor, Cursor):
            yield f"{spec.name} has no cursor"
        elif cursor.definition != spec.definition:
            yield f"{spec.name} has the definition {cursor.definition!r}, not {spec.definition!r}"
        elif cursor.due < limit and (due := _following(spec.grid, cursor)) <= limit:
            yield f"{spec.name} is behind: {due} is still open, and it is {store.now()}"


def _following(grid: object, cursor: Cursor) -> datetime:
    return grid.following(cursor.due, max(cursor.due, cursor.effective_from - TICK))  # type: ignore[attr-defined]


def _lags(plan: Plan, store: MemoryStore, witness: Witness) -> Iterator[str]:
    """In the last third of the calm everything is fired in time."""
    since = plan.quiet + (plan.until - plan.quiet) * 2 / 3
    lags = [push.lag for pushes in witness.pushes.values() for push in pushes if push.at > since]
    if lags and max(lags) > _PUNCTUAL:
        yield f"the pool is slow in calm: {max(lags):.3f} s"
