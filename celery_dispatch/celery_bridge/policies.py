"""What an entry asks of this package: its ``dispatch`` key, in ``beat_schedule`` and in a document alike.

=========================  ===================================================================================
``catch_up``               what becomes of occurrences that come late: ``"latest"``, ``"all"`` or ``"none"``
``catch_up_window``        seconds; older occurrences are skipped
``start``, ``end``         the first and the last instant that it may be due, both included
``count``                  how many occurrences are fired in all
``jitter``                 seconds; each occurrence is fired up to so much later than its due
``remove_when_completed``  whether an entry made at run time is removed when nothing is left to fire
``description``            text for people
``labels``                 any JSON by name, for people and for finding the entry
=========================  ===================================================================================

All but the last three are part of the definition, which decides what is fired and when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from celery_dispatch.celery_bridge.asked import Aligned
from celery_dispatch.celery_bridge.moments import instant, rfc3339
from celery_dispatch.celery_bridge.plain import plain
from celery_dispatch.celery_bridge.recurrences import Interval
from celery_dispatch.config import (
    Config,
    InvalidValue,
    parse_catch_up,
    parse_duration,
    parse_window,
    suggestion,
)
from celery_dispatch.core.entry import CatchUp
from celery_dispatch.core.recurrence import Between, Nominal, Polled
from celery_dispatch.errors import EntryError

__all__ = ["Policies", "bounded", "check_jitter", "deciding", "policies_of"]

_LONGEST_TEXT = 10_000  # characters of a description
_REFERENCE = datetime(2024, 1, 1, tzinfo=timezone.utc)
_GAPS = 4
_FOR_PEOPLE = frozenset({"remove_when_completed", "description", "labels"})


@dataclass(frozen=True, slots=True)
class Policies:
    """What holds for one entry; ``given`` is what it says itself, parsed."""

    catch_up: CatchUp
    catch_up_window: timedelta | None
    given: Mapping[str, Any]

    def document(self) -> dict[str, object]:
        """What it says itself, in JSON's own types."""
        return {key: _written(value) for key, value in self.given.items()}


def policies_of(value: object, config: Config) -> Policies:
    """What an entry's ``dispatch`` key says, the rest from ``config``; ``EntryError`` if it is wrong."""
    if not isinstance(value, Mapping):
        raise EntryError(f"dispatch = {value!r:.80}: must be a dict such as {{'catch_up': 'all'}}")
    given: dict[str, Any] = {}
    for key, said in value.items():
        if key not in _PARSERS:
            hint = suggestion(str(key), list(_PARSERS))
            cure = f"did you mean {hint!r}?" if hint else f"use {', '.join(_PARSERS)}"
            raise EntryError(f"dispatch option {key!r} does not exist; {cure}")
        try:
            given[key] = _PARSERS[key](said)
        except InvalidValue as wrong:
            raise EntryError(f"dispatch option {key} = {said!r:.80}: {wrong}") from wrong
    start, end = given.get("start"), given.get("end")
    if start is not None and end is not None and end < start:
        raise EntryError(f"dispatch option end = {value['end']!r:.80}: is before its start; use a later one")
    return Policies(
        given.get("catch_up", config.catch_up), given.get("catch_up_window", config.catch_up_window), given
    )


def deciding(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What of it decides what is fired and when."""
    return {key: value for key, value in asked.items() if key not in _FOR_PEOPLE}


def _written(value: Any) -> object:
    if isinstance(value, CatchUp):
        return value.value
    if isinstance(value, datetime):
        return rfc3339(value)
    return value.total_seconds() if isinstance(value, timedelta) else value


# --- what each may be ---------------------------------------------------------------------------------------


def _instant_of(option: str) -> Callable[[object], datetime | None]:
    return lambda value: None if value is None else instant(value, f"dispatch option {option}")


def _count(value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InvalidValue("must be a whole number of at least 1")
    return value


def _jitter(value: object) -> timedelta:
    jitter = parse_duration(value, 0.001, 86_400)
    return jitter - jitter % timedelta(milliseconds=1)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidValue("must be true or false")
    return value


def _description(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise InvalidValue(f"must be text of at most {_LONGEST_TEXT:,} characters")
    return str(plain(value, "dispatch option description"))


def _labels(value: object) -> object:
    if not isinstance(value, Mapping):
        raise InvalidValue("must be a dict such as {'team': 'billing'}")
    return plain(value, "dispatch option labels")


_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "catch_up": parse_catch_up,
    "catch_up_window": parse_window,
    "start": _instant_of("start"),
    "end": _instant_of("end"),
    "count": _count,
    "jitter": _jitter,
    "remove_when_completed": _flag,
    "description": _description,
    "labels": _labels,
}


# --- with a recurrence --------------------------------------------------------------------------------------


def bounded(recurrence: Nominal | Polled, policies: Policies) -> Nominal | Polled:
    """``recurrence`` from ``start`` to ``end``; ``EntryError`` where it cannot be held to what is asked."""
    start, end, jitter = map(policies.given.get, ("start", "end", "jitter"))
    if start is None and end is None and jitter is None:
        return recurrence
    if not isinstance(recurrence, Nominal):
        raise EntryError(
            "dispatch options start, end and jitter need a schedule that can tell its next due, and this "
            "class only answers is_due(); give it a remaining_estimate() instead"
        )
    if start is None and end is None:
        return recurrence
    return Between(recurrence, start, end, from_start=isinstance(recurrence, (Interval, Aligned)))


def check_jitter(recurrence: Nominal, jitter: timedelta) -> None:
    """Raise ``EntryError`` for a jitter longer than the time between two dues.

    Looked at from an instant that is always the same, so that it does not depend on when it is asked: where
    dues are nearer to each other at other times, the jitter is cut short there.
    """
    due = recurrence.following(_REFERENCE, _REFERENCE)
    for _ in range(_GAPS):
        later = None if due is None else recurrence.following(due, due)
        if due is None or later is None:
            return
        if jitter > later - due:
            gap = (later - due).total_seconds()
            raise EntryError(
                f"dispatch option jitter = {jitter.total_seconds():g}: is longer than the {gap:g} s from one "
                "due to the next; use less"
            )
        due = later
