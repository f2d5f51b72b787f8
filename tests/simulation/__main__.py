"""Run one seed or plan (SEED, or the name of a file), or many seeds."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.simulation.draw import draw
from tests.simulation.plan import Plan
from tests.simulation.run import Outcome, run
from tests.simulation.shrink import shrink

_console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", nargs="?", help="one seed, or the file of a plan")
    parser.add_argument("--seeds", default="0:200", help="FROM:TO, run when no seed is given")
    parser.add_argument("--shrink", action="store_true", help="look for a smaller plan that fails too")
    parser.add_argument("--trace", action="store_true", help="print all that happened")
    parser.add_argument("--failures", type=int, default=1, help="go on until so many seeds have failed")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if asked.seed is None:
        first, _, last = asked.seeds.partition(":")
        return _many(range(int(first), int(last)), asked.failures, small=asked.shrink)
    plan = draw(int(asked.seed)) if asked.seed.isdigit() else Plan.from_json(Path(asked.seed).read_text())
    outcome = run(plan)
    if asked.shrink and outcome.wrong:
        outcome = shrink(outcome)
    _print(outcome, trace=asked.trace)
    return bool(outcome.wrong)


def _many(seeds: range, most: int, *, small: bool) -> int:
    began, hours, fired, failed = time.monotonic(), 0.0, 0, 0
    for seed in track(seeds, "Simulating", console=Console(stderr=True)):
        outcome = run(draw(seed))
        hours, fired = hours + outcome.hours, fired + outcome.fired
        if outcome.wrong:
            failed += 1
            _print(shrink(outcome) if small else outcome, trace=False)
            if failed >= most:
                break
    took = time.monotonic() - began
    _console.print(
        f"{hours:,.0f} hours of {seed + 1 - seeds.start} seeds in {took:.1f} s "
        f"({hours / took:,.0f} hours a second), {fired:,} occurrences fired, {failed} seeds failed"
    )
    return bool(failed)


def _print(outcome: Outcome, *, trace: bool) -> None:
    plan = outcome.plan
    if trace:
        _console.print("\n".join(outcome.trace), markup=False)
    if not outcome.wrong:
        _console.print(
            f"seed {plan.seed}: nothing wrong in {outcome.hours:.2f} hours, {outcome.fired} fired, "
            f"{outcome.repeated} repeated, {outcome.switches} configs, {outcome.recoveries} losses"
        )
        return
    _console.print(f"seed {plan.seed}: {outcome.wrong[0]}", markup=False)
    _console.print(plan.to_json(), markup=False)
    _console.print(f"again: python -m tests.simulation {plan.seed} --shrink --trace", markup=False)


if __name__ == "__main__":
    sys.exit(main())
