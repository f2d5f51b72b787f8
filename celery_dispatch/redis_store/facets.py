"""What the configs of a pool are made of, kept for a day: so that a person can be told how two differ.

The rows are opaque here.  Nothing but what is shown to people rests on them: they may be missing, cut or old.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import redis

from celery_dispatch.redis_store.client import translated
from celery_dispatch.redis_store.codec import printable
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.lua_source import lua_source

__all__ = ["MOST_ROWS", "Facets"]

#: Of a config with more rows than this nothing is kept: these are some 2 MB.
MOST_ROWS = 20_000

_SLICE = 500
_TTL_MS = 86_400_000
_COUNT = "count"  # the field that is written last: how many rows the config has


class Facets:
    """The facets of each config, under its fingerprint.

    May be used from several threads.  Raises ``StoreError``.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._script: Any = client.register_script(lua_source("facets"))

    @translated()
    def publish(self, fingerprint: str, rows: Mapping[str, str]) -> None:
        """Keep ``rows`` for a day, written in slices; where they are kept already, only renew them.

        Idempotent: several nodes may do it at once, and dying half-way leaves rows that are never shown.
        More than ``MOST_ROWS`` are not kept.
        """
        if len(rows) > MOST_ROWS:
            return
        key = self._keys.facets(fingerprint)
        if self._client.hget(key, _COUNT) == str(len(rows)):
            self._client.pexpire(key, _TTL_MS)
            return
        fields = list(rows.items())
        for start in range(0, len(fields), _SLICE):
            flat = [text for row in fields[start : start + _SLICE] for text in row]
            self._script(keys=[key], args=[_TTL_MS, *flat])
        self._script(keys=[key], args=[_TTL_MS, _COUNT, len(rows)])

    @translated()
    def read(self, fingerprint: str) -> Mapping[str, str] | None:
        """The rows of a config; ``None`` if none were published, not (yet) all, or more than are kept."""
        key = self._keys.facets(fingerprint)
        count = self._client.hget(key, _COUNT)
        kept: Any = self._client.hlen(key)
        if count is None or kept > MOST_ROWS + 1:
            return None
        rows = {printable(name): row for name, row in self._rows(key) if name != _COUNT}
        return rows if rows and str(len(rows)) == count else None

    def _rows(self, key: str) -> Iterator[tuple[str, str]]:
        position = 0
        while True:
            page: Any = self._client.hscan(key, position, count=_SLICE)
            position, rows = page
            yield from rows.items()
            if not position:
                return
