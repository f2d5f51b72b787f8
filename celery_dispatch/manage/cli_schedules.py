"""The ``celery dispatch`` commands for schedules as data: list, add, edit, remove, preview."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from celery_dispatch.manage.command import Command, json_option, option
from celery_dispatch.manage.output import errors_shown, show_report

if TYPE_CHECKING:
    from celery_dispatch.manage.asked_for import Asked
    from celery_dispatch.schedules import Schedule

__all__ = ["add", "edit", "list_", "preview", "remove"]

_STATES = ("scheduled", "paused", "completed", "shadowed", "broken")


@click.command("list", cls=Command)
@option("--name", metavar="GLOB", help="Only those whose names match.")
@option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only those with it; may be repeated.")
@option("--state", type=click.Choice(_STATES), help="Only those in this state.")
@option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@option("--after", metavar="NAME", help="From the one after this name on.")
@json_option
@click.pass_context
def list_(
    ctx: click.Context,
    name: str | None,
    labels: tuple[str, ...],
    state: str | None,
    limit: int,
    after: str | None,
    as_json: bool,
) -> None:
    """List the schedules of beat_schedule and those created at run time, by name."""
    with errors_shown(as_json):
        from celery_dispatch.manage import render_schedules
        from celery_dispatch.manage.asked_for import labels_of
        from celery_dispatch.schedules import Schedules

        with Schedules(ctx.obj.app) as schedules:
            page = schedules.list(
                labels=labels_of(labels) or None, pattern=name, state=state, limit=limit, after=after
            )
            listing = render_schedules.Listing(page, schedules.paused_all)
        show_report(
            ctx,
            listing,
            as_json=as_json,
            document=render_schedules.listing_document,
            view=render_schedules.listing_view,
        )


def _definition_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what an entry is; together they are an ``Asked``."""
    for each in reversed(
        (
            option("--task", metavar="NAME", help="The task that is sent."),
            option("--every", type=float, metavar="SECONDS", help="Every so many seconds."),
            option("--crontab", metavar="FIELDS", help="Celery's crontab: 'm h day-of-month month weekday'."),
            option("--cron", metavar="EXPRESSION", help="Five fields, or six with seconds first; @daily …"),
            option("--at", metavar="DATETIME", help="Once, at this instant with its zone."),
            option("--rrule", metavar="RULE", help="A rule of RFC 5545, such as FREQ=MONTHLY;BYDAY=-1FR."),
            option("--schedule", metavar="JSON", help="Any schedule as its document."),
            option("--timezone", metavar="ZONE", help="The zone of the schedule, such as Europe/Paris."),
            option("--args", metavar="JSON", help="Positional arguments: an array."),
            option("--kwargs", metavar="JSON", help="Keyword arguments: an object."),
            option(
                "--set", "sets", multiple=True, metavar="PATH=VALUE",
                help="Any other field, such as options.queue=reports or dispatch.jitter=5; may be repeated.",
            ),
        )
    ):  # fmt: skip
        command = each(command)
    return command


def _asked(given: dict[str, Any]) -> Asked:
    from celery_dispatch.manage.asked_for import Asked

    return Asked(**given)


def _show(ctx: click.Context, schedule: Schedule, as_json: bool) -> None:
    from celery_dispatch.manage.render_schedules import schedule_document, schedule_view

    show_report(ctx, schedule, as_json=as_json, document=schedule_document, view=schedule_view)


_unknown_task = option("--allow-unknown-task", is_flag=True, help="Even if this app has no such task.")


@click.command(cls=Command)
@click.argument("name")
@_definition_options
@_unknown_task
@json_option
@click.pass_context
def add(ctx: click.Context, /, name: str, allow_unknown_task: bool, as_json: bool, **given: Any) -> None:
    """Create the entry NAME while the beats run; it is first due after now."""
    with errors_shown(as_json):
        from celery_dispatch.manage.asked_for import changed
        from celery_dispatch.manage.controls import ControlError
        from celery_dispatch.schedules import Schedules

        wanted = changed({}, _asked(given))
        if "task" not in wanted or "schedule" not in wanted:
            raise ControlError(
                "An entry needs a task and a schedule.",
                "Give --task, and one of --every, --crontab, --cron, --at, --rrule and --schedule.",
            )
        with Schedules(ctx.obj.app) as schedules:
            made = schedules.create(name, **wanted, allow_unknown_task=allow_unknown_task)
        _show(ctx, made, as_json)


@click.command(cls=Command)
@click.argument("name")
@_definition_options
@option("--unset", "unsets", multiple=True, metavar="PATH", help="Take this field away; may be repeated.")
@option("--version", type=int, metavar="N", help="Only if it is still at this version.")
@_unknown_task
@json_option
@click.pass_context
def edit(
    ctx: click.Context,
    /,
    name: str,
    version: int | None,
    allow_unknown_task: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Change the entry NAME, which was created at run time; what is not given stays.

    It is compared with what was read: if somebody else changes it meanwhile, nothing is written.
    """
    with errors_shown(as_json):
        from celery_dispatch.manage.editing import edited
        from celery_dispatch.schedules import Schedules

        with Schedules(ctx.obj.app) as schedules:
            made = edited(
                schedules, name, _asked(given), version=version, allow_unknown_task=allow_unknown_task
            )
        _show(ctx, made, as_json)


@click.command(cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@option("--version", type=int, metavar="N", help="Only if it is still at this version; for one NAME.")
@json_option
@click.pass_context
def remove(ctx: click.Context, names: tuple[str, ...], version: int | None, as_json: bool) -> None:
    """Remove each entry NAME, which was created at run time.

    Once this returns, it is never fired again.
    """
    with errors_shown(as_json):
        if version is not None and len(names) > 1:
            raise click.UsageError("--version goes with one NAME.")
        from celery_dispatch.manage import each
        from celery_dispatch.schedules import Schedules

        with Schedules(ctx.obj.app) as schedules:
            done = each.carried_out(names, lambda name: schedules.delete(name, version=version), "removed")
        each.show(ctx, done, as_json=as_json)


@click.command(cls=Command)
@click.argument("name", required=False)
@_definition_options
@option("-n", "count", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many.")
@json_option
@click.pass_context
def preview(ctx: click.Context, /, name: str | None, count: int, as_json: bool, **given: Any) -> None:
    """Show when an entry will be due and fired: the entry NAME, or one that does not exist yet.

    With NAME and options, as the entry would be with these changes.
    """
    with errors_shown(as_json):
        from celery_dispatch.manage import render_schedules
        from celery_dispatch.manage.editing import previewed
        from celery_dispatch.schedules import Schedules

        with Schedules(ctx.obj.app) as schedules:
            report = previewed(schedules, name, _asked(given), count=count)
        show_report(
            ctx,
            report,
            as_json=as_json,
            document=render_schedules.preview_document,
            view=render_schedules.preview_view,
        )
