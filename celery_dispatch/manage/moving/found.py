"""What a reader found in the store of another scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["Found", "carried_datetime"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One entry of another scheduler.

    ``definition`` is the document of an entry, ``None`` where it cannot be carried over: ``refusal`` says
    why.  ``last_run`` is when the other scheduler last sent it, aware; ``since`` is when it began to count,
    for one that it never sent.  ``runs`` is how often it did.  ``paused``: it is disabled there.  ``notes``
    say what of it is different here, or could not be carried over.
    """

    name: str
    definition: Mapping[str, Any] | None = None
    last_run: datetime | None = None
    since: datetime | None = None
    runs: int = 0
    paused: bool = False
    notes: tuple[str, ...] = ()
    refusal: str = ""


def carried_datetime(moment: datetime) -> dict[str, str]:
    """A date and time among the arguments of a task, in the form that kombu gives it in a JSON message.

    A worker makes a datetime of it again, just as when the other scheduler had sent it.
    """
    return {"__type__": "datetime", "__value__": moment.isoformat()}
