"""The entries in force as one node knows them: those of its config, and those created at run time.

A name of the config is the config's; a row that defines the same one is shadowed.  Rows are kept as they are
stored, and made into entries only for who holds them.
"""

from __future__ import annotations

from collections.abc import Callable, KeysView
from dataclasses import replace

from celery_dispatch.core.entry import Catalog, Cursor, Entry, Fence
from celery_dispatch.core.ports import Damaged
from celery_dispatch.core.rows import ALL, Pause, Row
from celery_dispatch.errors import EntryError

__all__ = ["LiveCatalog"]


class LiveCatalog:
    """What a node may fire, and what it knows of the rows; ``Following`` keeps it in line with them.

    ``make`` turns name and definition into an entry; whatever it raises is that entry's error.  ``gate`` is
    what firing claims show, ``defined`` how many rows define an entry.
    """

    def __init__(self, config: Catalog, make: Callable[[str, str], Entry]) -> None:
        self.gate = ""
        self.defined = 0
        self._config = config
        self._make = make
        self._rows: dict[str, Row] = {}
        self._damaged: dict[str, str] = {}

    # --- entries --------------------------------------------------------------------------------------------

    def __contains__(self, name: object) -> bool:
        if name in self._config:
            return True
        row = self._rows.get(name) if isinstance(name, str) else None
        return row is not None and bool(row.definition)

    @property
    def config_names(self) -> KeysView[str]:
        """The names of the config that can be scheduled, in its order."""
        return self._config.entries.keys()

    def entry(self, name: str) -> Entry:
        """The entry in force; raises ``EntryError`` where it cannot be scheduled, or there is none."""
        if name in self._damaged:
            raise EntryError(f"what was said of it at run time is {self._damaged[name]}")
        if name in self._config:
            entry = self._config.entries.get(name)
            if entry is None:
                raise EntryError(self._config.broken[name])
            return entry
        row = self._rows.get(name)
        if row is None or not row.definition:
            raise EntryError("it is not in force")
        try:
            return replace(self._make(name, row.definition), definition=row.hash)
        except EntryError:
            raise
        except Exception as error:  # schedules run user code
            raise EntryError(repr(error)) from error

    def get(self, name: str) -> Entry | None:
        """The entry in force, if there is one that can be scheduled."""
        try:
            return self.entry(name)
        except EntryError:
            return None

    def definition(self, name: str) -> str | None:
        """The definition of the entry in force; ``None`` if there is none, or the config's is broken."""
        if name in self._config:
            entry = self._config.entries.get(name)
            return entry.definition if entry else None
        row = self._rows.get(name)
        return row.hash if row is not None and row.definition else None

    def is_defined_by_row(self, name: str) -> bool:
        """Whether it is in force because of its row."""
        return name not in self._config and name in self

    # --- rows -----------------------------------------------------------------------------------------------

    def row(self, name: str) -> Row | None:
        """What is known to be said of it at run time."""
        return self._rows.get(name)

    def version(self, name: str) -> int:
        """The version of the row that is known, 0 for none."""
        row = self._rows.get(name)
        return row.version if row is not None else 0

    @property
    def rows(self) -> dict[str, Row]:
        """All rows that are known, by name; a copy."""
        return dict(self._rows)

    @property
    def halt(self) -> Pause | None:
        """The pause of all entries, over or not."""
        row = self._rows.get(ALL)
        return row.pause if row is not None else None

    @property
    def is_halted(self) -> bool:
        return self.halt is not None and self.halt.is_on

    def put(self, name: str, row: Row | Damaged | None) -> None:
        """Know this of ``name`` from now on."""
        self._damaged.pop(name, None)
        if isinstance(row, Damaged):
            self._damaged[name] = str(row)
            return
        before = self._rows.pop(name, None)
        self.defined -= before is not None and bool(before.definition)
        if row is not None:
            self._rows[name] = row
            self.defined += bool(row.definition)

    def is_damaged(self, name: str) -> bool:
        """Whether its row cannot be read, so that nothing is known of it."""
        return name in self._damaged

    def conflicts(self, name: str, cursor: Cursor, definition: str, fence: Fence) -> bool:
        """Whether another config took the entry under this very switch; what its row did is no conflict."""
        row = self._rows.get(name)
        if row is not None and row.version == cursor.change and row.hash == cursor.definition:
            return False
        return cursor.conflicts(definition, fence)
