"""Runs drills in processes of their own, one or several at a time.

The proxies and the collector of a drill are threads that have to answer at once; in a process of their own
they wait for nothing of another drill's.  A process is told its drill by name, and sends what happens, then
how it ended, through a pipe.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.drills.faults import Fault, named
from tests.drills.ground import Ground
from tests.drills.peers import PRODUCTS, Product, peer_stage
from tests.drills.report import Row
from tests.drills.stage import Outcome, Stage

__all__ = ["Run", "Terms", "drill", "rows_of", "runs_of"]


@dataclass(frozen=True, slots=True)
class Run:
    """A drill that is to be run; ``product`` is ``None`` for ours."""

    fault: Fault
    product: Product | None = None

    @property
    def row(self) -> Row:
        """What is known of it before it has run."""
        return (
            Row(self.fault, None)
            if self.product is None
            else Row(self.fault, None, product=self.product.name)
        )

    def stage(self, ground: Ground, directory: Path, settings: Mapping[str, object]) -> Stage:
        if self.product is None:
            return self.fault.stage(ground, directory, settings=settings)
        return peer_stage(self.product, self.fault, ground, directory, settings=settings)


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all drills of a table; ``haste`` in ms, ``logs`` is their directory."""

    server: str
    haste: float
    settings: Mapping[str, object]
    logs: Path


@dataclass(frozen=True, slots=True)
class _End:
    """What a process has found of its drill; the rest of the row is known where it was started."""

    outcome: Outcome | None
    error: str
    servers: Sequence[str]
    seconds: float


def runs_of(faults: Sequence[Fault], *, with_peers: bool) -> Iterator[Run]:
    """Each fault on ours, and right after it on the peers to which it applies."""
    for fault in faults:
        yield Run(fault)
        if with_peers:
            yield from (Run(fault, product) for product in PRODUCTS if fault.name in product.faults)


def drill(stage: Stage, fault: Fault, *, haste: float = 0) -> Outcome:
    """Run one fault on a fresh pool and judge what arrived.

    ``haste`` is what a busy machine may add to the bound, in ms.
    """
    with stage:
        stage.begin()
        with stage.under_fault():
            fault.strike(stage)
        stage.run_on(stage.calm)
        stage.note("end of what is judged")
        stage.bound += haste
        return stage.finish()


def rows_of(
    runs: Sequence[Run],
    terms: Terms,
    *,
    at_a_time: int = 1,
    begun: Callable[[Row], None],
    noted: Callable[[Row, str], None],
) -> Iterator[Row]:
    """A row for each of ``runs``, as they end; ``begun`` and ``noted`` are told on the way.

    What is still running when nobody asks for more is ended, and takes its servers with it.
    """
    ahead = list(reversed(runs))
    running: dict[Connection, tuple[Run, BaseProcess]] = {}
    try:
        while ahead or running:
            while ahead and len(running) < at_a_time:
                run = ahead.pop()
                begun(run.row)
                pipe, process = _started(run, terms)
                running[pipe] = (run, process)
            for pipe in wait(list(running)):
                run, process = running[pipe]
                try:
                    said = pipe.recv()
                except EOFError:
                    process.join()
                    said = _End(None, f"the drill's process ended with status {process.exitcode}", (), 0.0)
                if isinstance(said, str):
                    noted(run.row, said)
                    continue
                process.join()
                del running[pipe]
                yield replace(
                    run.row,
                    outcome=said.outcome,
                    error=said.error,
                    servers=said.servers,
                    seconds=said.seconds,
                )
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _started(run: Run, terms: Terms) -> tuple[Connection, BaseProcess]:
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    product = None if run.product is None else run.product.name
    process = context.Process(
        target=_carry_out, args=(run.fault.name, product, terms, theirs), name=run.row.name
    )
    process.start()
    theirs.close()
    return ours, process


def _carry_out(fault: str, product: str | None, terms: Terms, pipe: Connection) -> None:
    """The process of a drill."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; who started this one ends it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    (named_fault,) = named(fault)
    run = Run(named_fault, next((it for it in PRODUCTS if it.name == product), None))
    pipe.send(_end(run, terms, tell=pipe.send))


def _end(run: Run, terms: Terms, *, tell: Callable[[str], None]) -> _End:
    directory = terms.logs / run.row.name
    directory.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    outcome, error, servers = None, "", ()
    try:
        with run.fault.ground(directory, terms.server) as ground:
            servers = ground.software()
            stage = run.stage(ground, directory, terms.settings)
            stage.tell = tell
            outcome = drill(stage, run.fault, haste=terms.haste)
    except (AssertionError, pytest.fail.Exception, pytest.skip.Exception) as wrong:
        error = f"the drill did not come to its end: {wrong}"
    return _End(outcome, error, servers, time.monotonic() - began)
