"""Values in JSON's own types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from celery_dispatch.errors import EntryError

__all__ = ["plain"]

_DEEPEST = 100


def plain(value: Any, field: str, depth: int = 0) -> object:
    """``value`` in JSON's own types; ``field`` says where it stands, for the ``EntryError`` otherwise."""
    if depth > _DEEPEST:
        raise EntryError(f"{field}: nested more than {_DEEPEST} deep, or contains itself; use flat values")
    if isinstance(value, str):
        return _text(value, field)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(each, f"{field}[{number}]", depth + 1) for number, each in enumerate(value)]
    if isinstance(value, (dict, Mapping)):  # to ask for a dict first is cheaper
        return {
            _key(key, field): plain(each, f"{field}[{key!r:.80}]", depth + 1) for key, each in value.items()
        }
    raise EntryError(
        f"{field} = {value!r:.80}: JSON cannot carry a {type(value).__name__}; "
        "use numbers, text, lists and dicts with text keys"
    )


def _key(key: object, field: str) -> str:
    if not isinstance(key, str):
        raise EntryError(f"{field}: the key {key!r:.80} is a {type(key).__name__}; use text")
    return _text(key, field)


def _text(value: str, field: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise EntryError(f"{field} = {value!r:.80}: cannot be written as UTF-8; use other text") from None
    return value
