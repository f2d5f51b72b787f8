"""How an answer or an error leaves the process: as a document or for people, and with which exit status."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = [
    "UNREACHABLE",
    "USAGE",
    "WRONG",
    "UnknownEntry",
    "errors_shown",
    "open_console",
    "print_json",
    "show_report",
]

Report = TypeVar("Report")

WRONG, USAGE, UNREACHABLE = 1, 2, 3  # exit statuses beside 0
_UNLIMITED = 1000  # columns where nobody looks at a terminal


class UnknownEntry(Exception):
    """No entry has this name; says which ones come close."""


def show_report(
    ctx: click.Context,
    report: Report,
    *,
    as_json: bool,
    document: Callable[[Report], dict[str, Any]],
    view: Callable[[Report, int], RenderableType],
) -> None:
    """Print a report as its document or as its view, fitted to the terminal."""
    if as_json:
        print_json(document(report))
    else:
        console = open_console(ctx)
        console.print(view(report, console.width))


def print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document, indent=2 if sys.stdout.isatty() else None))


def open_console(ctx: click.Context) -> Console:
    """Colours and cut columns on a terminal only; a pipe gets whole lines."""
    from rich.console import Console

    stream = sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    terminal = stream.isatty()
    return Console(
        file=stream,
        no_color=ctx.obj.no_color or None,
        width=None if terminal else _UNLIMITED,
        highlight=False,
        emoji=False,
        markup=False,
    )


@contextmanager
def errors_shown(as_json: bool) -> Iterator[None]:
    """Every foreseen error becomes one line with its cure, and the exit status that the group documents.

    Meanwhile the log of this package is silent: what it would say is part of the answer.
    """
    from celery_dispatch.address import NAMED_BY
    from celery_dispatch.errors import (
        ConfigError,
        EntryError,
        ScheduleError,
        StoreRefused,
        StoreUnavailable,
    )
    from celery_dispatch.manage.controls import ControlError
    from celery_dispatch.manage.words import sentence

    log = logging.getLogger("celery_dispatch")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    except UnknownEntry as error:
        _fail(as_json, WRONG, *error.args)
    except ControlError as error:
        _fail(as_json, WRONG, str(error), error.cure)
    except ScheduleError as error:
        _fail(as_json, WRONG, sentence(str(error)), "Nothing was written.")
    except EntryError as error:
        _fail(as_json, USAGE, sentence(str(error)), "Nothing was written.")
    except ConfigError as error:
        _fail(as_json, USAGE, str(error), "Correct the configuration of the app.")
    except StoreRefused as error:
        _fail(as_json, USAGE, str(error), "Correct the settings or the rights in Redis.")
    except StoreUnavailable as error:
        _fail(as_json, UNREACHABLE, str(error), f"Is Redis running, and does {NAMED_BY} name it?")
    except click.UsageError as error:
        if not as_json:
            raise
        _fail(as_json, USAGE, error.format_message(), "See: celery dispatch --help.")
    finally:
        log.setLevel(level)


def _fail(as_json: bool, code: int, error: str, cure: str) -> NoReturn:
    if as_json:
        print_json({"error": error, "cure": cure})
    else:
        click.echo(f"Error: {' '.join(error.split())} {cure}", err=True)
    raise click.exceptions.Exit(code)
