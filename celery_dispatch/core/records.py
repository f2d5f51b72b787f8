"""Values of which many are made, or kept: ``@record`` stands where ``@dataclass(frozen=True)`` would.

They are frozen for the type checker, and by nobody's hand at run time: a frozen dataclass sets each field
through ``object.__setattr__``, so that making one of eight fields takes five times as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

__all__ = ["record"]

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform

    _Class = TypeVar("_Class")

    @dataclass_transform(frozen_default=True)
    def record(cls: type[_Class]) -> type[_Class]: ...
else:
    record = dataclass(slots=True, unsafe_hash=True)
