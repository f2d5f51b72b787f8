"""Cursors written from outside of the pool: moved in from elsewhere, or put back from a backup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from celery_dispatch.core.entry import Cursor
from celery_dispatch.redis_store.codec import encode_cursor
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.lua_source import lua_source
from celery_dispatch.redis_store.own_keys import of_store

__all__ = ["Planting"]

_MOST = 300  # cursors in one step, so that Redis is not held up for long: some 3 µs each


class Planting:
    """``plant.lua``; there need be no pool."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._script: Any = client.register_script(lua_source("plant"))

    @of_store
    def plant(self, cursors: Mapping[str, tuple[Cursor | None, Cursor]]) -> set[str]:
        """Write each cursor whose name still has the one that was read; the names of those that were.

        Up to 300 of them are one atomic step.  On ``StoreUnavailable`` the outcome is unknown; the same may
        be repeated.
        """
        names = list(cursors)
        planted: set[str] = set()
        for start in range(0, len(names), _MOST):
            page = names[start : start + _MOST]
            args: list[str] = []
            for name in page:
                expected, wanted = cursors[name]
                args += (name, encode_cursor(expected), encode_cursor(wanted))
            letters: str = self._script(keys=[self._keys.cursor], args=args)
            planted.update(name for name, letter in zip(page, letters) if letter == "y")
        return planted
