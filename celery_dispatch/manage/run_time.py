"""What was said at run time, laid over the config of the app at hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from celery_dispatch.celery_bridge.definitions import Definitions
from celery_dispatch.core.catalog import LiveCatalog
from celery_dispatch.core.entry import Catalog
from celery_dispatch.core.ports import Damaged, Rows
from celery_dispatch.core.rows import ALL, Pause, Row
from celery_dispatch.errors import EntryError
from celery_dispatch.manage.scanning import scanned
from celery_dispatch.redis_store.codec import printable

__all__ = ["Told", "nothing_told", "told_by"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Told:
    """The entries of the config and those created at run time, and the pause that holds for one now.

    The fingerprint is the config's: what is said at run time is no part of it.  ``halt`` is the pause of all
    entries, if it is on; ``unclear`` says why nobody can know whether it is.  ``shadowed`` are the names of
    the config that an entry which was created at run time has too: the config's is the one that is fired.
    """

    catalog: Catalog
    pause: Callable[[str], Pause | None]
    halt: Pause | None = None
    unclear: str = ""
    shadowed: frozenset[str] = frozenset()


def nothing_told(config: Catalog, names: Sequence[str] | None = None) -> Told:
    """The config alone."""
    return Told(config, lambda name: None)


def told_by(
    rows: Rows, definitions: Definitions, config: Catalog, names: Sequence[str] | None = None
) -> Told:
    """The config with all rows, or with those of ``names``.  Raises ``StoreError``."""
    live = LiveCatalog(config, lambda name, text: definitions.entry(name, json.loads(text)))
    found = scanned(rows) if names is None else zip([ALL, *names], rows.read([ALL, *names]))
    defined, shadowed, unclear = [], set(), ""
    for name, row in found:
        live.put(name, row)
        if name == ALL and isinstance(row, Damaged):
            unclear = str(row)
        is_name = name != ALL and printable(name) == name  # no entry has any other; the doctor tells of such
        if is_name and name not in config and (name in live or isinstance(row, Damaged)):
            defined.append(name)
        if is_name and name in config and isinstance(row, Row) and row.definition:
            shadowed.add(name)

    def error(name: str) -> str | None:
        try:
            live.entry(name)
        except EntryError as wrong:
            return str(wrong)
        return None

    halt = live.halt if live.is_halted else None

    def pause(name: str) -> Pause | None:
        row = live.row(name)
        return row.pause if row is not None and row.is_paused else halt

    entries = _Lazy([*config.entries, *defined], live.get)
    catalog = Catalog(config.fingerprint, entries, _Lazy([*config.broken, *defined], error))
    return Told(catalog, pause, halt, unclear, frozenset(shadowed))


class _Lazy(Mapping[str, _T]):
    """What ``make`` gives for each of ``names``, made when it is asked for.

    Where that is ``None``, only the name is there.
    """

    def __init__(self, names: Sequence[str], make: Callable[[str], _T | None]) -> None:
        self._names = dict.fromkeys(names)
        self._make = make

    def __getitem__(self, name: str) -> _T:
        value = self._make(name) if name in self._names else None
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
