"""One thing done to several entries: each is done or not, and says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from celery_dispatch.errors import DispatchError, StoreError
from celery_dispatch.manage.output import WRONG, print_json
from celery_dispatch.redis_store.codec import printable

__all__ = ["ALL", "Done", "carried_out", "show"]

#: Stands for the name where all entries were asked for.
ALL = "--all"


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one entry; ``error`` says why nothing did."""

    name: str
    done: str = ""
    error: str = ""


def carried_out(names: Sequence[str], act: Callable[[str], object], done: str) -> tuple[Done, ...]:
    """``act`` on each; what is wrong with one does not stop the others.  Raises ``StoreError``."""
    results = []
    for name in dict.fromkeys(names):
        try:
            act(name)
        except StoreError:
            raise
        except DispatchError as error:
            results.append(Done(name, error=str(error)))
        else:
            results.append(Done(name, done))
    return tuple(results)


def show(ctx: click.Context, results: Sequence[Done], *, as_json: bool) -> None:
    """Print them, and end with the exit status that fits."""
    if as_json:
        print_json({"entries": [_document(result) for result in results]})
    else:
        for result in results:
            name = "All entries" if result.name == ALL else result.name
            click.echo(f"{printable(name)}: {printable(result.error or result.done)}")
    ctx.exit(WRONG if any(result.error for result in results) else 0)


def _document(result: Done) -> dict[str, Any]:
    return {"name": result.name, "done": result.done or None, "error": result.error or None}
