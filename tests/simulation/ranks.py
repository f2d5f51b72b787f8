"""The product's ring with few points, reckoned once for each set of nodes.

Ranks depend on the nodes alone, so all that run in one process may share them, and how evenly the points
spread the load is no concern of a simulation: reckoning thousands of full rings would take most of its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from unittest.mock import patch

from celery_dispatch.core import ring
from celery_dispatch.core.ring import Ranks, Ring

__all__ = ["SharedRing"]

_POINTS = 32  # of each node


class _SharedRanks(Ranks):
    def of(self, node: str) -> bytes:
        return _places(self, node)

    def __hash__(self) -> int:
        return hash(self.nodes)


@lru_cache(maxsize=256)
def _places(ranks: _SharedRanks, node: str) -> bytes:
    return Ranks.of(ranks, node)


@lru_cache(maxsize=256)
def _ranks(hosts: tuple[tuple[str, str], ...]) -> _SharedRanks:
    with patch.object(ring, "_points_per_node", lambda nodes: _POINTS):
        return _SharedRanks(**vars(Ring().ranks(dict(hosts))))


class SharedRing(Ring):
    """Gives what a ``Ring`` of few points gives."""

    def ranks(self, hosts: Mapping[str, str]) -> Ranks:
        return _ranks(tuple(sorted(hosts.items())))
