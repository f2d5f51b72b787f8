"""What an entry asks of this package: its ``dispatch`` key, in ``beat_schedule`` and in a document alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from celery_dispatch.config import Config, InvalidValue, parse_catch_up, parse_window, suggestion
from celery_dispatch.core.entry import CatchUp
from celery_dispatch.errors import EntryError

__all__ = ["Policies", "policies_of"]

_PARSERS = {"catch_up": parse_catch_up, "catch_up_window": parse_window}


@dataclass(frozen=True, slots=True)
class Policies:
    """What holds for one entry; ``given`` is what it says itself."""

    catch_up: CatchUp
    catch_up_window: timedelta | None
    given: Mapping[str, object]

    def document(self) -> dict[str, object]:
        """What it says itself, in JSON's own types."""
        return {key: _written(value) for key, value in self.given.items()}


def _written(value: object) -> object:
    return value.total_seconds() if isinstance(value, timedelta) else value


def policies_of(value: object, config: Config) -> Policies:
    """What an entry's ``dispatch`` key says, the rest from ``config``; ``EntryError`` if it is wrong."""
    if not isinstance(value, Mapping):
        raise EntryError(f"dispatch = {value!r:.80}: must be a dict such as {{'catch_up': 'all'}}")
    parsed: dict[str, Any] = {}
    for key, given in value.items():
        if key not in _PARSERS:
            hint = suggestion(str(key), list(_PARSERS))
            cure = f"did you mean {hint!r}?" if hint else f"use {', '.join(_PARSERS)}"
            raise EntryError(f"dispatch option {key!r} does not exist; {cure}")
        try:
            parsed[key] = _PARSERS[key](given)
        except InvalidValue as wrong:
            raise EntryError(f"dispatch option {key} = {given!r:.80}: {wrong}") from wrong
    stated = {key: getattr(given, "value", given) for key, given in parsed.items()}
    everything = {"catch_up": config.catch_up, "catch_up_window": config.catch_up_window, **parsed}
    return Policies(everything["catch_up"], everything["catch_up_window"], stated)
