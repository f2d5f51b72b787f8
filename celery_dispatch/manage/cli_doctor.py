"""``celery dispatch doctor``."""

from __future__ import annotations

import click

from celery_dispatch.manage.command import Command, json_option
from celery_dispatch.manage.output import errors_shown, show_report

__all__ = ["doctor"]


@click.command(cls=Command)
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Look for everything that is wrong, or could be: each with evidence and cure.

    Run it where a beat runs, with its code and settings. It writes nothing.

    Exits with 0 if it finds nothing or notes only, 1 with warnings, 2 with errors.
    """
    with errors_shown(as_json):
        from celery_dispatch.errors import ConfigError
        from celery_dispatch.manage import connect
        from celery_dispatch.manage.doctor import examine, reader, render

        try:
            with connect.open_consulted(ctx.obj.app) as consulted:
                diagnosis = examine.examine(reader.read_snapshot(consulted))
        except ConfigError as error:
            diagnosis = examine.unusable_settings(error)
        show_report(
            ctx,
            diagnosis,
            as_json=as_json,
            document=render.diagnosis_document,
            view=render.diagnosis_view,
        )
        ctx.exit(render.exit_status(diagnosis))
