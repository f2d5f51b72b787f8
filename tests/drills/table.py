"""What each fault costs: ``make drills``, or ``python -m tests.drills.table [fault …]``.

Three beats, twenty entries due every second, default settings but ``dispatch_catch_up = "all"``, real
servers.

Without a name all faults are run.  Names may be patterns: ``'point-*'`` are those in which a beat comes to
harm at a stated point in the life of a message, ``'code-*'`` those in which claim and message are two steps
since code of the app's own runs between them, ``'amqp-*'`` those with RabbitMQ as the broker.

Prints a table; with ``--out`` it is written as JSON and as Markdown, with a plot of each run.  With
``--peers`` stock beat and RedBeat go through the faults that apply.  Ends with 1 if a fault cost more than
the design allows; what it costs others does not count.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from tests.drills.faults import FAULTS, POINTS, VARIANTS, Fault, named
from tests.drills.page import write
from tests.drills.peers import PRODUCTS
from tests.drills.progress import Progress
from tests.drills.redis_server import program_kind
from tests.drills.report import Row, document, instant, table
from tests.drills.runs import Run, Terms, rows_of, runs_of
from tests.servers import KINDS

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(stderr=True)
    logs = (options.logs or Path(tempfile.mkdtemp(prefix="drills-"))).resolve()
    faults = [fault for faults in options.faults for fault in faults] or list(FAULTS.values())
    runs = list(runs_of(faults, with_peers=options.peers))
    rows = _rows(runs, options, console, logs)
    Console(width=None if sys.stdout.isatty() else 120).print(table(rows))
    console.print(f"logs: {logs}", style="dim", highlight=False)
    if options.out:
        write(rows, options.out)
        console.print(f"plots: {options.out / 'index.html'}", style="dim", highlight=False)
    if options.json:
        options.json.write_text(json.dumps(document(rows), indent=2) + "\n")
    if len(rows) < len(runs):
        return 130
    return 0 if all(row.passed for row in rows if row.counts) else 1


def _rows(runs: Sequence[Run], options: argparse.Namespace, console: Console, logs: Path) -> list[Row]:
    """One for each of ``runs``, in their order; after an interrupt, for those that were over."""
    rows: dict[str, Row] = {}
    names = [run.row.name for run in runs]
    terms = Terms(options.server, options.haste, dict(options.set), logs)
    with Progress(console, names, _known(options.out), at_a_time=options.jobs) as progress:
        try:
            ended = rows_of(runs, terms, at_a_time=options.jobs, begun=progress.begin, noted=progress.note)
            with closing(ended):
                for row in ended:
                    rows[row.name] = row
                    progress.end(row, events=_events(row) if options.events else ())
        except KeyboardInterrupt:
            console.print(f"interrupted; {len(runs) - len(rows)} drills are missing", style="red")
    return [rows[name] for name in names if name in rows]


def _events(row: Row) -> Iterator[str]:
    for at, what in () if row.outcome is None else row.outcome.events:
        yield f"{instant(at)}  {what}"


def _known(out: Path | None) -> dict[str, float]:
    """How long each drill took when the same directory was written last."""
    try:
        found = json.loads((out / "results.json").read_text())["faults"] if out else []
        return {str(row["name"]): float(row["seconds"]) for row in found}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.drills.table", description=__doc__)
    listed = ", ".join([*FAULTS, *VARIANTS, *POINTS])
    parser.add_argument("faults", nargs="*", type=_faults, metavar="fault", help=f"one of {listed}")
    parser.add_argument("--out", type=Path, help="write JSON, Markdown and plots to this directory")
    parser.add_argument("--json", type=Path, help="write what was seen to this file")
    parser.add_argument("--logs", type=Path, help="keep the processes' logs here")
    parser.add_argument("--events", action="store_true", help="print what happened when")
    parser.add_argument(
        "--server", choices=KINDS, default=program_kind(), help="the dispatch Redis (default: %(default)s)"
    )
    parser.add_argument("--haste", type=float, default=0, help="ms that a busy machine may add to a bound")
    parser.add_argument(
        "--jobs", type=_count, default=1, help="how many drills run at a time (default: %(default)s)"
    )
    parser.add_argument("--peers", action="store_true", help="stock beat and RedBeat too")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=JSON",
        help="another Celery setting",
    )
    options = parser.parse_args(arguments)
    if options.peers and (missing := [product.name for product in PRODUCTS if not product.installed]):
        parser.error(
            f"not installed: {', '.join(missing)}; run make drills PEERS=1, or pip install -e '.[peers]'"
        )
    return options


def _faults(pattern: str) -> list[Fault]:
    found = named(pattern)
    if not found:
        raise argparse.ArgumentTypeError(f"no fault is called {pattern!r}")
    return found


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} drills at a time: 1 is the least")
    return count


def _setting(text: str) -> tuple[str, object]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    sys.exit(main())
