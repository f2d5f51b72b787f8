"""Going through everything that a port holds, in pages, while it changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

__all__ = ["scanned"]

_PAGE = 1_000
_T = TypeVar("_T")


class _Scannable(Protocol[_T]):
    def scan(self, position: int, count: int) -> tuple[int, list[tuple[str, _T]]]: ...


def scanned(source: _Scannable[_T]) -> Iterator[tuple[str, _T]]:
    """Names and values; a name may appear twice.  Raises ``StoreError``."""
    position = 0
    while True:
        position, page = source.scan(position, _PAGE)
        yield from page
        if position == 0:
            return
