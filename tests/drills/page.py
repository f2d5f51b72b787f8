"""A page with the table and the plot of each run, and everything else that is left of the drills."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from tests.drills.plot import draw
from tests.drills.report import (
    FIGURES,
    Figure,
    Row,
    cell,
    columns_of,
    document,
    has_products,
    markdown,
    measured,
    servers_of,
    summary,
)
from tests.drills.scene import scene_of
from tests.drills.stage import Outcome

__all__ = ["page", "plot", "write"]

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Drills</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.45 system-ui, -apple-system, "Segoe UI", sans-serif }}
body {{ max-width: 1080px; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }}
th, td {{ padding: .2rem .55rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap }}
th:first-child, td:first-child, .product {{ text-align: left }}
.pass {{ color: #2f9e77 }} .fail {{ color: #d55e00; font-weight: 600 }}
section {{ margin-top: 2.5rem }} img {{ width: 100% }} pre {{ white-space: pre-wrap; font-size: 12px }}
</style>
<h1>What each fault costs</h1>
<p>{measured}<br>{summary}</p>
<div style="overflow-x: auto"><table>{head}{body}</table></div>
{sections}
</html>
"""


def write(rows: Sequence[Row], directory: Path) -> None:
    """``results.json``, ``table.md``, ``index.html``, and a plot of each run, in ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    for row in rows:
        if row.outcome is not None:
            (directory / f"{row.name}.svg").write_text(plot(row, row.outcome))
    (directory / "results.json").write_text(json.dumps(document(rows), indent=2) + "\n")
    (directory / "table.md").write_text(markdown(rows))
    (directory / "index.html").write_text(page(rows))


def plot(row: Row, outcome: Outcome) -> str:
    """The run of a row as SVG."""
    words = {figure.key: f"{cell(figure, outcome)} {figure.heading}" for figure in FIGURES}
    counts = [words[key] for key in ("expected", "lost", "doubled_other_id", "doubled_same_id", "early")]
    middle, worst, bound = (_of(outcome, key) for key in ("p50", "worst", "bound"))
    lag = f"lag {middle} in the middle, {worst} at worst, {bound} allowed"
    return draw(
        scene_of(
            outcome, title=row.title, lines=[f"{', '.join(counts)}; {lag}", *map(_head, row.problems[:3])]
        )
    )


def _head(problem: str) -> str:
    """A problem without its examples."""
    return problem.partition(", e.g. ")[0].partition(": Arrival(")[0]


def _of(outcome: Outcome, key: str) -> str:
    return next(cell(figure, outcome) for figure in FIGURES if figure.key == key)


def page(rows: Sequence[Row]) -> str:
    """The table and under it each plot with what was wrong, as a page beside the plots."""
    columns = columns_of(rows)
    heads = [
        "fault",
        *(["product"] if has_products(rows) else []),
        *(it.heading for it in columns),
        "verdict",
    ]
    return _PAGE.format(
        measured=escape(measured(servers_of(rows))),
        summary=escape(summary(rows)),
        head=f"<tr>{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr>",
        body="\n".join(_line(row, columns, with_product=has_products(rows)) for row in rows),
        sections="\n".join(map(_section, rows)),
    )


def _line(row: Row, columns: Sequence[Figure], *, with_product: bool) -> str:
    cells = [f'<td><a href="#{escape(row.name)}">{escape(row.fault.title)}</a></td>']
    if with_product:
        cells.append(f'<td class="product">{escape(row.product)}</td>')
    cells += [f"<td>{cell(figure, row.outcome)}</td>" for figure in columns]
    word = "pass" if row.passed else "fail"
    return f'<tr>{"".join(cells)}<td class="{word}">{word}</td></tr>'


def _section(row: Row) -> str:
    parts = [f'<section id="{escape(row.name)}"><h2>{escape(row.title)}</h2>']
    if row.outcome is not None:
        name = escape(row.name)
        parts.append(
            f'<a href="{name}.svg"><img src="{name}.svg" alt="{escape(row.title)}" loading="lazy"></a>'
        )
    parts += [f"<pre>{escape(problem)}</pre>" for problem in row.problems]
    return "".join([*parts, "</section>"])
