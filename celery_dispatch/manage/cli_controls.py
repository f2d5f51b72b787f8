"""The ``celery dispatch`` commands that hold entries up, or fire them out of turn."""

from __future__ import annotations

import getpass
from datetime import datetime
from typing import TYPE_CHECKING

import click

from celery_dispatch.manage.command import Command, instant, json_option, option
from celery_dispatch.manage.output import errors_shown, print_json

if TYPE_CHECKING:
    from celery_dispatch.manage.each import Done

__all__ = ["backfill", "pause", "resume", "run"]


# --- pauses -------------------------------------------------------------------------------------------------


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="NAME...")
@option("--all", "everything", is_flag=True, help="All entries at once, for an incident.")
@option("--note", default="", metavar="TEXT", help="Why, for whoever looks.")
@option("--author", metavar="TEXT", help="Who; the user of this shell, if left out.")
@json_option
@click.pass_context
def pause(
    ctx: click.Context, names: tuple[str, ...], everything: bool, note: str, author: str | None, as_json: bool
) -> None:
    """Pause each entry NAME, of beat_schedule too, or --all of them.

    Once this returns, nothing of it is fired. What it is due for meanwhile is passed over and counted as
    skipped, and a deploy does not end the pause.
    """
    with errors_shown(as_json):
        _need_one_of(names, everything)
        from celery_dispatch.manage import each
        from celery_dispatch.schedules import Schedules

        who = _user() if author is None else author
        with Schedules(ctx.obj.app) as schedules:
            if everything:
                schedules.pause_all(note=note, author=who)
                done: tuple[Done, ...] = (each.Done(each.ALL, "paused"),)
            else:
                done = each.carried_out(
                    names, lambda name: schedules.pause(name, note=note, author=who), "paused"
                )
        each.show(ctx, done, as_json=as_json)


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="NAME...")
@option(
    "--all", "everything", is_flag=True, help="End the pause of all; those with one of their own stay so."
)
@json_option
@click.pass_context
def resume(ctx: click.Context, names: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """End the pause of each entry NAME, or that of --all; it is next due after now."""
    with errors_shown(as_json):
        _need_one_of(names, everything)
        from celery_dispatch.manage import each
        from celery_dispatch.schedules import Schedules

        with Schedules(ctx.obj.app) as schedules:
            if everything:
                schedules.resume_all()
                done: tuple[Done, ...] = (each.Done(each.ALL, "resumed"),)
            else:
                done = each.carried_out(names, schedules.resume, "resumed")
        each.show(ctx, done, as_json=as_json)


def _need_one_of(names: tuple[str, ...], everything: bool) -> None:
    if bool(names) == everything:
        raise click.UsageError("Give the NAME of an entry, or --all.")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user that has no name
        return ""


# --- out of turn --------------------------------------------------------------------------------------------


@click.command(cls=Command)
@click.argument("name")
@json_option
@click.pass_context
def run(ctx: click.Context, name: str, as_json: bool) -> None:
    """Fire the entry NAME now, once, beside its schedule; also while it is paused.

    The message is published by this command, with an id of its own.
    """
    with errors_shown(as_json):
        from celery_dispatch.schedules import Schedules

        with Schedules(ctx.obj.app) as schedules:
            fired = schedules.run_now(name)
        if as_json:
            print_json({"name": name, "task_id": fired.task_id})
        else:
            click.echo(f"{name}: sent as task {fired.task_id}.")


@click.command(cls=Command)
@click.argument("name")
@option("--start", callback=instant, required=True, metavar="DATETIME", help="From this instant on.")
@option("--end", callback=instant, required=True, metavar="DATETIME", help="Until this instant.")
@option("--rate", type=float, default=10.0, show_default=True, metavar="N", help="At most N a second.")
@option("--dry-run", is_flag=True, help="Only say how many there are.")
@option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def backfill(
    ctx: click.Context,
    name: str,
    start: datetime,
    end: datetime,
    rate: float,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Fire every occurrence of the entry NAME that was due in a time of the past.

    How many there are is shown first. Each message has the header dispatch_backfill, and an id that is the
    same when the backfill is repeated.
    """
    with errors_shown(as_json):
        if as_json and not (yes or dry_run):
            raise click.UsageError("--json cannot ask: add --yes or --dry-run.")
        from celery_dispatch.celery_bridge.moments import rfc3339
        from celery_dispatch.manage.words import clock_time, counted
        from celery_dispatch.schedules import Schedules

        with Schedules(ctx.obj.app) as schedules:
            found = schedules.backfill(name, start=start, end=end)
            if not as_json:
                span = f"from {clock_time(start)} to {clock_time(end)}"
                click.echo(f"{name} was due {counted(found.count, 'time')} {span}.")
            sends = bool(found.count) and not dry_run
            if sends and not yes:
                click.confirm(f"Send {counted(found.count, 'message')}, {rate:g} a second?", abort=True)
            sent = found.run(rate=rate) if sends else 0
        if as_json:
            bounds = {"start": rfc3339(start), "end": rfc3339(end)}
            print_json({"name": name, **bounds, "count": found.count, "sent": sent})
        elif sends:
            click.echo(f"Sent {counted(sent, 'message')}.")
