"""What each fault costs: ``python -m tests.drills.table [fault …]``.

Three beats, twenty entries due every second, default settings but ``dispatch_catch_up = "all"``, real
servers.
Without a name all faults are run.  Names may be patterns; ``'point-*'`` are those in which a beat comes to
harm at a stated point in the life of a message.  Prints a table, and with ``--json`` writes what it saw; ends
with 1 if a fault cost more than the design allows.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pytest
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.drills.faults import FAULTS, POINTS, Fault, named
from tests.drills.ground import Ground
from tests.drills.stage import Outcome

__all__ = ["drill", "main"]


@dataclass(frozen=True, slots=True)
class Row:
    """A fault and what came of it; ``error`` where the drill itself did not come to its end."""

    fault: Fault
    outcome: Outcome | None
    error: str = ""

    @property
    def passed(self) -> bool:
        return self.outcome is not None and self.outcome.passed

    @property
    def problems(self) -> list[str]:
        return [self.error] if self.outcome is None else self.outcome.problems

    def document(self) -> dict[str, object]:
        head: dict[str, object] = {"fault": self.fault.name, "passed": self.passed, "problems": self.problems}
        if self.outcome is None:
            return head
        verdict = self.outcome.verdict
        return {
            **head,
            "expected": verdict.expected,
            "arrived": verdict.arrived,
            "lost": len(verdict.lost),
            "excused": len(verdict.excused),
            "doubled_same_id": len(verdict.doubled_same_id),
            "doubled_other_id": len(verdict.doubled_other_id),
            "early": len(verdict.early),
            "phantom": len(verdict.phantom),
            "misrouted": len(verdict.misrouted),
            "disordered": len(verdict.disordered),
            "lag_ms": {"p50": _number(verdict.lag(50)), "p99": _number(verdict.lag(99)),
                       "worst": _number(verdict.worst_lag), "bound": _number(self.outcome.bound)},
            "machine_stall_ms": _number(self.outcome.stall),
            "events": [{"at": _instant(at), "what": what} for at, what in self.outcome.events],
        }  # fmt: skip


def drill(
    fault: Fault, ground: Ground, directory: Path, *, settings: Mapping[str, object], calm: float = 4.0
) -> Outcome:
    """Run one fault on a fresh pool and judge what arrived."""
    stage = fault.stage(ground, directory, settings=settings, calm=calm)
    with stage:
        stage.begin()
        fault.strike(stage)
        stage.run_on(calm)
        stage.note("end of what is judged")
        return stage.finish()


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(stderr=True)
    logs = (options.logs or Path(tempfile.mkdtemp(prefix="drills-"))).resolve()
    rows = []
    for fault in [fault for faults in options.faults for fault in faults] or FAULTS.values():
        console.print(f"{fault.name}: {fault.title} …")
        row = _row(fault, logs / fault.name, dict(options.set))
        rows.append(row)
        for problem in row.problems:
            console.print(f"  [red]{escape(problem[-3000:])}")
        if row.outcome is not None and options.events:
            for at, what in row.outcome.events:
                console.print(f"  {_instant(at)}  {escape(what)}", style="dim")
    Console(width=None if sys.stdout.isatty() else 180).print(_table(rows))
    console.print(f"logs: {logs}", style="dim", highlight=False)
    if options.json:
        options.json.write_text(json.dumps(_document(rows), indent=2) + "\n")
    return 0 if all(row.passed for row in rows) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.drills.table", description=__doc__)
    listed = ", ".join([*FAULTS, *POINTS])
    parser.add_argument("faults", nargs="*", type=_faults, metavar="fault", help=f"one of {listed}")
    parser.add_argument("--json", type=Path, help="write what was seen to this file")
    parser.add_argument("--logs", type=Path, help="keep the processes' logs here")
    parser.add_argument("--events", action="store_true", help="print what happened when")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=JSON",
        help="another Celery setting",
    )
    return parser.parse_args(arguments)


def _faults(pattern: str) -> list[Fault]:
    found = named(pattern)
    if not found:
        raise argparse.ArgumentTypeError(f"no fault is called {pattern!r}")
    return found


def _setting(text: str) -> tuple[str, object]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _row(fault: Fault, directory: Path, settings: Mapping[str, object]) -> Row:
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with fault.ground(directory) as ground:
            return Row(fault, drill(fault, ground, directory, settings=settings))
    except (AssertionError, pytest.fail.Exception, pytest.skip.Exception) as error:
        return Row(fault, None, f"the drill did not come to its end: {error}")


def _table(rows: Sequence[Row]) -> Table:
    table = Table(title="What each fault costs: 3 beats, 20 entries every second", title_justify="left")
    table.add_column("fault", no_wrap=True)
    for heading in ("expected", "lost", "doubled", "repeated", "excused", "early", "phantom",
                    "p50 ms", "p99 ms", "worst ms", "bound ms", "stall ms"):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict")
    for row in rows:
        table.add_row(row.fault.title, *_cells(row), "[green]pass" if row.passed else "[bold red]FAIL")
    return table


def _cells(row: Row) -> list[str]:
    if row.outcome is None:
        return [""] * 12
    verdict = row.outcome.verdict
    counts = (verdict.expected, *map(len, (
        verdict.lost, verdict.doubled_other_id, verdict.doubled_same_id, verdict.excused, verdict.early,
        verdict.phantom + verdict.misrouted,
    )))  # fmt: skip
    lags = (verdict.lag(50), verdict.lag(99), verdict.worst_lag, row.outcome.bound, row.outcome.stall)
    return [str(count) for count in counts] + [f"{lag:.0f}" if lag >= 10 else f"{lag:.1f}" for lag in lags]


def _document(rows: Sequence[Row]) -> dict[str, object]:
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()},
        "faults": [row.document() for row in rows],
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 2)


def _instant(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, timezone.utc).isoformat(timespec="milliseconds")


if __name__ == "__main__":
    sys.exit(main())
