"""``python -m benchmarks [case ...]``: measures, prints the tables, and writes what was seen.

Every step is a run of its own with a Redis of its own; one that fails is reported, and the others go on.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.cases import CASES, planned
from benchmarks.lab import Lab, Step
from benchmarks.progress import Progress
from benchmarks.report import grids, write
from benchmarks.results import Results

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(stderr=True)
    steps = planned(options.cases or list(CASES), quick=options.quick)
    directory = (options.logs or Path(tempfile.mkdtemp(prefix="bench-"))).resolve()
    results = measure(steps, directory, console, longest=60 * options.minutes)
    out = Console(width=None if sys.stdout.isatty() else 140)
    for grid in grids(results):
        out.print(grid.rich())
    console.print(f"logs: {directory}", style="dim", highlight=False)
    if options.out:
        write(results, options.out)
        console.print(f"tables and plots: {options.out}", style="dim", highlight=False)
    return 1 if results.troubles else 0


def measure(
    steps: Sequence[Step], directory: Path, console: Console, *, longest: float = math.inf
) -> Results:
    """Carry out ``steps``, one after the other; after an interrupt, those that were over.

    A step that would not be over within ``longest`` seconds in all is left out.
    """
    results = Results()
    began = time.monotonic()
    with Progress(console, [step.seconds for step in steps]) as progress:
        lab = Lab(directory, say=progress.say)
        try:
            for step in steps:
                progress.begin(step.title)
                fits = time.monotonic() - began + step.seconds <= longest
                trouble = _carried_out(step, lab, results) if fits else "left out: the time is up"
                results.add_trouble(step.title, trouble)
                progress.end(results.troubles.get(step.title, ""))
        except KeyboardInterrupt:
            results.troubles["all"] = "interrupted: what follows is missing"
    results.seconds, results.servers = time.monotonic() - began, sorted(lab.servers)
    return results


def _carried_out(step: Step, lab: Lab, results: Results) -> str:
    """What went wrong, if anything did; what was measured before that is kept."""
    try:
        for found in step.run(lab):
            results.add([found])
    except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:
        return str(error) or repr(error)
    return ""


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    listed = ", ".join(CASES)
    parser.add_argument("cases", nargs="*", type=_case, metavar="case", help=f"some of {listed}")
    parser.add_argument("--quick", action="store_true", help="small ones, in three minutes")
    parser.add_argument("--minutes", type=float, default=math.inf, help="leave out what would take longer")
    parser.add_argument("--out", type=Path, help="write JSON, Markdown and plots to this directory")
    parser.add_argument("--logs", type=Path, help="keep the processes' logs here")
    return parser.parse_args(arguments)


def _case(name: str) -> str:
    if name not in CASES:
        raise argparse.ArgumentTypeError(f"there is no case {name!r}; there are {', '.join(CASES)}")
    return name


if __name__ == "__main__":
    sys.exit(main())
