"""What was measured, as tables for a terminal and in Markdown, and as JSON and plots in files."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.plots import charts
from benchmarks.products import OURS, REDBEAT, STOCK
from benchmarks.results import Results, Storm
from benchmarks.targets import cpu_each, judged
from benchmarks.words import bytes_as, milliseconds, number, percent, ratio, seconds, spread
from tests.drills.report import measured

__all__ = ["Grid", "grids", "write"]

_KINDS = {
    "interval": "intervals",
    "crontab": "distinct crontabs",
    "receiver": "two steps, same Redis",
    "rabbitmq": "two steps, RabbitMQ",
}


@dataclass(frozen=True, slots=True)
class Grid:
    """A table, whatever it is shown on; the first column is text, the others are figures."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def rich(self) -> Table:
        table = Table(title=self.title, title_justify="left", padding=(0, 1, 0, 0), box=None)
        for place, head in enumerate(self.heads):
            table.add_column(head, justify="right" if place else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        lines = [f"| {' | '.join(self.heads)} |", "|---|" + "---:|" * (len(self.heads) - 1)]
        lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in self.rows]
        return "\n".join([f"**{self.title}**", "", *lines]) + "\n"


def grids(results: Results) -> Iterator[Grid]:
    """The tables of what was measured; that of the targets is the last."""
    for grid in (
        _storms(results), _steady(results), _rest(results), _starts(results), _changes(results),
        _work(results), _followed(results),
    ):  # fmt: skip
        if grid.rows:
            yield grid
    if results.troubles:
        rows = [[step, " ".join(reason.split())[:200]] for step, reason in results.troubles.items()]
        yield Grid("What did not come to its end", ["step", "reason"], rows)
    yield _targets(results)


def _storms(results: Results) -> Grid:
    heads = [
        "storm", "nodes", "entries", "occurrences/s", "due to last", "stock beat, times", "RedBeat, times",
        "of bare push", "CPU each, µs", "all fired",
    ]  # fmt: skip
    keys = dict.fromkeys((it.product, it.kind, it.nodes, it.entries) for it in results.storms)
    order = list(_KINDS)
    ordered = sorted(keys, key=lambda key: (order.index(key[1]), key[3], key[2], key[0] != OURS.name))
    return Grid("Storms: all due at one instant", heads, [_storm(results, *key) for key in ordered])


def _storm(results: Results, product: str, kind: str, nodes: int, entries: int) -> list[str]:
    storms = results.of(product, kind, nodes, entries)

    def against(other: str) -> str:
        found = results.ratio(storms, results.of(other, kind, 1, entries), lambda it: it.burst.rate)
        return "" if found is None or product != OURS.name else ratio(found)

    def of_bare(storm: Storm) -> float | None:
        return 100 * storm.burst.rate_between / storm.bare if storm.bare and entries >= 1_000 else None

    def cpu_us(storm: Storm) -> float | None:
        each = cpu_each(storm)
        return None if each is None else 1e6 * each

    return [
        f"{product}, {_KINDS[kind]}",
        str(nodes),
        f"{entries:,}",
        spread(results.spread(storms, lambda it: it.burst.rate)),
        spread(results.spread(storms, lambda it: it.burst.to_last), unit=" s"),
        against(STOCK.name),
        against(REDBEAT.name),
        spread(results.spread(storms, of_bare), unit=" %"),
        spread(results.spread(storms, cpu_us)),
        _whether_all(storms),
    ]


def _whether_all(storms: Sequence[Storm]) -> str:
    twice = sum(it.twice or 0 for it in storms)
    if twice:
        return f"{twice} twice"
    short = [it for it in storms if not it.burst.finished]
    if not short:
        return "yes"
    note = next((it.note for it in short if it.note), "bound reached")
    return f"{min(it.burst.fired for it in short):,}: {note}"


def _steady(results: Results) -> Grid:
    heads = [
        "stream, one node",
        "seconds",
        "occurrences/s",
        "p50",
        "p99",
        "max",
        "CPU",
        "CPU of Redis",
        "twice",
    ]
    rows = [
        [
            f"{it.wanted:,.0f} a second", f"{it.seconds:.0f}", number(it.rate), milliseconds(it.p50),
            milliseconds(it.p99), milliseconds(it.worst), percent(it.cpu), percent(it.redis_cpu),
            str(it.twice),
        ]
        for it in results.steady
    ]  # fmt: skip
    return Grid("Steady: due one by one", heads, rows)


def _rest(results: Results) -> Grid:
    heads = [
        "due tomorrow",
        "seconds",
        "CPU",
        "CPU of Redis",
        "Redis commands/min",
        "memory",
        "app merely loaded",
    ]
    rows = [
        [
            f"{it.entries:,} entries", f"{it.seconds:.0f}", percent(it.cpu), percent(it.redis_cpu),
            number(it.commands), bytes_as(it.memory), bytes_as(it.merely_loaded),
        ]
        for it in results.idle
    ]  # fmt: skip
    return Grid("Idle: one node, nothing due", heads, rows)


def _starts(results: Results) -> Grid:
    heads = ["start", "entries", "schedule read", "ready to fire"]
    names = {1: "first node of a new pool", 2: "second node", 3: "third node"}
    rows = [
        [names.get(it.number, str(it.number)), f"{it.entries:,}", seconds(it.read), seconds(it.steady)]
        for it in results.starts
    ]
    return Grid("Start: seconds since the process began", heads, rows)


def _changes(results: Results) -> Grid:
    heads = [
        "during a storm",
        "entries",
        "longest pause",
        "due to last",
        "undisturbed",
        "extra lag",
        "all fired",
    ]
    rows = [
        [
            it.what, f"{it.entries:,}", milliseconds(it.pause), seconds(it.to_last), seconds(it.undisturbed),
            milliseconds(it.extra), f"{it.twice} twice" if it.twice else "yes" if it.finished else "NO",
        ]
        for it in results.changes
    ]  # fmt: skip
    return Grid("Join and kill", heads, rows)


def _work(results: Results) -> Grid:
    heads = ["what is done", "entries there", "takes", "Redis busy", "99 % of commands", "longest", "which"]
    rows = [
        [
            it.what, f"{it.entries:,}", f"{it.took:.2f} s", f"{it.busy:.2f} s", milliseconds(it.p99),
            milliseconds(it.longest), it.command,
        ]
        for it in results.work
    ]  # fmt: skip
    return Grid("Entries made at run time", heads, rows)


def _followed(results: Results) -> Grid:
    heads = ["a change is followed", "changes", "p50", "max"]
    rows = [
        [
            "by all nodes" if it.told else "though its notification is lost",
            str(it.changes), milliseconds(it.p50), milliseconds(it.worst),
        ]
        for it in results.followed
    ]  # fmt: skip
    return Grid("From the answer to a change to the first message by it, due every 50 ms", heads, rows)


def _targets(results: Results) -> Grid:
    rows = [
        [target.case, target.wanted, finding.words if finding else "", target.verdict(finding)]
        for target, finding in judged(results)
    ]
    return Grid("What it must reach", ["case", "target", "measured", "verdict"], rows)


# --- to files -----------------------------------------------------------------------------------------------


def write(results: Results, directory: Path) -> None:
    """``results.md``, ``results.json`` and the plots, in ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps(results.document(), indent=1) + "\n")
    (directory / "results.md").write_text(markdown(results))
    for name, chart in charts(results).items():
        (directory / f"{name}.svg").write_text(chart.svg())


def markdown(results: Results) -> str:
    """All tables and plots, for the docs."""
    minutes = results.seconds / 60
    head = f"{measured(results.servers)}\nOne run of {minutes:.0f} minutes on {platform.system()}.\n"
    plots = [f"![{chart.title}]({name}.svg)\n" for name, chart in charts(results).items()]
    return "\n".join([head, *(grid.markdown() for grid in grids(results)), *plots])
