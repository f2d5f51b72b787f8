"""What every ``celery dispatch`` command is made of; needs nothing that other Celery commands do not load."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import click
from celery.bin.base import CeleryCommand, CeleryOption

from celery_dispatch.manage.output import USAGE, print_json

__all__ = ["Command", "instant", "json_option", "option"]


class Command(CeleryCommand):
    """A command that answers in JSON also when it was called wrongly, if JSON was asked for."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        as_json = "--json" in args
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            if not as_json:
                raise
            print_json({"error": error.format_message(), "cure": f"See: celery dispatch {info_name} --help"})
            raise click.exceptions.Exit(USAGE) from error


def option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(*names, cls=CeleryOption, help_group="Dispatch Options", **settings)


json_option = option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def instant(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """The callback of an option that takes an instant with its zone."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no instant; write 2026-11-21T03:00:00Z.", ctx=ctx, param=param
        ) from None
    if moment.tzinfo is None:
        raise click.BadParameter(
            f"{value!r} has no time zone; write {moment.isoformat()}Z for UTC.", ctx=ctx, param=param
        )
    if moment.timestamp() < 0:
        raise click.BadParameter(f"{value!r} is before 1970; give a later instant.", ctx=ctx, param=param)
    return moment
