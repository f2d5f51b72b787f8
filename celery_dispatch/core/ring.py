"""Who is first and who is second: a consistent-hash ring over the steady nodes.

The ring is uhashring's.  Entries are hashed onto a fixed set of slots, spread evenly over the ring, and ranks
are computed per slot and view, so that the cost of a change of the pool does not grow with the schedule.  An
entry's owner (rank 0) is the node of the first ring point at or after its slot; its standby (rank 1) is the
next node on the ring that lives on another host, or the next other node where all share one host.

The number of points per node falls in three steps as the pool grows, so that a ring is never larger than some
100,000 points.  Within a step a change of the pool moves only the slots of the node that came or went; a step
itself (above 16 and above 64 nodes) moves more, which costs time but, the ring being a hint, never an
occurrence.
"""

from __future__ import annotations

from binascii import crc32
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import mul, sub

from uhashring import HashRing

__all__ = ["OTHER", "OWNER", "SLOTS", "STANDBY", "Ranks", "Ring", "slot_of"]

SLOTS = 1 << 16
_GOLDEN = 0x9E3779B1
_Point = tuple[int, int, str]  # where on the ring, the slot before which its run ends, its node
_SLOT_SHIFT = 128 - 16  # uhashring's points are md5 digests read as 128-bit numbers

OWNER, STANDBY, OTHER = 0, 1, 2
_OF_OWNER, _OF_STANDBY, _OF_OTHER = (bytes([rank]) for rank in (OWNER, STANDBY, OTHER))


def slot_of(name: str) -> int:
    """The slot of an entry, equal in every process.

    A cheap checksum, for a start asks for each entry; the multiplication spreads names that differ by little
    (Knuth's, by the golden ratio).
    """
    return (crc32(name.encode()) * _GOLDEN >> 16) % SLOTS


def _points_per_node(nodes: int) -> int:
    return 6144 if nodes <= 16 else 1536 if nodes <= 64 else 384


@dataclass(frozen=True)
class Ranks:
    """Owner and standby of every slot, as indices into ``nodes``; -1 where there is none.

    Slots follow each other in runs that have both in common: run ``i`` ends before slot ``ends[i]``, and
    begins where the one before it ends.
    """

    nodes: tuple[str, ...]
    ends: tuple[int, ...]
    owners: tuple[int, ...]
    standbys: tuple[int, ...]

    def of(self, node: str) -> bytes:
        """The rank of ``node`` in each slot: ``OWNER``, ``STANDBY`` or ``OTHER``."""
        me = self.nodes.index(node) if node in self.nodes else None
        runs = [
            _OF_OWNER if owner == me else _OF_STANDBY if standby == me else _OF_OTHER
            for owner, standby in zip(self.owners, self.standbys)
        ]
        return b"".join(map(mul, runs, self._lengths()))

    def owner(self, name: str) -> str | None:
        """The owner of an entry, if any node is on the ring."""
        return self._node(self.owners, slot_of(name))

    def standby(self, name: str) -> str | None:
        """The standby of an entry, if there is a second node."""
        return self._node(self.standbys, slot_of(name))

    def shares(self) -> Mapping[str, float]:
        """The part of all slots that each node owns; they add up to 1."""
        counts = [0] * len(self.nodes)
        for owner, length in zip(self.owners, self._lengths()):
            if owner >= 0:
                counts[owner] += length
        return {node: counts[i] / SLOTS for i, node in enumerate(self.nodes)}

    def _node(self, column: tuple[int, ...], slot: int) -> str | None:
        index = column[bisect_right(self.ends, slot)]
        return self.nodes[index] if index >= 0 else None

    def _lengths(self) -> Iterable[int]:
        return map(sub, self.ends, chain((0,), self.ends))


class Ring:
    """Computes ranks; keeps the points of the nodes it was asked about last, so that a change is cheap.

    A node that goes is followed in some milliseconds, for its entries wait for that.
    """

    def __init__(self) -> None:
        self._per_node = 0
        self._points: dict[str, list[_Point]] = {}

    def ranks(self, hosts: Mapping[str, str]) -> Ranks:
        """Owner and standby of every slot over the nodes of ``hosts`` (node id → host).

        Depends on ``hosts`` alone, not on what was asked before.
        """
        nodes = tuple(sorted(hosts))
        if not nodes:
            return Ranks(nodes, (SLOTS,), (-1,), (-1,))
        index = {node: i for i, node in enumerate(nodes)}
        _, ends, names = zip(*self._placed(nodes))
        owners = [index[node] for node in names]
        standbys = _successors(owners, [hosts[node] for node in nodes])
        # Past the last point the ring begins anew.
        return Ranks(nodes, (*ends, SLOTS), (*owners, owners[0]), (*standbys, standbys[0]))

    def _placed(self, nodes: Sequence[str]) -> list[_Point]:
        """The points of all nodes, in ring order: sorted lists, which Python's sort merges."""
        per_node = _points_per_node(len(nodes))
        known = self._points if per_node == self._per_node else {}
        self._per_node = per_node
        self._points = {node: known.get(node) or _points_of(node, per_node) for node in nodes}
        return sorted(chain.from_iterable(self._points.values()))


def _points_of(node: str, count: int) -> list[_Point]:
    points = HashRing([node], vnodes=count).get_points()
    return [(point, (point >> _SLOT_SHIFT) + 1, node) for point, _ in points]


def _successors(nodes: list[int], hosts: list[str]) -> list[int]:
    """For each point of the ring, the node that stands by for it; -1 where there is no second node.

    ``nodes`` gives the node of each point in ring order, ``hosts`` the host of each node.  Walks backwards,
    carrying the nearest later node and the nearest one of another host than that.
    """
    apart = len(set(hosts)) > 1
    keys: Sequence[object] = hosts if apart else range(len(hosts))
    nearest, key = nodes[0], keys[nodes[0]]
    other = next((node for node in nodes if keys[node] != key), -1)
    result = []
    for node in reversed(nodes):
        if keys[node] != key:
            other, key = nearest, keys[node]
        nearest = node
        result.append(other)
    result.reverse()
    return result
