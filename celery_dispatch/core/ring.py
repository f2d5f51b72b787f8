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

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import md5

from uhashring import HashRing

__all__ = ["OTHER", "OWNER", "SLOTS", "STANDBY", "Ranks", "Ring", "slot_of"]

SLOTS = 1 << 16
_SLOT_SHIFT = 128 - 16  # uhashring's points are md5 digests read as 128-bit numbers

OWNER, STANDBY, OTHER = 0, 1, 2


def slot_of(name: str) -> int:
    """The slot of an entry, equal in every process."""
    return int.from_bytes(md5(name.encode(), usedforsecurity=False).digest()[:2], "big")


def _points_per_node(nodes: int) -> int:
    return 6144 if nodes <= 16 else 1536 if nodes <= 64 else 384


@dataclass(frozen=True)
class Ranks:
    """Owner and standby of every slot, as indices into ``nodes``; -1 where there is none.

    ``owners`` and ``standbys`` hold ``SLOTS`` items each.
    """

    nodes: tuple[str, ...]
    owners: tuple[int, ...] | list[int]
    standbys: tuple[int, ...] | list[int]

    def of(self, node: str) -> bytes:
        """The rank of ``node`` in each slot: ``OWNER``, ``STANDBY`` or ``OTHER``."""
        if node not in self.nodes:
            return bytes([OTHER]) * SLOTS
        me = self.nodes.index(node)
        places = zip(self.owners, self.standbys)
        return bytes(
            [OWNER if first == me else STANDBY if second == me else OTHER for first, second in places]
        )

    def owner(self, name: str) -> str | None:
        """The owner of an entry, if any node is on the ring."""
        return self._node(self.owners[slot_of(name)])

    def standby(self, name: str) -> str | None:
        """The standby of an entry, if there is a second node."""
        return self._node(self.standbys[slot_of(name)])

    def shares(self) -> Mapping[str, float]:
        """The part of all slots that each node owns; they add up to 1."""
        counts = [0] * len(self.nodes)
        for owner in self.owners:
            if owner >= 0:
                counts[owner] += 1
        return {node: counts[i] / SLOTS for i, node in enumerate(self.nodes)}

    def _node(self, index: int) -> str | None:
        return self.nodes[index] if index >= 0 else None


class Ring:
    """The ring over one pool after another; keeps its points, so that a small change is cheap."""

    def __init__(self) -> None:
        self._ring = HashRing()
        self._points = 0

    def ranks(self, hosts: Mapping[str, str]) -> Ranks:
        """Owner and standby of every slot over the nodes of ``hosts`` (node id → host).

        Depends on ``hosts`` alone, not on what was asked before.
        """
        self._place(hosts)
        nodes = tuple(sorted(hosts))
        if not nodes:
            nobody = [-1] * SLOTS
            return Ranks(nodes, nobody, nobody)
        index = {node: i for i, node in enumerate(nodes)}
        points = [(point >> _SLOT_SHIFT, index[node]) for point, node in self._ring.get_points()]
        standby_after = _successors([i for _, i in points], [hosts[node] for node in nodes])
        owners: list[int] = []
        standbys: list[int] = []
        for position, (slot, owner) in enumerate(points):
            length = slot + 1 - len(owners)
            if length > 0:
                owners.extend([owner] * length)
                standbys.extend([standby_after[position]] * length)
        rest = SLOTS - len(owners)  # past the last point the ring begins anew
        owners.extend([points[0][1]] * rest)
        standbys.extend([standby_after[0]] * rest)
        return Ranks(nodes, owners, standbys)

    def _place(self, nodes: Iterable[str]) -> None:
        wanted = sorted(nodes)
        points = _points_per_node(len(wanted))
        if points != self._points:
            self._points = points
            self._ring = HashRing(wanted, vnodes=points)
            return
        placed = set(self._ring.get_nodes())
        for node in placed.difference(wanted):
            self._ring.remove_node(node)
        for node in wanted:
            if node not in placed:
                self._ring.add_node(node)


def _successors(nodes: list[int], hosts: list[str]) -> list[int]:
    """For each point of the ring, the node that stands by for it; -1 where there is no second node.

    ``nodes`` gives the node of each point in ring order, ``hosts`` the host of each node.  Walks backwards
    twice round, carrying the nearest later node of another host.
    """
    apart = len(set(hosts)) > 1
    keys: list[object] = [hosts[node] for node in nodes] if apart else list(nodes)
    result = [-1] * len(nodes)
    nearest: int = -1  # the node of the next point
    other: int = -1  # the nearest later node with another key than `nearest`
    key: object = None
    for position in range(2 * len(nodes) - 1, -1, -1):
        i = position % len(nodes)
        if nearest < 0:
            nearest, key = nodes[i], keys[i]
        elif keys[i] != key:
            nearest, other, key = nodes[i], nearest, keys[i]
        else:
            nearest = nodes[i]
        result[i] = other
    return result
