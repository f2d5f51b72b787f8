"""What every ``celery dispatch`` command is made of; needs nothing that other Celery commands do not load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from celery.bin.base import CeleryCommand, CeleryOption

from celery_dispatch.manage.output import USAGE, print_json

__all__ = ["Command", "json_option", "option"]


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
