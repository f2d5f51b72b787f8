"""What the drills showed: as a table on the terminal, as JSON, and as Markdown."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version

from rich.table import Table

from tests.drills.faults import Fault
from tests.drills.stage import Outcome

__all__ = [
    "FIGURES",
    "OURS",
    "Figure",
    "Row",
    "cell",
    "columns_of",
    "document",
    "has_products",
    "instant",
    "markdown",
    "measured",
    "servers_of",
    "summary",
    "table",
]

OURS = "celery-dispatch"
_PACKAGES = ("celery-dispatch", "celery", "kombu", "redis", "celery-redbeat")


@dataclass(frozen=True, slots=True)
class Row:
    """A fault, the product that it befell, and what came of it in how many ``seconds``.

    ``error`` says why there is no outcome: the drill itself did not come to its end.
    """

    fault: Fault
    outcome: Outcome | None
    error: str = ""
    product: str = OURS
    seconds: float = 0.0
    servers: Sequence[str] = ()  #: what it ran on, with versions

    @property
    def passed(self) -> bool:
        return self.outcome is not None and self.outcome.passed

    @property
    def counts(self) -> bool:
        """Whether it decides if the drills have passed: what others do is shown, and no more."""
        return self.product == OURS

    @property
    def problems(self) -> list[str]:
        return [self.error] if self.outcome is None else self.outcome.problems

    @property
    def name(self) -> str:
        """Unique among the rows, and good for a file."""
        words = self.fault.name if self.counts else f"{self.fault.name}-{self.product}"
        return words.lower().replace(" ", "-")

    @property
    def title(self) -> str:
        return self.fault.title if self.counts else f"{self.product}: {self.fault.title}"

    def document(self) -> dict[str, object]:
        head: dict[str, object] = {
            "name": self.name, "fault": self.fault.name, "title": self.fault.title, "product": self.product,
            "passed": self.passed, "seconds": round(self.seconds, 1), "problems": self.problems,
        }  # fmt: skip
        if self.outcome is None:
            return head
        figures = {figure.key: figure.of(self.outcome) for figure in FIGURES}
        lags = {key: _rounded(value) for key, value in figures.items() if isinstance(value, float)}
        stall = lags.pop("stall")
        counts = {key: value for key, value in figures.items() if isinstance(value, int)}
        begun = self.outcome.record.anchor
        return {
            **head,
            **counts,
            "lag_ms": lags,
            "machine_stall_ms": stall,
            "anchor": instant(begun),
            "struck": self.outcome.record.struck
            and [(at - begun) / 1000 for at in self.outcome.record.struck],
            "events": [{"at": instant(at), "what": what} for at, what in self.outcome.events],
        }


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of an outcome; a count, or milliseconds if it is a ``float``.

    ``rare``: a column of its own only where some row has any.
    """

    key: str
    heading: str
    of: Callable[[Outcome], float | int]
    rare: bool = False


FIGURES = (
    Figure("expected", "expected", lambda it: it.verdict.expected),
    Figure("arrived", "arrived", lambda it: it.verdict.arrived, rare=True),
    Figure("lost", "lost", lambda it: len(it.verdict.lost)),
    Figure("doubled_other_id", "doubled", lambda it: len(it.verdict.doubled_other_id)),
    Figure("doubled_same_id", "repeated", lambda it: len(it.verdict.doubled_same_id), rare=True),
    Figure("excused", "excused", lambda it: len(it.verdict.excused), rare=True),
    Figure("early", "early", lambda it: len(it.verdict.early)),
    Figure("phantom", "phantom", lambda it: len(it.verdict.phantom), rare=True),
    Figure("off_grid", "off grid", lambda it: len(it.verdict.off_grid), rare=True),
    Figure("misrouted", "misrouted", lambda it: len(it.verdict.misrouted), rare=True),
    Figure("disordered", "disordered", lambda it: len(it.verdict.disordered), rare=True),
    Figure("p50", "p50", lambda it: float(it.verdict.lag(50))),
    Figure("p99", "p99", lambda it: float(it.verdict.lag(99))),
    Figure("worst", "worst", lambda it: float(it.verdict.worst_lag)),
    Figure("bound", "allowed", lambda it: float(it.bound)),
    Figure("stall", "stall", lambda it: float(it.stall)),
)
_SUMMED = {
    "expected": "occurrences were due",
    "lost": "lost",
    "doubled_other_id": "doubled",
    "doubled_same_id": "repeated under the same task id",
    "excused": "excused",
    "early": "early",
}
_WITHOUT_COLUMN = ("arrived", "disordered")  # in the JSON alone


def columns_of(rows: Sequence[Row]) -> list[Figure]:
    """The figures that these rows need a column for."""
    seen = [row.outcome for row in rows if row.outcome is not None]
    return [
        figure
        for figure in FIGURES
        if figure.key not in _WITHOUT_COLUMN and (not figure.rare or any(map(figure.of, seen)))
    ]


def cell(figure: Figure, outcome: Outcome | None) -> str:
    """A figure as people read it; empty where there is no outcome."""
    if outcome is None:
        return ""
    value = figure.of(outcome)
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "-"
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms"


def has_products(rows: Sequence[Row]) -> bool:
    """Whether others were drilled beside us."""
    return any(not row.counts for row in rows)


# --- to a terminal ------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> Table:
    """Fits a terminal of 120 columns: long titles take two lines."""
    columns = columns_of(rows)
    found = Table(title="What each fault costs", title_justify="left", padding=(0, 1, 0, 0), box=None)
    found.add_column("fault", overflow="fold", min_width=20)
    if has_products(rows):
        found.add_column("product", no_wrap=True)
    for figure in columns:
        found.add_column(figure.heading, justify="right", no_wrap=True)
    found.add_column("verdict", no_wrap=True)
    for row in rows:
        cells = [cell(figure, row.outcome) for figure in columns]
        product = [row.product] if has_products(rows) else []
        found.add_row(row.fault.title, *product, *cells, _verdict(row), style="" if row.counts else "dim")
    return found


def _verdict(row: Row) -> str:
    if row.counts:
        return "[green]pass" if row.passed else "[bold red]FAIL"
    return "pass" if row.passed else "fail"


# --- to files -----------------------------------------------------------------------------------------------


def document(rows: Sequence[Row]) -> dict[str, object]:
    """What was seen, for programs; times of lag are milliseconds."""
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()},
        "versions": _versions(),
        "servers": servers_of(rows),
        "faults": [row.document() for row in rows],
    }


def markdown(rows: Sequence[Row]) -> str:
    """The table for the docs."""
    columns = columns_of(rows)
    heads = [
        "fault",
        *(["product"] if has_products(rows) else []),
        *(it.heading for it in columns),
        "verdict",
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = [cell(figure, row.outcome) for figure in columns]
        product = [row.product] if has_products(rows) else []
        verdict = "pass" if row.passed else "FAIL" if row.counts else "fail"
        line = [row.fault.title, *product, *cells, verdict]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |")
    return "\n".join([measured(servers_of(rows)), summary(rows), "", *lines]) + "\n"


def summary(rows: Sequence[Row]) -> str:
    """What our own rows come to, in a sentence."""
    ours = [row for row in rows if row.counts]
    seen = [row.outcome for row in ours if row.outcome is not None]
    sums = {figure.key: sum(map(figure.of, seen)) for figure in FIGURES if figure.key in _SUMMED}
    counts = ", ".join(f"{sums[key]:,} {words}" for key, words in _SUMMED.items())
    return f"{sum(row.passed for row in ours)} of {len(ours)} drills passed; {counts}."


def measured(servers: Iterable[str]) -> str:
    """When and with what: now, with what is installed here and these servers."""
    said = [f"{name} {number}" for name, number in _versions().items()]
    said += [*servers, f"Python {platform.python_version()}"]
    day = datetime.now(timezone.utc).date().isoformat()
    return f"Measured on {day} with {', '.join(said)}, on {os.cpu_count()} cores."


def servers_of(rows: Sequence[Row]) -> list[str]:
    """What the rows ran on, with versions."""
    return sorted({server for row in rows for server in row.servers})


def _versions() -> Mapping[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 2)


def instant(at: int) -> str:
    """RFC 3339, from ms."""
    return datetime.fromtimestamp(at / 1000, timezone.utc).isoformat(timespec="milliseconds")
