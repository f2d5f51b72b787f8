"""What would change: the definitions that are there, against those that are wanted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = ["ABSENT", "Difference", "Field", "Step", "differences"]

Definitions = Mapping[str, Mapping[str, Any]]

#: Stands where there is no value at all, which null would be.
ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "-", "__slots__": ()})()


class Step(Enum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    KEEP = "unchanged"


@dataclass(frozen=True, slots=True)
class Field:
    """One value that differs, by where it stands in the definition; ``ABSENT`` where there is none."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """What becomes of one entry; ``before`` is ``None`` for a new one, ``after`` for one that goes."""

    name: str
    step: Step
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    @property
    def fields(self) -> tuple[Field, ...]:
        """What an update changes, by path."""
        if self.before is None or self.after is None:
            return ()
        return tuple(_fields(self.before, self.after))


def differences(
    there: Definitions, wanted: Definitions, *, pruned: Collection[str] = ()
) -> tuple[Difference, ...]:
    """By name; those of ``there`` that are not wanted stay, unless they are among ``pruned``.

    Both sides are in normal form, so that equal definitions are equal documents.
    """
    found = []
    for name in sorted({*wanted, *pruned}):
        before, after = there.get(name), wanted.get(name)
        if before is None and after is None:
            continue
        found.append(Difference(name, _step(before, after), before, after))
    return tuple(found)


def _step(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Step:
    if before is None:
        return Step.CREATE
    if after is None:
        return Step.DELETE
    return Step.UPDATE if any(_fields(before, after)) else Step.KEEP


def _fields(before: Any, after: Any, path: str = "") -> Iterator[Field]:
    """The values that differ, objects gone through and lists taken whole."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            inner = f"{path}.{key}" if path else str(key)
            yield from _fields(before.get(key, ABSENT), after.get(key, ABSENT), inner)
    elif before != after or type(before) is not type(after):  # 1 is not True
        yield Field(path, before, after)
