"""What ``apply`` and ``restore`` change, for people and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from celery_dispatch.manage.applying import Planned
from celery_dispatch.manage.differences import ABSENT, Step
from celery_dispatch.manage.keeping import Restored
from celery_dispatch.manage.schedule_words import schedule_words
from celery_dispatch.manage.words import counted
from celery_dispatch.redis_store.codec import printable

__all__ = ["Changes", "changes_document", "changes_view", "restored_document", "restored_view"]

_SIGNS = {Step.CREATE: ("+", "green"), Step.UPDATE: ("~", "yellow"), Step.DELETE: ("-", "red")}
_WORDS = {Step.CREATE: "created", Step.UPDATE: "changed", Step.DELETE: "removed", Step.KEEP: "unchanged"}


@dataclass(frozen=True, slots=True)
class Changes:
    """What was done, or with ``dry_run`` what would be."""

    plan: tuple[Planned, ...]
    dry_run: bool


def changes_document(changes: Changes) -> dict[str, Any]:
    """``{"dry_run", "created", "changed", "removed", "unchanged", "failed", "entries"}``."""
    return {
        "dry_run": changes.dry_run,
        **_counts(changes),
        "entries": [_entry(each) for each in changes.plan],
    }


def _counts(changes: Changes) -> dict[str, int]:
    counts = Counter(_WORDS[each.difference.step] for each in changes.plan if not each.error)
    failed = sum(bool(each.error) for each in changes.plan)
    return {**{word: counts[word] for word in _WORDS.values()}, "failed": failed}


def _entry(planned: Planned) -> dict[str, Any]:
    difference = planned.difference
    fields = [
        {"path": field.path, "before": _plain(field.before), "after": _plain(field.after)}
        for field in difference.fields
    ]
    return {
        "name": difference.name,
        "step": difference.step.value,
        "fields": fields,
        "error": planned.error or None,
    }


def _plain(value: Any) -> Any:
    return None if value is ABSENT else value


def changes_view(changes: Changes, width: int) -> RenderableType:
    """A line for what changes, a line below it for each field; what stays is only counted."""
    lines = [line for each in changes.plan for line in _lines(each)]
    counts = ", ".join(f"{count:,} {word}" for word, count in _counts(changes).items() if count)
    closing = f"{counts or 'Nothing is there to be done'}."
    if changes.dry_run:
        closing = f"Dry run, nothing was written: {closing}"
    return Group(*lines, Text(closing))


def _lines(planned: Planned) -> Iterator[Text]:
    difference = planned.difference
    if difference.step is Step.KEEP:
        return
    sign, style = _SIGNS[difference.step]
    definition = difference.after or difference.before or {}
    said = f"  {definition.get('task')}  {schedule_words(definition.get('schedule'))}"
    yield Text.assemble(
        (f"{sign} {printable(difference.name)}", style),
        printable(said) if difference.step is Step.CREATE else "",
    )
    for field in difference.fields:
        yield Text(f"    {printable(field.path)}: {_value(field.before)} -> {_value(field.after)}")
    if planned.error:
        yield Text(f"    not done: {printable(planned.error)}", style="bold red")


def _value(value: Any) -> str:
    return "-" if value is ABSENT else json.dumps(value)


# --- restore ------------------------------------------------------------------------------------------------


def restored_document(restored: Sequence[Restored]) -> dict[str, Any]:
    """``{"entries": [{"name", "row", "cursor", "error"}]}``: whether each was put back, or would be."""
    return {
        "entries": [
            {"name": each.name, "row": each.row, "cursor": each.cursor, "error": each.error or None}
            for each in restored
        ]
    }


def restored_view(restored: Sequence[Restored], width: int) -> RenderableType:
    """Counts, and a line for what cannot be put back."""
    rows, cursors = sum(each.row for each in restored), sum(each.cursor for each in restored)
    kept = sum(not (each.row or each.cursor or each.error) for each in restored)
    lines = [
        Text(f"{printable(each.name)}: {printable(each.error)}", style="bold red")
        for each in restored
        if each.error
    ]
    return Group(
        *lines,
        Text(
            f"Put back: {counted(rows, 'row')} of entries and pauses, {counted(cursors, 'cursor')}. "
            f"As they were: {counted(kept, 'entry')}."
        ),
    )
