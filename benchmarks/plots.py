"""The plots of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.chart import Axis, Chart, Line
from benchmarks.products import OURS, PEERS
from benchmarks.results import Results, Storm

__all__ = ["charts"]


def charts(results: Results) -> Mapping[str, Chart]:
    """By the name of their file; only those of which something was measured."""
    found = {
        "storms": _storms(results),
        "burst": _burst(results),
        "steady": _steady(results),
        "changes": _changes(results),
    }
    return {name: chart for name, chart in found.items() if chart.lines}


def _storms(results: Results) -> Chart:
    """Rates over the number of entries that are due."""
    return Chart(
        "Occurrences a second, by how many are due at once",
        "One node; from the due to the last message, or to the bound. The bare push has no beat.",
        Axis("entries due at one instant", logarithmic=True),
        Axis("a second", logarithmic=True),
        [line for line in _rates(results) if line.points],
    )


def _rates(results: Results) -> Iterator[Line]:
    ours = [it for it in results.storms if it.product == OURS.name and it.nodes == 1]
    yield _medians("celery-dispatch, intervals", [it for it in ours if it.kind == "interval"], results)
    yield _medians("celery-dispatch, distinct crontabs", [it for it in ours if it.kind == "crontab"], results)
    for product in PEERS:
        storms = [it for it in results.storms if it.product == product.name and it.kind == "interval"]
        yield _medians(product.name, storms, results)
    sizes = sorted({it.entries for it in ours if it.bare and it.entries >= 1_000})
    points = []
    for size in sizes:
        spread = results.spread([it for it in ours if it.entries == size], lambda it: it.bare)
        if spread is not None:
            points.append((float(size), spread.middle))
    yield Line("bare pipelined push", points, dots=True)


def _medians(name: str, storms: list[Storm], results: Results) -> Line:
    points = []
    for size in sorted({it.entries for it in storms}):
        of_size = [it for it in storms if it.entries == size and it.burst.fired]
        spread = results.spread(of_size, lambda it: it.burst.rate)
        if spread is not None:
            points.append((float(size), spread.middle))
    return Line(name, points, dots=True)


def _burst(results: Results) -> Chart:
    """The largest storms as they went."""
    most = max((it.entries for it in results.storms), default=0)
    lines = {}
    for storm in results.storms:
        if storm.entries == most and storm.product == OURS.name and storm.curve:
            kind = "crontabs" if storm.kind == "crontab" else f"{storm.nodes} node{'s' * (storm.nodes > 1)}"
            lines[kind] = Line(kind, storm.curve)  # the last run of each
    return Chart(
        f"{most:,} entries due at one instant",
        "Messages on the broker since the due; the last run of each.",
        Axis("seconds since the due"),
        Axis("messages"),
        list(lines.values()),
    )


def _steady(results: Results) -> Chart:
    lines = [
        Line(f"{it.wanted:,.0f} a second", [(percent, 1000 * lag) for percent, lag in it.lags if lag > 0])
        for it in results.steady
    ]
    return Chart(
        "Lag of a steady stream, one node",
        "From the due to the message on the broker: so many percent came within so many ms.",
        Axis("percent of the occurrences"),
        Axis("ms", logarithmic=True),
        [line for line in lines if line.points],
    )


def _changes(results: Results) -> Chart:
    lines = [Line(it.what, it.curve) for it in results.changes if it.curve]
    marks = [(at, it.what) for it in results.changes for at, _ in it.marks]
    entries = max((it.entries for it in results.changes), default=0)
    return Chart(
        f"A join and a kill during a storm of {entries:,}",
        "Messages since the due. One node, which another joins; two nodes, of which one is killed.",
        Axis("seconds since the due"),
        Axis("messages"),
        lines,
        marks,
    )
