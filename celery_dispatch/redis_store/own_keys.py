"""Which of the pool's keys hold something else; the server only says that one of them does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar, cast

import redis
from redis import exceptions

from celery_dispatch.errors import StoreRefused
from celery_dispatch.redis_store.driver_errors import error_text, translated
from celery_dispatch.redis_store.keys import Keys

__all__ = ["of_store", "refuse_taken_keys", "taken_keys"]

_Method = TypeVar("_Method", bound=Callable[..., Any])


def taken_keys(client: redis.Redis, keys: Keys) -> Iterator[tuple[str, str]]:
    """Each key of the pool that holds something else, with the type that it should have.

    Raises redis-py's errors; needs no right that a node or a reader has not.
    """
    for key in sorted(keys.permanent):
        kind, ask = (
            ("sorted set", client.zcard)
            if key in (keys.nodes, keys.attempts, keys.changes)
            else ("hash", client.hlen)
        )
        try:
            ask(key)
        except exceptions.ResponseError as error:
            if "WRONGTYPE" not in error_text(error):
                raise
            yield key, kind


def of_store(method: _Method) -> _Method:
    """``translated()`` for a method of an object with ``_client`` and ``_keys``; names the keys at fault."""

    @wraps(method)
    def asking(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            with translated():
                return method(self, *args, **kwargs)
        except StoreRefused as error:
            if "WRONGTYPE" not in str(error):
                raise
            refuse_taken_keys(self._client, self._keys)
            raise

    return cast(_Method, asking)


def refuse_taken_keys(client: redis.Redis, keys: Keys) -> None:
    """Raise ``StoreRefused`` that names the keys of the pool that hold something else, if there are any."""
    with translated():
        taken = [f"{key} is no {kind}" for key, kind in taken_keys(client, keys)]
    if taken:
        raise StoreRefused(
            f"Redis refused (WRONGTYPE: {'; '.join(taken)}). Something else uses keys of that name: choose "
            "another dispatch_key_prefix, or delete them."
        )
