"""In what two definitions differ, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from celery_dispatch.schedules import Planned

__all__ = ["ABSENT", "Field", "fields_of"]

#: Stands where there is no value at all, which null would be.
ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "-", "__slots__": ()})()


@dataclass(frozen=True, slots=True)
class Field:
    """One value that differs, by where it stands in the definition; ``ABSENT`` where there is none."""

    path: str
    before: Any
    after: Any


def fields_of(planned: Planned) -> tuple[Field, ...]:
    """What an update changes, by path; nothing where a definition is new or goes."""
    if planned.before is None or planned.after is None:
        return ()
    return tuple(_fields(planned.before, planned.after))


def _fields(before: Any, after: Any, path: str = "") -> Iterator[Field]:
    """The values that differ, objects gone through and lists taken whole."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            inner = f"{path}.{key}" if path else str(key)
            yield from _fields(before.get(key, ABSENT), after.get(key, ABSENT), inner)
    elif before != after or type(before) is not type(after):  # 1 is not True
        yield Field(path, before, after)
