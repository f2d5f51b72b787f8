"""The ``celery dispatch`` commands that change something: nodes, the pool's identity, cursors."""

from __future__ import annotations

from typing import Any

import click

from celery_dispatch.manage.command import Command, instant, json_option, option
from celery_dispatch.manage.output import WRONG, errors_shown, print_json

__all__ = ["adopt", "cursor", "drain", "undrain"]


# --- nodes --------------------------------------------------------------------------------------------------


@click.command(cls=Command)
@click.argument("node")
@option(
    "--force",
    is_flag=True,
    help="Even if no other node of its config is left: then nothing is fired until undrain.",
)
@json_option
@click.pass_context
def drain(ctx: click.Context, node: str, force: bool, as_json: bool) -> None:
    """Take NODE off the ring: it lives on, but fires nothing and has no vote.

    NODE is the id of a live node, the beginning of it that no other one shares, or its dispatch_node_name.
    """
    _drain(ctx, node, True, force=force, as_json=as_json)


@click.command(cls=Command)
@click.argument("node")
@json_option
@click.pass_context
def undrain(ctx: click.Context, node: str, as_json: bool) -> None:
    """Put NODE, which was drained, back on the ring."""
    _drain(ctx, node, False, force=False, as_json=as_json)


def _drain(ctx: click.Context, node: str, draining: bool, *, force: bool, as_json: bool) -> None:
    with errors_shown(as_json):
        from celery_dispatch.manage import connect, controls
        from celery_dispatch.manage.documents import drained_document

        with connect.open_pool(ctx.obj.app) as pool:
            drained = controls.drain(pool, node, draining, force=force)
        _show(drained_document(drained), drained.after, as_json=as_json)


# --- identity -----------------------------------------------------------------------------------------------


@click.command(cls=Command)
@option("--yes", is_flag=True, help="Do not ask.")
@option("--force", is_flag=True, help="Even if no beat of this app is alive to take over.")
@json_option
@click.pass_context
def adopt(ctx: click.Context, yes: bool, force: bool, as_json: bool) -> None:
    """Make the pool that of this app and its broker, now.

    For a pool that moves to another broker, or whose app was renamed: nodes of the old identity stand by from
    then on, and those of the new one take over with all cursors.
    """
    with errors_shown(as_json):
        if as_json and not yes:
            raise click.UsageError("--json cannot ask: add --yes.")
        from celery_dispatch.manage import connect, controls
        from celery_dispatch.manage.documents import adoption_document

        identity = connect.identity(ctx.obj.app)
        with connect.open_pool(ctx.obj.app) as pool:
            adoption = controls.read_adoption(pool, identity)
            if not as_json:
                click.echo(f"The pool is that of:  {adoption.before}\nThis app is:          {identity}")
            if adoption.is_change and not yes:
                click.confirm(
                    "Make the pool this app's? The nodes of the other stand by from then on.", abort=True
                )
            adoption = controls.adopt(pool, identity, force=force)
        done = "The pool is this app's now." if adoption.is_change else "It is the same: nothing was changed."
        _show(adoption_document(adoption), done, as_json=as_json)


# --- cursors ------------------------------------------------------------------------------------------------


@click.group()
def cursor() -> None:
    """Change the cursors of entries: where each goes on."""


@cursor.command(cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@option(
    "--to", callback=instant, metavar="DATETIME",
    help="An instant of the past with its zone, such as 2026-11-21T03:00:00Z; else now.",
)  # fmt: skip
@json_option
@click.pass_context
def reset(ctx: click.Context, names: tuple[str, ...], to: Any, as_json: bool) -> None:
    """Let each entry NAME go on from now, or from another instant of the past.

    It fires nothing itself.  The next due is the first one after that instant; where that is past, the
    entry's catch-up policy decides.  Definition and counts stay.
    """
    with errors_shown(as_json):
        from celery_dispatch.manage import connect, resets
        from celery_dispatch.manage.documents import resets_document
        from celery_dispatch.manage.words import clock_time

        with connect.open_sources(ctx.obj.app) as sources:
            done = resets.reset_cursors(sources, names, to=to)
        lines = []
        for each in done:
            was = f" It was at {clock_time(each.before)}." if each.before else ""
            goes_on = f"goes on from {clock_time(each.after)}.{was}" if each.after else each.error
            lines.append(f"{each.name}: {goes_on}")
        _show(resets_document(done), "\n".join(lines), as_json=as_json)
        ctx.exit(WRONG if any(each.error for each in done) else 0)


def _show(document: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        click.echo(text)
