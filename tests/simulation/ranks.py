"""The product's ring, reckoned once for each set of nodes.

Ranks depend on the nodes alone, so nodes of one process may share them; reckoning them is most of what a view
costs, and a simulation has thousands.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from celery_dispatch.core.ring import Ranks, Ring

__all__ = ["SharedRing"]


class _SharedRanks(Ranks):
    def of(self, node: str) -> bytes:
        return _places(self, node)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


@lru_cache(maxsize=2048)
def _places(ranks: _SharedRanks, node: str) -> bytes:
    return Ranks.of(ranks, node)


@lru_cache(maxsize=512)
def _ranks(hosts: tuple[tuple[str, str], ...]) -> _SharedRanks:
    return _SharedRanks(**vars(Ring().ranks(dict(hosts))))


class SharedRing(Ring):
    """Gives what ``Ring`` gives."""

    def __init__(self) -> None:
        """Places no points: those are in the shared ones."""

    def ranks(self, hosts: Mapping[str, str]) -> Ranks:
        return _ranks(tuple(sorted(hosts.items())))
