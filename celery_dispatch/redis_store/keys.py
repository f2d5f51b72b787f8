"""Every key that this package keeps in Redis, by name, type and lifetime.

``P`` is the key prefix.  It is the hash tag of each key, so that all of them share one slot of a Cluster.

===============  =======  ===========================================================  ==========
key              type     holds                                                        lifetime
===============  =======  ===========================================================  ==========
``{P}:pool``     hash     ``schema``, ``config`` and ``since`` (the config in force),  permanent
                          ``epoch``, ``changes`` (counts epochs), ``beat_at`` (last
                          heartbeat of any node), ``no_trim_until``
``{P}:nodes``    zset     node id, scored by the end of its lease                      permanent
``{P}:members``  hash     node id → JSON object of ``host``, ``config``, ``state``,    permanent
                          ``joined`` and ``info``
``{P}:cursor``   hash     entry name → cursor, a JSON array (see ``codec``)            permanent
``{P}:wake``     channel  ``view``: the epoch changed                                  not stored
===============  =======  ===========================================================  ==========

Permanent keys are bounded: nodes whose lease ran out are trimmed from ``nodes`` and ``members`` by every
heartbeat, and the cursors of entries that left the config are removed after a day.  All times are
milliseconds since 1970 by Redis TIME.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SCHEMA", "Keys"]

#: The version of this layout, kept in ``{P}:pool``.
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Keys:
    """The names under one prefix."""

    prefix: str

    @property
    def pool(self) -> str:
        return self._named("pool")

    @property
    def nodes(self) -> str:
        return self._named("nodes")

    @property
    def members(self) -> str:
        return self._named("members")

    @property
    def cursor(self) -> str:
        return self._named("cursor")

    @property
    def wake(self) -> str:
        """The pub/sub channel."""
        return self._named("wake")

    @property
    def permanent(self) -> frozenset[str]:
        """The keys that are kept without a time to live."""
        return frozenset({self.pool, self.nodes, self.members, self.cursor})

    def _named(self, name: str) -> str:
        return f"{{{self.prefix}}}:{name}"
