"""Every key that this package keeps in Redis, by name, type and lifetime.

``P`` is the key prefix.  It is the hash tag of each key, so that all of them share one slot of a Cluster.

================  =======  ==========================================================  ==========
key               type     holds                                                       lifetime
================  =======  ==========================================================  ==========
``{P}:pool``      hash     ``schema``, ``identity`` (app and broker), the config in    permanent
                           force and the one before it, the vote, ``epoch``, the
                           server's ``run_id``, the recovery under way, and how far
                           what was changed at run time has come
``{P}:nodes``     zset     node id, scored by the end of its lease                     permanent
``{P}:members``   hash     node id → JSON object of what the node says of itself,      permanent
                           ``joined`` and ``draining``
``{P}:cursor``    hash     entry name → cursor, a JSON array (see ``codec``)           permanent
``{P}:entries``   hash     entry name → row of what was said of it at run time, a      permanent
                           JSON object (see ``row_codec``); no name: of all entries
``{P}:changes``   zset     the same names, scored by the versions of their rows        permanent
``{P}:intents``   hash     ``due_ms:name`` → intent (see ``codec``)                    permanent
``{P}:attempts``  zset     the same fields, scored by the start of the attempt, ms     permanent
``{P}:facets:F``  hash     what the entries and settings of the config with the        a day
                           fingerprint F are made of, as hashes
``{P}:shadow:D``  list     what would have been fired on the day D, newest first       3 days after
                           (``dispatch_shadow``)                                       the last
``{P}:wake``      channel  ``view``: the epoch changed; ``catalog``: a row was         not stored
                           written
================  =======  ==========================================================  ==========

Permanent keys are bounded: nodes whose lease ran out are trimmed from ``nodes`` and ``members`` by every
heartbeat, the cursors of entries that left the config and the rows of entries that were deleted are removed
after a day, and a node has one batch of open intents at most.  All times are milliseconds since 1970 by Redis
TIME.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

__all__ = ["SCHEMA", "Keys"]

#: The version of this layout, kept in ``{P}:pool``.
SCHEMA = 2


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
    def entries(self) -> str:
        return self._named("entries")

    @property
    def changes(self) -> str:
        return self._named("changes")

    @property
    def intents(self) -> str:
        return self._named("intents")

    @property
    def attempts(self) -> str:
        return self._named("attempts")

    def facets(self, fingerprint: str) -> str:
        """What a config consists of; has a time to live."""
        return self._named(f"facets:{fingerprint}")

    def shadow(self, moment: datetime) -> str:
        """What would have been fired on the day of ``moment``, in UTC; has a time to live."""
        return self._named(f"shadow:{moment.astimezone(timezone.utc):%Y-%m-%d}")

    @property
    def wake(self) -> str:
        """The pub/sub channel."""
        return self._named("wake")

    @property
    def permanent(self) -> frozenset[str]:
        """The keys that are kept without a time to live."""
        return frozenset({
            *(self.pool, self.nodes, self.members),
            *(self.cursor, self.entries, self.changes),
            *(self.intents, self.attempts),
        })  # fmt: skip

    def _named(self, name: str) -> str:
        return f"{{{self.prefix}}}:{name}"
