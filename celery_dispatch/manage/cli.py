"""``celery dispatch …``: the group of commands.

Celery imports this module with every one of its commands, so what is not needed to parse is imported where
it is used.
"""

from __future__ import annotations

from typing import Any

import click
from celery.bin.base import handle_preload_options

from celery_dispatch.manage import (
    cli_changing,
    cli_controls,
    cli_doctor,
    cli_files,
    cli_import,
    cli_reading,
    cli_schedules,
    cli_shadow,
)

__all__ = ["dispatch"]


@click.group()
@click.pass_context
@handle_preload_options
def dispatch(ctx: click.Context, **kwargs: Any) -> None:
    """See what the beats of celery-dispatch are doing, and change it.

    Every command takes --json and then prints one JSON document to standard output; an error is
    {"error": ..., "cure": ...}.

    \b
    Exit status:
      0  fine
      1  something is wrong: status shows an error, a probe says unhealthy, no such entry or node
      2  wrong usage or configuration
      3  Redis cannot be reached
    doctor alone: 0 nothing, or notes only; 1 warnings; 2 errors
    """


for _command in (
    cli_reading.status,
    cli_doctor.doctor,
    cli_reading.nodes,
    cli_reading.entries,
    cli_reading.show,
    cli_reading.next_,
    cli_reading.health,
    cli_shadow.shadow,
    cli_schedules.list_,
    cli_schedules.preview,
    cli_schedules.add,
    cli_schedules.edit,
    cli_schedules.remove,
    cli_controls.pause,
    cli_controls.resume,
    cli_controls.run,
    cli_controls.backfill,
    cli_files.apply,
    cli_files.export,
    cli_files.backup,
    cli_files.restore,
    cli_import.import_,
    cli_changing.drain,
    cli_changing.undrain,
    cli_changing.adopt,
    cli_changing.cursor,
):
    dispatch.add_command(_command)
