"""Rows that are no text: what is stored is needed to the byte, for a write compares it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import redis

from celery_dispatch.core.ports import Damaged

__all__ = ["exactly"]

_NO_TEXT = "\ufffd"  # what the client reads in place of bytes that are no text


def exactly(client: redis.Redis, key: str, name: str, damaged: Damaged) -> Damaged:
    """``damaged``, read from the field ``name`` of ``key``, with its bytes where they are no text."""
    if _NO_TEXT not in damaged.raw:
        return damaged
    asked: Any = client
    (row,) = asked.execute_command("HMGET", key, name, NEVER_DECODE=True)
    same = row is not None and row.decode(errors="replace") == damaged.raw
    return replace(damaged, exact=row) if same else damaged
