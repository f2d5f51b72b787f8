"""The ``celery dispatch`` commands that only read: each calls an operation and shows its answer.

What is not needed to parse is imported where it is used: Celery imports this with every one of its commands.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from celery_dispatch.manage.command import Command, json_option, option
from celery_dispatch.manage.output import (
    WRONG,
    UnknownEntry,
    errors_shown,
    open_console,
    print_json,
    show_report,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from celery_dispatch.manage.operations import Sources
    from celery_dispatch.manage.reports import EntryDetail, EntryState

__all__ = ["entries", "health", "next_", "nodes", "show", "status"]

_WATCH_EVERY = 1.0  # seconds


@click.command(cls=Command)
@option("--watch", is_flag=True, help="Refresh until Ctrl-C.")
@json_option
@click.pass_context
def status(ctx: click.Context, watch: bool, as_json: bool) -> None:
    """Show the pool, the shares of entries, the lag and what is wrong.

    Exits with 1 if something is in error; warnings alone leave it at 0.
    """
    with errors_shown(as_json):
        if watch and (as_json or not sys.stdout.isatty()):
            raise click.UsageError("--watch needs a terminal and excludes --json.")
        from celery_dispatch.manage import connect, documents, operations, render

        with connect.open_sources(ctx.obj.app) as sources:
            if watch:
                _watch(open_console(ctx), sources)
                return
            report = operations.read_status(sources)
        show_report(ctx, report, as_json=as_json, document=documents.status_document, view=render.status_view)
        ctx.exit(0 if report.is_fine else WRONG)


@click.command(cls=Command)
@json_option
@click.pass_context
def nodes(ctx: click.Context, as_json: bool) -> None:
    """Show every node of the pool."""
    with errors_shown(as_json):
        from celery_dispatch.manage import connect, documents, operations, render

        with connect.open_pool(ctx.obj.app) as pool:
            report = operations.read_pool(pool)
        show_report(ctx, report, as_json=as_json, document=documents.nodes_document, view=render.nodes_view)


def _states(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> frozenset[EntryState]:
    from celery_dispatch.manage.reports import EntryState

    known = {state.value: state for state in EntryState}
    for word in value:
        if word not in known:
            raise click.BadParameter(f"{word!r} is none of {', '.join(known)}.", ctx=ctx, param=param)
    return frozenset(known[word] for word in value)


@click.command(cls=Command)
@option("--node", metavar="TEXT", help="Only those that a node like TEXT owns or stands by for.")
@option("--name", metavar="TEXT", help="Only those named like TEXT: a part of the name, or a glob.")
@option(
    "--state", multiple=True, callback=_states, metavar="STATE",
    help="Only those in this state, such as overdue or error; may be repeated.",
)  # fmt: skip
@option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, help="At most so many; 0 for all."
)
@json_option
@click.pass_context
def entries(
    ctx: click.Context,
    node: str | None,
    name: str | None,
    state: frozenset[EntryState],
    limit: int,
    as_json: bool,
) -> None:
    """List the entries by name, each with its next due, owner and state.

    \b
    States:
      scheduled         its next due is to come
      due               its due has come, and the handover is not over yet
      overdue           nobody fired it within lease and handover
      waiting           no node owns it
      polled            its schedule cannot tell the next due
      not-anchored      no node has taken it up yet
      error             cannot be scheduled, rendered or routed
      damaged           its row in Redis is not a cursor
      ahead             its cursor is in the future
      other-definition  the config in force defines it differently from this one
      not-here          it has a cursor, but this config does not have it
      tombstone         it left the config
    """
    with errors_shown(as_json):
        from celery_dispatch.manage import connect, documents, operations, render_entries

        wanted = operations.EntryFilter(node=node, name=name, states=state, limit=limit)
        with connect.open_sources(ctx.obj.app) as sources:
            report = operations.read_entries(sources, wanted)
        show_report(
            ctx,
            report,
            as_json=as_json,
            document=documents.entries_document,
            view=render_entries.entries_view,
        )


@click.command(cls=Command)
@click.argument("name")
@json_option
@click.pass_context
def show(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show everything of the entry NAME."""
    with errors_shown(as_json):
        from celery_dispatch.manage import documents, render_entries

        detail = _entry(ctx, name, dues=5)
        show_report(
            ctx, detail, as_json=as_json, document=documents.entry_document, view=render_entries.entry_view
        )


@click.command("next", cls=Command)
@click.argument("name")
@option("-n", "count", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many.")
@json_option
@click.pass_context
def next_(ctx: click.Context, name: str, count: int, as_json: bool) -> None:
    """Show when the entry NAME is due next."""
    with errors_shown(as_json):
        from celery_dispatch.manage import documents, render_entries

        dues = _entry(ctx, name, dues=count).dues
        show_report(
            ctx, dues, as_json=as_json, document=documents.dues_document, view=render_entries.dues_view
        )


@click.command(cls=Command)
@option("--live", is_flag=True, help="Do the loops of this host's nodes turn? Asks nothing of Redis.")
@option("--ready", is_flag=True, help="Are this host's nodes in the pool, and do their heartbeats come?")
@json_option
@click.pass_context
def health(ctx: click.Context, live: bool, ready: bool, as_json: bool) -> None:
    """Answer a probe with one line and the exit status.

    Run it on the host (in the container) of the beat, as the same user. Exits with 0 if healthy, else 1.
    """
    with errors_shown(as_json):
        if live == ready:
            raise click.UsageError("Give exactly one of --live and --ready.")
        from celery_dispatch.manage import health as probes

        directory = probes.directory_of(ctx.obj.app)
        if live:
            answer = probes.live(directory)
        else:
            from celery_dispatch.manage import connect

            with connect.open_pool(ctx.obj.app) as pool:
                answer = probes.ready(directory, pool)
        if as_json:
            from celery_dispatch.manage.documents import health_document

            print_json(health_document("live" if live else "ready", answer))
        else:
            click.echo(f"{'healthy' if answer.healthy else 'unhealthy'}: {answer.why}")
        ctx.exit(0 if answer.healthy else WRONG)


# --- pieces -------------------------------------------------------------------------------------------------


def _entry(ctx: click.Context, name: str, *, dues: int) -> EntryDetail:
    from difflib import get_close_matches

    from celery_dispatch.manage import connect, operations

    with connect.open_sources(ctx.obj.app) as sources:
        detail = operations.read_entry(sources, name, dues=dues)
    if detail is None:
        close = get_close_matches(name, [*sources.catalog.entries, *sources.catalog.broken], n=3, cutoff=0.5)
        hint = (
            f"Did you mean {' or '.join(map(repr, close))}?"
            if close
            else "See: celery -A <app> dispatch entries."
        )
        raise UnknownEntry(f"There is no entry {name!r}.", hint)
    return detail


def _watch(console: Console, sources: Sources) -> None:
    """Refresh the status until Ctrl-C; an outage is shown, not ended on."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from celery_dispatch.errors import StoreUnavailable
    from celery_dispatch.manage import operations, render

    last: RenderableType = Text()
    try:
        with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as screen:
            while True:
                began = time.monotonic()
                try:
                    report = operations.read_status(sources)
                    last = render.status_view(report, console.width)
                    screen.update(last, refresh=True)
                except StoreUnavailable as error:
                    screen.update(
                        Group(Text(f"{error} Trying again.", style="bold red"), Text(), last), refresh=True
                    )
                took = time.monotonic() - began
                time.sleep(max(_WATCH_EVERY, 4 * took))  # a large schedule must not keep Redis busy
    except KeyboardInterrupt:
        return
