"""Asking a Redis server about itself; what its user may not ask is left out and named."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from celery_dispatch.errors import StoreRefused
from celery_dispatch.manage.doctor.snapshot import Server
from celery_dispatch.redis_store.client import behind_sentinels, translated
from celery_dispatch.redis_store.codec import from_micros

__all__ = ["read_server"]

Answer = TypeVar("Answer")

_SETTINGS = ("appendfsync", "save", "min-replicas-to-write")


def read_server(client: Any) -> Server:
    """The server of ``client``.  Raises ``StoreUnavailable``, and ``StoreRefused`` for a wrong login."""
    asking = _Asking(client)
    info = asking.info()
    settings = {name: asking.setting(name) for name in _SETTINGS}
    ahead, precision = asking.clock()
    return Server(
        version=_text(info.get("redis_version")),
        mode=_text(info.get("redis_mode", info.get("server_mode"))),
        role=_text(info.get("role")),
        replicas=int(info.get("connected_slaves") or 0),
        min_replicas=int(settings["min-replicas-to-write"] or 0)
        if settings["min-replicas-to-write"]
        else None,
        good_replicas=int(info["min_slaves_good_slaves"]) if "min_slaves_good_slaves" in info else None,
        append_only=bool(info["aof_enabled"]) if "aof_enabled" in info else None,
        append_fsync=settings["appendfsync"],
        save=settings["save"],
        failing=tuple(
            f"{name}:{info[name]}"
            for name in ("rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status")
            if info.get(name, "ok") != "ok"
        ),
        max_memory=int(info["maxmemory"]) if "maxmemory" in info else None,
        used_memory=int(info.get("used_memory") or 0),
        policy=_text(info.get("maxmemory_policy")),
        ahead=ahead,
        precision=precision,
        refused=tuple(asking.refused),
        sentinels=behind_sentinels(client),
    )


class _Asking:
    """Asks one server and notes what it refuses."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.refused: list[str] = []

    def info(self) -> Mapping[str, Any]:
        return self._ask("INFO", lambda: self._client.info(), {})

    def setting(self, name: str) -> str | None:
        """One setting of the server; ``None`` if it is not told."""
        answer: Mapping[str, Any] = self._ask(f"CONFIG GET {name}", lambda: self._client.config_get(name), {})
        value = answer.get(name)
        return None if value is None else str(value)

    def clock(self) -> tuple[timedelta, timedelta]:
        """How far this host's clock is ahead, and how precisely that is known."""
        sent = time.monotonic()
        now = datetime.now(timezone.utc)
        answer: Any = self._ask("TIME", lambda: self._client.time(), None)
        took = timedelta(seconds=time.monotonic() - sent)
        if answer is None:
            return timedelta(), timedelta()
        return now + took / 2 - from_micros(answer[0] * 1_000_000 + answer[1]), took

    def _ask(self, command: str, ask: Callable[[], Answer], otherwise: Answer) -> Answer:
        try:
            with translated():
                return ask()
        except StoreRefused as error:
            if "login" in str(error):
                raise
            self.refused.append(command)
            return otherwise


def _text(value: object) -> str | None:
    return str(value) if value is not None else None
