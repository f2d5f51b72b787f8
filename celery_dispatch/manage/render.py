"""The pool and its nodes as tables for people; every function fits what it returns into ``width`` columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from celery_dispatch.manage.pieces import Column, fitted_table, noted, pair_grid, state_words
from celery_dispatch.manage.reports import (
    EntryState,
    NodeReport,
    NodeState,
    PoolReport,
    Problem,
    Severity,
    StatusReport,
)
from celery_dispatch.manage.words import clock_time, counted, duration, milliseconds, relative

__all__ = ["nodes_view", "status_view"]

_MOST_NODES = 12  # that status shows

_NODE_STYLES = {
    NodeState.STEADY: "green",
    NodeState.LATE: "bold red",
    NodeState.JOINING: "yellow",
    NodeState.DRAINING: "yellow",
    NodeState.CUT_OFF: "bold red",
    NodeState.STANDBY: "yellow",
    NodeState.FOREIGN: "yellow",
    NodeState.EXPIRED: "red",
}
_SEVERITY_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def status_view(report: StatusReport, width: int) -> RenderableType:
    """The pool, its nodes, and what is wrong, in one screen."""
    pool = report.pool
    parts: list[RenderableType] = [_summary(report), Text()]
    if pool.nodes:
        parts += [_node_table(pool, pool.nodes[:_MOST_NODES], width, brief=True)]
        if len(pool.nodes) > _MOST_NODES:
            parts += [Text(f"… and {len(pool.nodes) - _MOST_NODES} more: dispatch nodes", style="dim")]
        parts += [Text()]
    parts += [_problems(report.problems)]
    return Group(*parts)


def nodes_view(report: PoolReport, width: int) -> RenderableType:
    """All nodes, with what each says of itself."""
    parts: list[RenderableType] = [
        pair_grid(
            [
                ("pool", _pool_line(report)),
                ("config", _config_line(report)),
                *([("identity", Text(report.identity))] if report.identity else []),
            ]
        )
    ]
    if report.nodes:
        parts += [Text(), _node_table(report, report.nodes, width, brief=False)]
    for node in report.nodes:
        if node.state is NodeState.FOREIGN:
            parts += [noted(node.id, f"is of {node.identity}", "yellow")]
        if node.outage is not None:
            said = relative(node.last_heartbeat, report.now) if node.last_heartbeat else "last heartbeat"
            parts += [noted(node.id, f"outage ({said}): {node.outage}", "yellow")]
        parts += [
            noted(f"{node.id}: {name or 'all entries'}", message, "bold red")
            for name, message in node.errors.items()
        ]
    return Group(*parts)


def _summary(report: StatusReport) -> RenderableType:
    totals = report.entries
    states = ", ".join(
        f"{count:,} {state_words(state)}" for state, count in sorted(totals.by_state.items(), key=_most_first)
    )
    lag = f"p50 {milliseconds(report.lag.p50)}, max {milliseconds(report.lag.max)}"
    return pair_grid(
        [
            ("pool", _pool_line(report.pool)),
            ("config", _config_line(report.pool)),
            ("entries", Text(f"{totals.total:,}{': ' if states else ''}{states}")),
            ("fired", Text(f"{totals.fired:,}, skipped {totals.skipped:,}")),
            ("lag", Text(lag if report.lag.max is not None else "nothing was fired lately")),
            *([("intents", _intents(report))] if report.intents.open else []),
        ]
    )


def _intents(report: StatusReport) -> Text:
    oldest = report.intents.oldest
    since = f", the oldest for {duration(report.pool.now - oldest)}" if oldest is not None else ""
    return Text(f"{report.intents.open:,} open{since}")


def _most_first(item: tuple[EntryState, int]) -> tuple[int, str]:
    return -item[1], item[0].value


def _pool_line(pool: PoolReport) -> Text:
    alive, steady = len(pool.alive), len(pool.steady)
    if not alive:
        return Text("nobody is alive", style="bold red")
    text = f"{counted(alive, 'node')} alive"
    return Text.assemble(
        text if steady == alive else f"{text}, {steady} steady",
        ("; recovering", "bold red") if pool.recovery else "",
    )


def _config_line(pool: PoolReport) -> Text:
    line = Text("none is in force", style="yellow")
    if pool.fence is not None:
        running = sum(node.config == pool.fence.config for node in pool.alive)
        others = len(pool.alive) - running
        ahead = pool.fence.since > pool.now
        since = (
            relative(pool.fence.since, pool.now) if ahead else f"for {duration(pool.now - pool.fence.since)}"
        )
        line = Text.assemble(
            (pool.fence.config, "bold"),
            f" in force {since}, run by {running}",
            (f"; {others} run{'s' if others == 1 else ''} another", "yellow") if others else "",
        )
    if pool.switch is not None:
        line.append(
            f"; switches to {pool.switch.config} {relative(pool.switch.since, pool.now)}, "
            f"at {clock_time(pool.switch.since)}",
            style="yellow",
        )
    elif pool.challenger:
        line.append(f"; most nodes run {pool.challenger}", style="yellow")
    return line


def _node_table(pool: PoolReport, nodes: Sequence[NodeReport], width: int, *, brief: bool) -> Table:
    columns = [
        Column("node", [node.id for node in nodes], least=20),
        Column("host", [node.host for node in nodes], least=12, drop=7),
        Column(
            "state",
            [_state(node) for node in nodes],
            styles=[_NODE_STYLES[node.state] for node in nodes],
        ),
        _numbers("share", [f"{node.share:.1%}" for node in nodes]),
        _numbers("entries", [f"{node.entries:,}" for node in nodes], drop=3),
        _numbers("standby", [f"{node.standby:,}" for node in nodes], drop=5),
        _numbers("fired", [f"{node.fired:,}" for node in nodes], drop=1),
        _numbers("skipped", [f"{node.skipped:,}" for node in nodes], drop=4),
        _numbers("lag p50", [milliseconds(node.lag.p50) for node in nodes], drop=2),
        _numbers("max", [milliseconds(node.lag.max) for node in nodes], drop=2),
        _numbers("up", [duration(pool.now - (node.started or node.joined)) for node in nodes], drop=6),
        _numbers("lease", [relative(node.lease_end, pool.now) for node in nodes], drop=8),
    ]
    if not brief:
        columns += [
            _numbers("pid", [str(node.pid or "-") for node in nodes], drop=9),
            _numbers("version", [node.version or "-" for node in nodes], drop=10),
            Column("config", [node.config for node in nodes], least=8, drop=11),
        ]
    return fitted_table(columns, width)


def _numbers(title: str, cells: Sequence[str], drop: int = 0) -> Column:
    return Column(title, cells, right=True, drop=drop)


def _state(node: NodeReport) -> str:
    loading = f", {node.loading:,} to load" if node.state is NodeState.JOINING and node.loading else ""
    return state_words(node.state) + loading


def _problems(problems: Sequence[Problem]) -> RenderableType:
    if not problems:
        return Text("Nothing is wrong.", style="green")
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for problem in problems:
        style = _SEVERITY_STYLES[problem.severity]
        table.add_row(Text(problem.severity.value, style=style), Text(problem.what))
        table.add_row("", Text(problem.cure, style="dim"))
    return table
