"""What a config is made of, as short hashes: so that two configs can be told apart by entry and field.

A config's facets are rows of text: ``entry:NAME`` with one hash for each of ``FIELDS``, in their order, and
``setting:NAME`` with the hash of one setting that routes messages.  They say where two configs differ and
nothing of what they hold, so they may lie in Redis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery

from celery_dispatch.celery_bridge.fingerprint import facet_of, routing_settings, schedule_facet
from celery_dispatch.celery_bridge.payload import Payload
from celery_dispatch.celery_bridge.policies import deciding
from celery_dispatch.config import Config
from celery_dispatch.core.entry import Catalog, Entry
from celery_dispatch.errors import EntryError

__all__ = ["FIELDS", "Difference", "differences", "facets_of"]

#: The fields of an entry, in the order of their hashes.
FIELDS = ("task", "schedule", "args", "kwargs", "options", "dispatch")

_ENTRY, _SETTING = "entry:", "setting:"
_BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two configs differ.

    ``entry`` is empty for a setting, whose name is then the only one of ``fields``.  No ``fields``: only one
    of the two configs has the entry, the first if ``only_first``.
    """

    entry: str
    fields: tuple[str, ...] = ()
    only_first: bool = False


def facets_of(app: Celery, catalog: Catalog, config: Config) -> dict[str, str]:
    """The facets of the config that ``catalog`` was read from, the settings before the entries."""
    rows = {_SETTING + name: _hash(value) for name, value in routing_settings(app, config).items()}
    of_entry = _EntryFacets(app)
    for name in sorted({*catalog.entries, *catalog.broken}):
        entry = catalog.entries.get(name)
        rows[_ENTRY + name] = of_entry.row(entry) if entry is not None else _BROKEN
    return rows


class _EntryFacets:
    """Makes the rows of one app's entries; what many of them share is hashed once."""

    def __init__(self, app: Celery) -> None:
        self._zone = app.timezone
        self._asked = _asked(app)
        self._schedules: dict[int, str] = {}  # by the id of the recurrence, which equal schedules share
        self._nothing = _hash([]), _hash({})

    def row(self, entry: Entry) -> str:
        payload = entry.payload
        if not isinstance(payload, Payload):
            return _BROKEN
        no_list, no_dict = self._nothing
        asked = self._asked.get(entry.name)
        return " ".join((
            _hash(payload.task),
            self._schedule(entry, payload),
            _hash(payload.args) if payload.args else no_list,
            _hash(payload.kwargs) if payload.kwargs else no_dict,
            _hash(payload.options) if payload.options else no_dict,
            _hash(asked) if asked else no_dict,
        ))  # fmt: skip

    def _schedule(self, entry: Entry, payload: Payload) -> str:
        known = self._schedules.get(id(entry.recurrence))
        if known is None:
            known = self._schedules[id(entry.recurrence)] = schedule_facet(payload.schedule, self._zone)
        return known


def _asked(app: Celery) -> Mapping[str, object]:
    """What each entry asks of this package, by name."""
    given: Any = app.conf.beat_schedule or {}
    return {
        name: deciding(item["dispatch"])
        for name, item in given.items()
        if isinstance(name, str) and isinstance(item, Mapping) and isinstance(item.get("dispatch"), Mapping)
    }


def _hash(value: object) -> str:
    try:
        return facet_of(value)
    except EntryError:  # it contains itself: the entry will say so where it is to be sent
        return _BROKEN


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> tuple[Difference, ...]:
    """Where two configs differ by their facets: settings first, then entries by name."""
    names = sorted(first.keys() | second.keys(), key=lambda name: (not name.startswith(_SETTING), name))
    return tuple(
        _difference(name, first.get(name), second.get(name))
        for name in names
        if first.get(name) != second.get(name)
    )


def _difference(row: str, first: str | None, second: str | None) -> Difference:
    if row.startswith(_SETTING):
        return Difference("", (row.removeprefix(_SETTING),))
    name = row.removeprefix(_ENTRY)
    if first is None or second is None:
        return Difference(name, only_first=second is None)
    ours, theirs = first.split(), second.split()
    if len(ours) != len(FIELDS) or len(theirs) != len(FIELDS):
        return Difference(name, ("whether it can be used",))
    return Difference(name, tuple(field for field, a, b in zip(FIELDS, ours, theirs) if a != b))
