"""Faults at random for a long time: ``make soak MINUTES=30``, or ``python -m tests.drills.soak --minutes 30``

Three beats behind proxies, 2,000 entries of four intervals (a fiftieth of them take two steps), a Redis that
keeps what it acknowledged.  Round after round up to two beats and Redis come to harm, one over the other.
Then what is dead is started again, and once the pool is whole it is looked at how much everything needs.
Which harms befall whom is drawn from a seed, which is printed; how they meet the firing is chance.

``node-1`` is never killed, so that what its process needs can be compared.  Ends with 1 if anything was lost,
doubled, early or off the grid, or if anything has grown.  Ctrl-C ends the run and judges what there is.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.drills.collector import Collector
from tests.drills.faults import Fault
from tests.drills.ground import Ground, one_redis
from tests.drills.growth import Growth, Sample, grown, sample
from tests.drills.harms import DEADLY, OF_NODES, OF_SERVERS, mend
from tests.drills.node_faults import nothing
from tests.drills.oracle import Every
from tests.drills.redis_server import program_kind
from tests.drills.releases import Spec
from tests.drills.report import Row, document, table
from tests.drills.stage import Outcome, Stage
from tests.servers import KINDS

__all__ = ["Round", "main", "rounds"]

_WITNESS = "node-1"
_BEATS = (_WITNESS, "node-2", "node-3")
_INTERVALS = (10, 15, 20, 30)  # seconds
_LAZY = 50  # every so manieth entry has an argument that the app's own code makes
_BOUND = 60_000  # ms: Redis away for longer than a lease, and a beat dead with its standby besides
_SLOWEST = 45.0  # seconds: each entry was fired, and everything that is bought once was


@dataclass(frozen=True, slots=True)
class Round:
    """``harms`` begin one after the other, ``apart`` seconds each, and last for ``hold`` seconds more.

    A harm is its name and its victim; then the pool is left in peace for ``rest`` seconds.
    """

    harms: tuple[tuple[str, str], ...]
    apart: float
    hold: float
    rest: float

    def __str__(self) -> str:
        said = ", ".join(f"{victim}: {what}" if victim else what for what, victim in self.harms)
        return f"{said}; for {self.hold:.1f} s"


def rounds(seed: int, *, lease: float) -> Iterator[Round]:
    """Without end, and the same for the same seed."""
    chance = random.Random(seed)
    while True:
        victims = chance.sample(_BEATS, chance.choice((0, 1, 1, 2)))
        harms = [(_harm(chance, victim), victim) for victim in victims]
        if not harms or chance.random() < 0.3:
            harms.append((chance.choice(list(OF_SERVERS)), ""))
        chance.shuffle(harms)
        yield Round(
            tuple(harms),
            apart=chance.uniform(0, 0.2 * lease),
            hold=chance.uniform(0.1, 1.4) * lease,
            rest=chance.uniform(0, 0.8) * lease,
        )


def _harm(chance: random.Random, victim: str) -> str:
    return chance.choice([name for name in OF_NODES if victim != _WITNESS or name not in DEADLY])


class _SoakStage(Stage):
    """A stage whose collector keeps little of each message: there are many."""

    def _collector(self) -> Collector:
        return Collector(lambda: self.ground.url, lean=True)


def soak(stage: Stage, console: Console, *, seconds: float, seed: int) -> list[Sample]:
    """Harm the stage until the time is over; what was needed after each round."""
    samples = []
    end = time.monotonic() + seconds
    for number, drawn in enumerate(rounds(seed, lease=stage.lease), start=1):
        if time.monotonic() >= end:
            break
        left = max(0.0, end - time.monotonic()) / 60
        console.print(f"{number:>4}  {len(stage.collector):>8,} messages, {left:.0f} min to go: {drawn}")
        stage.note(str(drawn))
        with ExitStack() as stack:
            for what, victim in drawn.harms:
                stack.enter_context((OF_NODES.get(what) or OF_SERVERS[what])(stage, victim))
                stage.run_on(drawn.apart)
            stage.run_on(drawn.hold)
        mend(stage)
        stage.run_on(drawn.rest)
        witness = stage.cluster.beats[_WITNESS].process.pid
        samples.append(sample(witness, stage.cluster.redis, stage.cluster.prefix))
    return samples


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    logs = Path(tempfile.mkdtemp(prefix="soak-"))
    console.print(
        f"seed {options.seed}, {options.entries} entries, {options.minutes:g} minutes; logs: {logs}"
    )
    samples: list[Sample] = []
    fault = Fault(
        "soak", f"soak, seed {options.seed}", nothing, proxied=True, entries=_entries(options.entries)
    )
    with one_redis(logs, options.server) as ground, _stage(fault, ground, logs) as stage:
        servers = ground.software()
        stage.cluster.start(len(_BEATS), proxied=True)
        stage.settled()
        stage.run_on(min(_SLOWEST, 30 * options.minutes))
        try:
            samples = soak(stage, console, seconds=60 * options.minutes, seed=options.seed)
        except KeyboardInterrupt:
            console.print("interrupted")
            mend(stage)
        outcome = stage.finish()
    row = Row(fault, outcome, seconds=(outcome.record.end - outcome.record.anchor) / 1000, servers=servers)
    growth = grown(samples)
    _say(console, row, outcome, growth)
    if options.out:
        _write(options.out, row, growth, samples)
    return 0 if row.passed and all(it.allowed for it in growth) else 1


def _entries(count: int) -> dict[str, Spec]:
    return {
        f"entry-{number:05}": Spec(
            Every(_INTERVALS[number % len(_INTERVALS)]), odd="lazy" if number % _LAZY == 0 else ""
        )
        for number in range(count)
    }


def _stage(fault: Fault, ground: Ground, logs: Path) -> Stage:
    return _SoakStage(ground, logs, fault.entries, proxied=True, bound=_BOUND, calm=0)


def _say(console: Console, row: Row, outcome: Outcome, growth: Sequence[Growth]) -> None:
    console.print(table([row]))
    for problem in outcome.problems:
        console.print(problem[-3000:], style="red", markup=False)
    if not growth:
        console.print("too few rounds to tell whether anything grows")
        return
    found = Table(title="What is needed", title_justify="left", box=None)
    for heading in ("", "second quarter", "last quarter", "verdict"):
        found.add_column(heading, justify="right" if "quarter" in heading else "left")
    for it in growth:
        found.add_row(
            it.what,
            f"{it.before:,.0f}",
            f"{it.after:,.0f}",
            "[green]pass" if it.allowed else "[bold red]GROWN",
        )
    console.print(found)


def _write(directory: Path, row: Row, growth: Sequence[Growth], samples: Sequence[Sample]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    found = {
        **document([row]),
        "growth": [{**asdict(it), "allowed": it.allowed} for it in growth],
        "samples": list(samples),
    }
    (directory / "soak.json").write_text(json.dumps(found, indent=2) + "\n")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.drills.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--entries", type=int, default=2000)
    parser.add_argument("--server", choices=KINDS, default=program_kind(), help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="write soak.json to this directory")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
