"""The settings that a user gave to a Celery app, wherever Celery itself would find them."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

__all__ = ["GivenSettings"]


class GivenSettings:
    """The settings that the user gave, by the names that the user wrote; Celery's defaults are left out."""

    def __init__(self, conf: Any) -> None:
        conf.get("broker_url")  # the first read makes a pending configuration load
        self._conf = conf
        self._given: list[Any] = list(conf.maps[:-1])
        self._prefix: str = conf.prefix or ""

    def find(self, name: str) -> tuple[str, Any]:
        """The name as written (or as it would have to be) and the value, ``None`` if not given."""
        names: tuple[str, ...] = self._conf._to_keys(name)
        for mapping in self._given:
            for key in names:
                if key in mapping:
                    return key, mapping[key]
        return names[0], None

    def beginning_with(self, start: str, *, known: Container[str]) -> Iterator[tuple[str, str]]:
        """The name as written and the plain name of each setting that begins with ``start``.

        A function or module of a configuration module is no setting, unless its name is ``known``.
        """
        namespaced = self._prefix + (start.upper() if self._prefix.isupper() else start)
        for mapping in self._given:
            for key in mapping:
                if not isinstance(key, str):
                    continue
                if key.startswith(namespaced):
                    plain = key[len(self._prefix) :].lower()
                elif key.startswith(start):
                    plain = key
                else:
                    continue
                if plain in known or not _is_code(mapping[key]):
                    yield key, plain


def _is_code(value: object) -> bool:
    return callable(value) or type(value).__name__ == "module"
