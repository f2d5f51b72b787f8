"""The ``celery dispatch import`` commands: moving in from another scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from celery_dispatch.manage.command import Command, json_option, option
from celery_dispatch.manage.output import WRONG, errors_shown, show_report

if TYPE_CHECKING:
    import redis

    from celery_dispatch.manage.moving.found import Found

__all__ = ["import_"]


@click.group("import")
def import_() -> None:
    """Move in from another scheduler, so that the first fire here is its next one.

    Stop it first: what it sends afterwards is not known here. An entry that beat_schedule has takes over the
    last run only; others are created as entries of their own. An import may be repeated.
    """


def _moving(command: Callable[..., Any]) -> Callable[..., Any]:
    for each in (
        click.pass_context,
        json_option,
        option("--allow-unknown-task", is_flag=True, help="Even if this app has no such task."),
        option("--dry-run", is_flag=True, help="Only show what would become of each entry."),
    ):
        command = each(command)
    return command


@import_.command("redbeat", cls=Command)
@option("--url", metavar="URL", help="RedBeat's Redis; redbeat_redis_url, or the broker, if left out.")
@option("--prefix", metavar="TEXT", help="RedBeat's redbeat_key_prefix, if the settings do not name it.")
@_moving
def redbeat(ctx: click.Context, url: str | None, prefix: str | None, **moving: Any) -> None:
    """Move in what RedBeat keeps in Redis."""
    with errors_shown(moving["as_json"]):
        from celery_dispatch.manage import connect_data
        from celery_dispatch.manage.moving.redbeat import read_redbeat

        with connect_data.open_redbeat(ctx.obj.app, url=url, prefix=prefix) as (client, used):
            _move(ctx, list(_read(read_redbeat, client, used)), **moving)


def _read(
    read: Callable[[redis.Redis, str], Iterable[Found]], client: redis.Redis, prefix: str
) -> Iterable[Found]:
    from celery_dispatch.manage.controls import ControlError

    found = list(read(client, prefix))
    if not found:
        raise ControlError(
            f"There is no RedBeat schedule {prefix + ':schedule'!r} in that Redis.",
            "Name RedBeat's Redis with --url, and its redbeat_key_prefix with --prefix.",
        )
    return found


@import_.command("django-celery-beat", cls=Command)
@_moving
def django_celery_beat(ctx: click.Context, **moving: Any) -> None:
    """Move in the periodic tasks of django-celery-beat, read through your Django."""
    with errors_shown(moving["as_json"]):
        from celery_dispatch.manage.moving.django_beat import read_django_beat

        _move(ctx, list(read_django_beat()), **moving)


@import_.command("beat-file", cls=Command)
@click.argument("path", type=click.Path(dir_okay=False))
@_moving
def beat_file(ctx: click.Context, path: str, **moving: Any) -> None:
    """Move in the schedule file PATH of a stock beat.

    The file holds pickles, and reading them runs code that they name: give a file that your own beat wrote,
    and nothing else.
    """
    with errors_shown(moving["as_json"]):
        from celery_dispatch.manage.moving.stock import read_stock

        _move(ctx, list(read_stock(path)), **moving)


def _move(
    ctx: click.Context, found: list[Found], *, dry_run: bool, allow_unknown_task: bool, as_json: bool
) -> None:
    from celery_dispatch.manage import connect_data, render_moves
    from celery_dispatch.manage.moving.importing import Step

    with connect_data.open_importer(ctx.obj.app, allow_unknown_task=allow_unknown_task) as importer:
        moves = importer.plan(found)
        if not dry_run:
            moves = importer.carry_out(moves)
    report = render_moves.Moves(moves, dry_run=dry_run)
    show_report(
        ctx,
        report,
        as_json=as_json,
        document=render_moves.moves_document,
        view=render_moves.moves_view,
    )
    ctx.exit(WRONG if any(move.step is Step.REFUSE for move in moves) else 0)
