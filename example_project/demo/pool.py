"""Who is live, who owns what, and since when each entry runs: read as ``celery dispatch`` reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from celery_dispatch.core.entry import Cursor
from celery_dispatch.core.ring import Ring
from celery_dispatch.manage.operations import read_pool
from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from celery_dispatch.redis_store.pool import RedisPool

__all__ = ["PoolReader", "View", "label"]


@dataclass(frozen=True, slots=True)
class View:
    """The pool at one moment: the state of each node and the owner of each entry, by the nodes' labels."""

    states: Mapping[str, str] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)


class PoolReader:
    """Reads the pool of the default key prefix; takes no part in it."""

    def __init__(self, url: str) -> None:
        client, keys = redis_client(url, {}), Keys("celery-dispatch")
        self._pool = RedisPool(client, keys)
        self._ledger = RedisLedger(client, keys)
        self._ring = Ring()

    def view(self, entries: Sequence[str]) -> View:
        """The pool now, and who owns these."""
        report = read_pool(self._pool, self._ring)
        owners = {entry: report.ranks.owner(entry) for entry in entries}
        return View(
            states={label(node.id): node.state.value for node in report.nodes},
            owners={entry: label(owner) for entry, owner in owners.items() if owner},
        )

    def one_for_each(self, names: Iterable[str]) -> tuple[str, ...]:
        """For each node that fires, the first of these names that it owns, or would."""
        ranks = read_pool(self._pool, self._ring).ranks
        first: dict[str | None, str] = {}
        for name in names:
            first.setdefault(ranks.owner(name), name)
        return tuple(sorted(first.values()))

    def began(self, entries: Sequence[str]) -> dict[str, int]:
        """For each of these that is in force, the instant (ms) at which its definition came into force."""
        cursors = zip(entries, self._ledger.read(entries))
        return {
            entry: round(cursor.effective_from.timestamp() * 1000)
            for entry, cursor in cursors
            if isinstance(cursor, Cursor)
        }


def label(node: str) -> str:
    """The name that a node was given; its id is that and a random part."""
    return node.rpartition("-")[0] or node
