"""Backups of what was said at run time and of all cursors, and putting them back.

A backup is one JSON object::

    {"format": "celery-dispatch backup", "version": 1, "at": "2026-11-21T03:00:00.000Z",
     "entries": {"nightly": {"v": 1795230000000, …}, …}, "cursors": {"nightly": [1795230000000, …], …},
     "damaged": {"entries": {}, "cursors": {}}}

Rows and cursors are as ``docs/reference/keys.md`` describes them.  They are read in pages while the beats
run: each is whole, but one may be some milliseconds older than another.  Those that cannot be read are kept
as their text, for a person: restoring tells of them, and puts none back.

Restoring puts back what the pool has not.  A cursor is written if there is none, and then the rows are, each
unless there is one of the same or a higher version, as nodes do after a loss.  Cursors go first: a row
without its cursor would begin anew.  Dying in between leaves cursors without rows, which rest; a second run
does what is left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from celery_dispatch.celery_bridge.moments import rfc3339
from celery_dispatch.core.entry import Cursor
from celery_dispatch.core.ports import Damaged, Ledger, Pool, Rows
from celery_dispatch.core.rows import Row
from celery_dispatch.errors import FencedError, StoreUnavailable
from celery_dispatch.manage.controls import ControlError
from celery_dispatch.manage.scanning import scanned
from celery_dispatch.redis_store.codec import decode_cursor, encode_cursor
from celery_dispatch.redis_store.planting import Planting
from celery_dispatch.redis_store.row_codec import decode_row, encode_row

__all__ = ["Kept", "Restored", "read_backup", "read_file", "restore", "write_file"]

_FORMAT, _VERSION = "celery-dispatch backup", 1
_PARTS = "entries", "cursors"
_CURE = "Give a file that `celery dispatch backup` wrote."


@dataclass(frozen=True, slots=True)
class Kept:
    """Where rows and cursors are."""

    pool: Pool
    ledger: Ledger
    rows: Rows
    planting: Planting


@dataclass(frozen=True, slots=True)
class Restored:
    """Whether row and cursor of one name were put back, or would be; ``error`` says why they cannot be.

    ``deleted``: the backup defines it, and it was deleted since.
    """

    name: str
    row: bool = False
    cursor: bool = False
    deleted: bool = False
    error: str = ""


# --- backup -------------------------------------------------------------------------------------------------


def read_backup(kept: Kept) -> dict[str, Any]:
    """The backup of a pool.  Raises ``StoreError``."""
    rows, damaged_rows = _parted(scanned(kept.rows))
    cursors, damaged_cursors = _parted(scanned(kept.ledger))
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "at": rfc3339(kept.pool.read().now),
        "entries": {name: json.loads(encode_row(row)) for name, row in rows.items()},
        "cursors": {name: json.loads(encode_cursor(cursor)) for name, cursor in cursors.items()},
        "damaged": {"entries": damaged_rows, "cursors": damaged_cursors},
    }


def _parted(found: Iterable[tuple[str, Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """By name: what could be read, and the texts of the rest."""
    good: dict[str, Any] = {}
    damaged: dict[str, str] = {}
    for name, value in sorted(found, key=lambda pair: pair[0]):
        if isinstance(value, Damaged):
            damaged[name] = value.raw
        else:
            good[name] = value
    return good, damaged


def write_file(path: Path, document: Mapping[str, Any]) -> None:
    """Write it whole or not at all, for its owner's eyes only: arguments may be secrets."""
    try:
        with NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as draft:
            json.dump(document, draft, indent=1)
            draft.write("\n")
        os.replace(draft.name, path)
    except OSError as error:
        raise ControlError(f"{path} cannot be written: {error}.", "Name another file.") from error


def read_file(path: Path) -> dict[str, Any]:
    """The backup in a file; raises ``ControlError`` if it is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ControlError(f"{path} cannot be read as a backup: {error}.", _CURE) from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise ControlError(f"{path} is no backup.", _CURE)
    if document.get("version") != _VERSION:
        raise ControlError(
            f"{path} is a backup of version {document.get('version')!r}, and not {_VERSION}.",
            "Use the version of celery-dispatch that wrote it.",
        )
    wholes = document, document.setdefault("damaged", {"entries": {}, "cursors": {}})
    if not all(_has_parts(whole) for whole in wholes):
        raise ControlError(f"{path} has no entries or no cursors.", _CURE)
    return document


def _has_parts(whole: Any) -> bool:
    return isinstance(whole, dict) and all(isinstance(whole.get(part), dict) for part in _PARTS)


# --- restore ------------------------------------------------------------------------------------------------


def restore(
    kept: Kept, document: Mapping[str, Any], *, dry_run: bool = False, from_now: bool = False
) -> tuple[Restored, ...]:
    """Put back what is missing, by name.  ``from_now``: nothing that was due since the backup is made up for.

    Raises ``StoreError``.
    """
    rows, wrong_rows = _decoded(document["entries"], lambda value: decode_row(_compact(value)), Row)
    cursors, wrong_cursors = _decoded(
        document["cursors"], lambda value: decode_cursor(_compact(value)), Cursor
    )
    wrong = {**wrong_cursors, **wrong_rows}
    if from_now:
        cursors = _at(cursors, kept.pool.read().now)
    wanted_cursors = {name: cursor for name, cursor in cursors.items() if name not in wrong}
    wanted_rows = {name: row for name, row in rows.items() if name not in wrong}
    stored_cursors = dict(zip(wanted_cursors, kept.ledger.read(list(wanted_cursors))))
    stored_rows = dict(zip(wanted_rows, kept.rows.read(list(wanted_rows))))
    put_cursors = {name for name, stored in stored_cursors.items() if stored is None}
    put_rows, deleted = _compared(wanted_rows, stored_rows)
    if not dry_run:
        put_cursors = kept.planting.plant({name: (None, wanted_cursors[name]) for name in put_cursors})
        _put_back(kept, {name: wanted_rows[name] for name in put_rows})
    in_the_way = {**_in_the_way(stored_cursors, "cursor"), **_in_the_way(stored_rows, "row")}
    errors = {**_damaged(document), **in_the_way, **wrong}
    return tuple(
        Restored(name, name in put_rows, name in put_cursors, name in deleted, errors.get(name, ""))
        for name in sorted({*document["entries"], *document["cursors"], *errors})
    )


def _damaged(document: Mapping[str, Any]) -> dict[str, str]:
    """What could not be read when the backup was made."""
    found: dict[str, str] = {}
    for part, what in (("cursors", "cursor"), ("entries", "row")):
        for name, raw in document["damaged"][part].items():
            found[name] = f"its {what} could not be read when the backup was made: {raw!r:.200}"
    return found


def _decoded(given: Mapping[str, Any], decode: Any, kind: type) -> tuple[dict[str, Any], dict[str, str]]:
    """What could be read, and what is wrong with the rest."""
    good: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, value in given.items():
        found = decode(value)
        if isinstance(found, kind):
            good[name] = found
        else:
            wrong[name] = f"the backup's row is {found}"
    return good, wrong


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _at(cursors: Mapping[str, Cursor], now: datetime) -> dict[str, Cursor]:
    moment = now.replace(microsecond=now.microsecond // 1000 * 1000)
    return {name: replace(cursor, due=max(cursor.due, moment)) for name, cursor in cursors.items()}


def _in_the_way(stored: Mapping[str, Any], what: str) -> dict[str, str]:
    """What is there and cannot be read, so that nobody knows whether it is older."""
    return {
        name: f"its {what} in Redis is {it}; remove that (HDEL), and restore again"
        for name, it in stored.items()
        if isinstance(it, Damaged)
    }


def _compared(
    rows: Mapping[str, Row], found: Mapping[str, Row | Damaged | None]
) -> tuple[set[str], set[str]]:
    """The names whose stored row is older or missing, and those that were deleted since."""
    missing, deleted = set(), set()
    for name, stored in found.items():
        if stored is None or (isinstance(stored, Row) and stored.version < rows[name].version):
            missing.add(name)
        elif rows[name].definition and isinstance(stored, Row) and not stored.definition:
            deleted.add(name)
    return missing, deleted


def _put_back(kept: Kept, rows: Mapping[str, Row]) -> None:
    if not rows:
        return
    try:
        kept.rows.put_back("", max(row.version for row in rows.values()), rows)
    except FencedError as error:
        raise StoreUnavailable(f"{error} Try again in some seconds.") from error
