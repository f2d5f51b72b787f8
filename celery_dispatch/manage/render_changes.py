"""What ``apply`` and ``restore`` change, for people and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from celery_dispatch.manage.differences import ABSENT, fields_of
from celery_dispatch.manage.keeping import Restored
from celery_dispatch.manage.schedule_words import schedule_words
from celery_dispatch.manage.words import counted
from celery_dispatch.redis_store.codec import printable
from celery_dispatch.schedules import Planned, Step

__all__ = ["Changes", "changes_document", "changes_view", "restored_document", "restored_view"]

_SIGNS = {Step.CREATE: ("+", "green"), Step.UPDATE: ("~", "yellow"), Step.DELETE: ("-", "red")}
_WORDS = {
    Step.CREATE: "created",
    Step.UPDATE: "changed",
    Step.DELETE: "removed",
    Step.KEEP: "unchanged",
    Step.OVER: "over",
}


@dataclass(frozen=True, slots=True)
class Changes:
    """What was done, or with ``dry_run`` what would be; ``errors`` say by name why a step was not taken."""

    steps: Sequence[Planned]
    errors: Mapping[str, str]
    dry_run: bool

    @property
    def by_name(self) -> list[Planned]:
        return sorted(self.steps, key=lambda each: each.name)


def changes_document(changes: Changes) -> dict[str, Any]:
    """``{"dry_run", "created", "changed", "removed", "unchanged", "over", "failed", "entries"}``."""
    return {
        "dry_run": changes.dry_run,
        **_counts(changes),
        "entries": [_entry(each, changes.errors.get(each.name)) for each in changes.by_name],
    }


def _counts(changes: Changes) -> dict[str, int]:
    counts = Counter(_WORDS[each.step] for each in changes.steps if each.name not in changes.errors)
    return {**{word: counts[word] for word in _WORDS.values()}, "failed": len(changes.errors)}


def _entry(planned: Planned, error: str | None) -> dict[str, Any]:
    fields = [
        {"path": field.path, "before": _plain(field.before), "after": _plain(field.after)}
        for field in fields_of(planned)
    ]
    return {"name": planned.name, "step": planned.step.value, "fields": fields, "error": error}


def _plain(value: Any) -> Any:
    return None if value is ABSENT else value


def changes_view(changes: Changes, width: int) -> RenderableType:
    """A line for what changes, a line below it for each field; what stays is only counted."""
    lines = [line for each in changes.by_name for line in _lines(each, changes.errors.get(each.name))]
    counts = ", ".join(f"{count:,} {word}" for word, count in _counts(changes).items() if count)
    closing = f"{counts or 'Nothing is there to be done'}."
    if changes.dry_run:
        closing = f"Dry run, nothing was written: {closing}"
    return Group(*lines, Text(closing))


def _lines(planned: Planned, error: str | None) -> Iterator[Text]:
    if planned.step not in _SIGNS:
        return
    sign, style = _SIGNS[planned.step]
    definition = planned.after or planned.before or {}
    said = f"  {definition.get('task')}  {schedule_words(definition.get('schedule'))}"
    yield Text.assemble(
        (f"{sign} {printable(planned.name)}", style),
        printable(said) if planned.step is Step.CREATE else "",
    )
    for field in fields_of(planned):
        yield Text(f"    {printable(field.path)}: {_value(field.before)} -> {_value(field.after)}")
    if error:
        yield Text(f"    not done: {printable(error)}", style="bold red")


def _value(value: Any) -> str:
    return "-" if value is ABSENT else json.dumps(value)


# --- restore ------------------------------------------------------------------------------------------------


def restored_document(restored: Sequence[Restored]) -> dict[str, Any]:
    """``{"entries": [{"name", "row", "cursor", "deleted", "error"}]}``: what was put back, or would be."""
    return {
        "entries": [
            {
                "name": each.name,
                "row": each.row,
                "cursor": each.cursor,
                "deleted": each.deleted,
                "error": each.error or None,
            }
            for each in restored
        ]
    }


def restored_view(restored: Sequence[Restored], width: int, *, dry_run: bool) -> RenderableType:
    """Counts, and a line for what cannot be put back, or stays deleted."""
    rows, cursors = sum(each.row for each in restored), sum(each.cursor for each in restored)
    kept = sum(not (each.row or each.cursor or each.error) for each in restored)
    lines = [
        Text(f"{printable(each.name)}: {printable(each.error)}", style="bold red")
        for each in restored
        if each.error
    ]
    lines += [
        Text(f"{printable(each.name)}: it was deleted since, and stays so; create it anew.", style="yellow")
        for each in restored
        if each.deleted
    ]
    done = "Dry run, nothing was written. To be put back" if dry_run else "Put back"
    counts = f"{counted(rows, 'row')} of entries and pauses, {counted(cursors, 'cursor')}"
    return Group(*lines, Text(f"{done}: {counts}. As they were: {counted(kept, 'entry')}."))
