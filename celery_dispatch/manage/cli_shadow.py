"""``celery dispatch shadow``."""

from __future__ import annotations

from datetime import datetime

import click

from celery_dispatch.manage.command import Command, instant, json_option, option
from celery_dispatch.manage.output import errors_shown, show_report

__all__ = ["shadow"]


@click.command(cls=Command)
@click.argument("name", required=False)
@option(
    "--since", callback=instant, metavar="DATETIME",
    help="Only what was due from this instant on, such as 2026-11-21T03:00:00Z.",
)  # fmt: skip
@option("--until", callback=instant, metavar="DATETIME", help="Only what was due until this instant.")
@json_option
@click.pass_context
def shadow(
    ctx: click.Context, name: str | None, since: datetime | None, until: datetime | None, as_json: bool
) -> None:
    """Show what would have been fired by beats that run with dispatch_shadow = True.

    Each entry with how often and how late; with NAME every due of that entry.
    """
    with errors_shown(as_json):
        from celery_dispatch.manage import connect, render_shadow, shadowed

        with connect.open_client(ctx.obj.app) as (client, keys):
            report = shadowed.read_shadow(client, keys, name=name, since=since, until=until)
        show_report(
            ctx,
            report,
            as_json=as_json,
            document=render_shadow.shadow_document,
            view=render_shadow.shadow_view,
        )
