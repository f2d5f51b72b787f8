"""Batches that Redis refused before they ran, because of one of their keys.

A right to a queue is missing, or it lives on another slot; which queue it was, the error does not say.  The
items are then grouped by the queues that they push to, and the groups halved until the guilty ones are alone;
their items fail, all others are carried out.  An item must therefore be safe to repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from redis.exceptions import RedisError

from celery_dispatch.core.ports import ClaimResult, Command
from celery_dispatch.redis_store.client import error_text, is_outage

__all__ = ["carry_out"]

_Group = list[int]  # the positions of items that push to the same queues


class _Item(Protocol):
    @property
    def commands(self) -> tuple[Command, ...]: ...


_T = TypeVar("_T", bound=_Item)


def carry_out(
    items: Sequence[_T],
    *,
    run: Callable[[Sequence[_T]], Sequence[ClaimResult]],
    failed: Callable[[_T, str], ClaimResult],
) -> tuple[ClaimResult, ...]:
    """What ``run`` says of each item, with ``failed`` for those that Redis refuses because of their queues.

    ``run`` of nothing must raise if the keys that all items have in common cannot be used.
    """
    try:
        return tuple(run(items))
    except RedisError as error:
        if is_outage(error) or not items:
            raise
        run(())  # refused as well: not the queues are at fault, but this package's own keys
        return _Halving(items, run, failed).results()


class _Halving(Generic[_T]):
    def __init__(
        self,
        items: Sequence[_T],
        run: Callable[[Sequence[_T]], Sequence[ClaimResult]],
        failed: Callable[[_T, str], ClaimResult],
    ) -> None:
        self._items = items
        self._run = run
        self._failed = failed
        self._results: dict[int, ClaimResult] = {}

    def results(self) -> tuple[ClaimResult, ...]:
        self._halve(list(_by_queues(self._items).values()))
        return tuple(self._results[i] for i in range(len(self._items)))

    def _halve(self, groups: Sequence[_Group]) -> None:
        middle = len(groups) // 2
        for half in (groups[:middle], groups[middle:]) if middle else (groups,):
            try:
                self._try(half)
            except RedisError as error:
                if is_outage(error):
                    raise
                if len(half) > 1:
                    self._halve(half)
                else:
                    self._fail(half[0], error)

    def _try(self, groups: Iterable[_Group]) -> None:
        positions = sorted(position for group in groups for position in group)
        self._results.update(zip(positions, self._run([self._items[i] for i in positions])))

    def _fail(self, group: _Group, error: RedisError) -> None:
        for position in group:
            item = self._items[position]
            if not item.commands:
                raise error
            self._results[position] = self._failed(item, error_text(error))


def _by_queues(items: Sequence[_Item]) -> Mapping[frozenset[str], _Group]:
    groups: dict[frozenset[str], _Group] = {}
    for position, item in enumerate(items):
        queues = frozenset(command.key for command in item.commands if command.op != "PUBLISH")
        groups.setdefault(queues, []).append(position)
    return groups
