"""What an import does, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from celery_dispatch.celery_bridge.moments import rfc3339
from celery_dispatch.manage.moving.importing import Move, Step
from celery_dispatch.manage.pieces import Column, fitted_table
from celery_dispatch.manage.schedule_words import schedule_words
from celery_dispatch.manage.words import clock_time, shorten
from celery_dispatch.redis_store.codec import printable

__all__ = ["Moves", "moves_document", "moves_view"]

_LONGEST_NAME = 100
_STYLES = {Step.REFUSE: "bold red", Step.KEEP: "dim"}
_WORDS = {
    Step.CREATE: "created",
    Step.CURSOR: "going on from their last run",
    Step.PAUSE: "paused",
    Step.KEEP: "kept as they are",
    Step.REFUSE: "not carried over",
}


@dataclass(frozen=True, slots=True)
class Moves:
    """What was done, or with ``dry_run`` what would be."""

    moves: tuple[Move, ...]
    dry_run: bool


def moves_document(report: Moves) -> dict[str, Any]:
    """``{"dry_run", "entries"}``; ``last_due`` is what ``last_run`` was snapped to."""
    return {"dry_run": report.dry_run, "entries": [_entry(move) for move in report.moves]}


def _entry(move: Move) -> dict[str, Any]:
    found = move.found
    return {
        "name": found.name,
        "step": move.step.value,
        "definition": found.definition,
        "paused": found.paused,
        "last_run": _time(found.last_run),
        "last_due": _time(move.due),
        "next_due": _time(move.next_due),
        "runs": found.runs,
        "notes": list(found.notes),
        "why": move.why or None,
    }


def _time(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment is not None else None


def moves_view(report: Moves, width: int) -> RenderableType:
    """One line an entry; reasons and notes below."""
    moves = report.moves
    if not moves:
        return Text("There is nothing to move in.")
    counts = Counter(move.step for move in moves)
    closing = ", ".join(f"{counts[step]:,} {words}" for step, words in _WORDS.items() if counts[step])
    table = fitted_table(
        [
            Column("name", [shorten(printable(move.name), _LONGEST_NAME) for move in moves], least=20),
            Column("schedule", [_schedule(move) for move in moves], least=14, drop=3),
            Column("last run", [_clock(move.found.last_run) for move in moves], drop=2),
            Column("last due", [_clock(move.due) for move in moves]),
            Column("next due", [_clock(move.next_due) for move in moves]),
            Column("paused", ["yes" if move.found.paused else "" for move in moves], drop=1),
            Column(
                "step",
                [move.step.value for move in moves],
                styles=[_STYLES.get(move.step, "green") for move in moves],
            ),
        ],
        width,
    )
    said = f"Dry run, nothing was written: {closing}." if report.dry_run else f"{closing}."
    return Group(table, *_remarks(moves), Text(), Text(said))


def _remarks(moves: tuple[Move, ...]) -> Iterator[Text]:
    for move in moves:
        for remark in filter(None, (move.why, *move.found.notes)):
            style = _STYLES.get(move.step, "yellow")
            yield Text.assemble("  ", (printable(move.name), style), f": {printable(remark)}")


def _schedule(move: Move) -> str:
    document = (move.found.definition or {}).get("schedule")
    return printable(schedule_words(document)) if document is not None else "-"


def _clock(moment: datetime | None) -> str:
    return clock_time(moment) if moment is not None else "-"
