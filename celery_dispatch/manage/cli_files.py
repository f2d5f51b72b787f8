"""The ``celery dispatch`` commands that read and write whole schedules: apply, export, backup, restore."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TextIO

import click

from celery_dispatch.manage.command import Command, json_option, option
from celery_dispatch.manage.output import WRONG, errors_shown, print_json, show_report

__all__ = ["apply", "backup", "export", "restore"]


@click.command(cls=Command)
@option(
    "-f", "--file", "files", type=click.File(encoding="utf-8"), multiple=True, required=True, metavar="FILE",
    help="YAML or JSON; - is standard input; may be repeated.",
)  # fmt: skip
@option(
    "--label", "labels", multiple=True, metavar="KEY=VALUE",
    help="Give this label to every entry of the files; may be repeated.",
)  # fmt: skip
@option("--prune", is_flag=True, help="Remove the entries that have every --label and are in no file.")
@option("--dry-run", is_flag=True, help="Only show what would change.")
@option("--allow-unknown-task", is_flag=True, help="Even if this app has no such task.")
@json_option
@click.pass_context
def apply(
    ctx: click.Context,
    files: tuple[TextIO, ...],
    labels: tuple[str, ...],
    prune: bool,
    dry_run: bool,
    allow_unknown_task: bool,
    as_json: bool,
) -> None:
    """Make the entries that were created at run time those of the files.

    New ones are created, others changed where they differ; a second run changes nothing. What stands in no
    file stays, unless it is pruned. Pauses stay as they are. What is to be removed when it is completed, and
    is never due any more, is not created again. If anything in the files is wrong, nothing is written.
    """
    with errors_shown(as_json):
        if prune and not labels:
            raise click.UsageError("--prune needs a --label: it removes only what has it.")
        from celery_dispatch.manage import applying, render_changes
        from celery_dispatch.manage.asked_for import labels_of
        from celery_dispatch.manage.declared import read_together
        from celery_dispatch.schedules import Schedules

        given = read_together((file.name, file.read()) for file in files)
        with Schedules(ctx.obj.app) as schedules:
            asked = applying.Asked(
                given, labels_of(labels), prune=prune, allow_unknown_task=allow_unknown_task
            )
            plan = applying.planned(schedules, asked)
            errors = {} if dry_run else applying.carried_out(plan)
        report = render_changes.Changes(plan.steps, errors, dry_run=dry_run)
        show_report(
            ctx,
            report,
            as_json=as_json,
            document=render_changes.changes_document,
            view=render_changes.changes_view,
        )
        ctx.exit(WRONG if errors else 0)


@click.command(cls=Command)
@option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only those with it; may be repeated.")
@option("--name", metavar="GLOB", help="Only those whose names match.")
@option("--config", is_flag=True, help="Those of beat_schedule too.")
@option(
    "--format", "form", type=click.Choice(("yaml", "json", "beat")), default="yaml", show_default=True,
    help="yaml and json are what apply reads; beat is a Python module for stock beat.",
)  # fmt: skip
@click.pass_context
def export(ctx: click.Context, labels: tuple[str, ...], name: str | None, config: bool, form: str) -> None:
    """Print the entries that were created at run time, as a file."""
    with errors_shown(False):
        from celery_dispatch.manage import applying
        from celery_dispatch.manage.asked_for import labels_of
        from celery_dispatch.manage.declared import as_json, as_yaml
        from celery_dispatch.manage.stock_form import as_beat_schedule
        from celery_dispatch.schedules import Schedules

        write = {"yaml": as_yaml, "json": as_json, "beat": as_beat_schedule}[form]
        with Schedules(ctx.obj.app) as schedules:
            found = applying.definitions(
                schedules, labels=labels_of(labels), pattern=name, with_config=config
            )
        click.echo(write(found), nl=False)


@click.command(cls=Command)
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@json_option
@click.pass_context
def backup(ctx: click.Context, path: Path, as_json: bool) -> None:
    """Write the entries created at run time, all pauses and all cursors to the file PATH."""
    with errors_shown(as_json):
        from celery_dispatch.manage import connect_data, keeping
        from celery_dispatch.redis_store.codec import printable

        with connect_data.open_kept(ctx.obj.app) as kept:
            document = keeping.read_backup(kept)
        keeping.write_file(path, document)
        counts = {"entries": len(document["entries"]), "cursors": len(document["cursors"])}
        damaged = sorted({*document["damaged"]["entries"], *document["damaged"]["cursors"]})
        if as_json:
            print_json({"path": str(path), **counts, "damaged": damaged})
            return
        for name in damaged:
            click.echo(f"{printable(name)!r} cannot be read in Redis; it is kept as its text.", err=True)
        click.echo(f"{path}: {counts['entries']:,} entries and pauses, {counts['cursors']:,} cursors.")


@click.command(cls=Command)
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@option("--dry-run", is_flag=True, help="Only show what would be put back.")
@option("--from-now", is_flag=True, help="Make up for nothing that was due since the backup.")
@json_option
@click.pass_context
def restore(ctx: click.Context, path: Path, dry_run: bool, from_now: bool, as_json: bool) -> None:
    """Put back what the backup in the file PATH has and the pool has not.

    Nothing that the pool has is overwritten: what was changed or fired since the backup stays. What was due
    since then is made up for by each entry's catch-up policy.
    """
    with errors_shown(as_json):
        from celery_dispatch.manage import connect_data, keeping, render_changes

        document = keeping.read_file(path)
        with connect_data.open_kept(ctx.obj.app) as kept:
            restored = keeping.restore(kept, document, dry_run=dry_run, from_now=from_now)
        show_report(
            ctx,
            restored,
            as_json=as_json,
            document=render_changes.restored_document,
            view=partial(render_changes.restored_view, dry_run=dry_run),
        )
        ctx.exit(WRONG if any(each.error for each in restored) else 0)
