"""The Lua scripts, one file each in ``lua/``; redis-py loads them where the server does not know them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

__all__ = ["lua_source"]


@cache
def lua_source(name: str) -> str:
    """The text of ``lua/<name>.lua``."""
    return (files("celery_dispatch.redis_store") / "lua" / f"{name}.lua").read_text(encoding="utf-8")
