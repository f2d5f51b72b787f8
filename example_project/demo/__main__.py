"""``python -m demo``: the story from start to verdict; the exit status is 0 only for a good one.

0 every occurrence ran exactly once; 1 not so, or a process did not do as it should; 130 interrupted.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import redis
from rich.console import Console

from .app import ENTRIES, STEP_MS
from .live import Change, Live
from .pool import PoolReader, View
from .processes import Fleet, embedded_valkey
from .runs import RunLog
from .screen import Frame, Lane, Screen, verdict_panel
from .verdict import Grid, Verdict, judge

_FRAME = 0.25  # seconds between two looks
_GRACE_MS = 1500  # an occurrence so old that did not run is shown as lost while the demo goes on
_READY = 20.0  # seconds that the start may take
_SETTLE = 4.0  # seconds that the last occurrences may take to run
_SHORTLY = 1.5  # seconds after the kill, when the dead beat still owns its entries


class Abandoned(Exception):
    """The demo cannot go on; the text says why."""


@dataclass(slots=True)
class Demo:
    """What is known while the story runs."""

    fleet: Fleet
    client: Any
    pool: PoolReader
    log: RunLog
    screen: Screen
    live: Live
    started: float = field(default_factory=time.monotonic)
    began: dict[str, int] = field(default_factory=dict)
    view: View = field(default_factory=View)
    events: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    unfollowed: list[Change] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def tell(self, event: str) -> None:
        self.events.append(f"{self.seconds:5.1f} s  * {event}")

    def tell_of(self, change: Change) -> None:
        """Tell it, and later how soon the beats followed."""
        self.tell(change.what)
        self.unfollowed += [change] if change.number else []

    def server_ms(self) -> int:
        seconds, micros = self.client.time()
        return int(seconds * 1000 + micros // 1000)

    def verdict(self, until: int) -> Verdict:
        grids = [Grid(name, began, STEP_MS) for name, began in self.began.items()]
        return judge(self.log.runs, [*grids, *self.live.grids], until=until)

    def look(self) -> None:
        """Read what is new and show it."""
        self.log.read()
        self.view = self.pool.view([*ENTRIES, *self.live.names])
        if len(self.began) < len(ENTRIES):
            self.began = self.pool.began(ENTRIES)
        for change in list(self.unfollowed):
            if followed := change.followed(self.log.runs):
                self.tell(f"that was fired {followed}")
                self.unfollowed.remove(change)
        for child in self.fleet.children:
            if child.crashed:
                raise Abandoned(f"{child.name} ended by itself with status {child.process.returncode}")
        lanes = [Lane(beat.name, beat.process.pid, beat.alive) for beat in self.fleet.beats.values()]
        origin = min(self.began.values(), default=None)
        verdict = self.verdict(self.server_ms() - _GRACE_MS) if self.began and self.log.runs else None
        self.screen.show(
            Frame(
                seconds=self.seconds,
                lanes=lanes,
                entries=ENTRIES,
                view=self.view,
                runs=self.log.runs,
                origin=origin,
                verdict=verdict,
                events=self.events,
                live=self.live.names,
            )
        )

    def watch(self, until: float) -> None:
        """Go on looking until so many seconds after the start."""
        while self.seconds < until:
            self.look()
            time.sleep(_FRAME)


def play(demo: Demo, *, kill_at: float, join_at: float, end_at: float) -> Verdict:
    """The story; its times count from the moment at which all beats share the schedule."""
    fleet = demo.fleet
    fleet.start_worker()
    for number in (1, 2, 3):
        fleet.start_beat(f"beat-{number}")
    demo.tell("started one worker and three beats")
    _wait_until_shared(demo)
    ready = demo.seconds
    demo.tell("three beats share the schedule, and the worker runs what they fire")
    demo.watch(ready + kill_at / 2)
    demo.tell_of(demo.live.create())
    demo.watch(ready + kill_at)
    dead = fleet.kill(_busiest(demo))
    demo.tell(
        f"SIGKILL for {dead.name} (pid {dead.process.pid}): the standby of each entry fires it 0.5 s late,"
    )
    demo.tell("until the lease of the dead beat has run out and its entries have new owners")
    demo.watch(min(ready + kill_at + _SHORTLY, ready + join_at))
    demo.tell_of(demo.live.change())
    demo.watch(ready + join_at)
    new = fleet.start_beat("beat-4")
    demo.tell(f"started beat-4 (pid {new.process.pid})")
    demo.watch(ready + (join_at + end_at) / 2)
    demo.tell_of(demo.live.pause())
    demo.watch(ready + end_at)
    return _close(demo)


def _busiest(demo: Demo) -> str:
    owners = list(demo.view.owners.values())
    return max(demo.fleet.beats, key=owners.count)


def _wait_until_shared(demo: Demo) -> None:
    while True:
        demo.look()
        steady = [state for state in demo.view.states.values() if state == "steady"]
        if len(steady) == 3 and len(demo.began) == len(ENTRIES) and demo.log.runs:
            return
        if demo.seconds > _READY:
            states, runs = dict(demo.view.states), len(demo.log.runs)
            raise Abandoned(f"after {_READY:.0f} s the pool is {states}, with {runs} runs")
        time.sleep(_FRAME)


def _close(demo: Demo) -> Verdict:
    """Count up to this moment: beats and worker go on until the last of it has had its time to run."""
    if demo.view.states.get("beat-4") != "steady":
        demo.faults.append("beat-4 did not get into the pool in time")
    demo.faults += [f"{change.what}; not all of it ran" for change in demo.unfollowed]
    until = demo.server_ms()
    demo.tell("the count ends here; waiting for the last runs")
    demo.look()
    patience = demo.seconds + _SETTLE
    while demo.seconds < patience and demo.verdict(until).lost:
        demo.look()
        time.sleep(_FRAME)
    demo.faults += [f"{beat.name} did not end on SIGTERM" for beat in demo.fleet.stop_beats(patience=4)]
    _drain(demo)
    return demo.verdict(until)


def _drain(demo: Demo) -> None:
    """Let the worker run what is still on the broker: a doubled message may hide there."""
    quiet_since, until = demo.seconds, demo.seconds + _SETTLE
    while demo.seconds < until and demo.seconds - quiet_since < 0.6:
        if demo.log.read():
            quiet_since = demo.seconds
        time.sleep(0.1)


def run(console: Console, *, kill_at: float, join_at: float, end_at: float) -> int:
    """Start everything, play, end everything; the exit status."""
    directory = Path(tempfile.mkdtemp(prefix="celery-dispatch-demo-"))
    keep = True
    try:
        with embedded_valkey(directory) as url:
            fleet = Fleet(broker_url=url, logs=directory)
            try:
                client: Any = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)
                pool = PoolReader(url)
                with Screen(console) as screen, Live(url, pool) as live:
                    demo = Demo(fleet, client, pool, RunLog(client), screen, live)
                    verdict = play(demo, kill_at=kill_at, join_at=join_at, end_at=end_at)
            finally:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C leaves nothing behind
                fleet.stop_all(patience=4)
        console.print(verdict_panel(verdict, demo.faults))
        console.print(f"{demo.seconds:.0f} s in all", highlight=False)
        keep = not verdict.good or bool(demo.faults)
    except Abandoned as why:
        console.print(f"[red]The demo was given up:[/red] {why}", highlight=False)
    except (KeyboardInterrupt, SystemExit):
        keep = False
        console.print("Interrupted; every process that was started has ended.", highlight=False)
        return 130
    finally:
        if keep:
            _print_logs(console, directory)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return 1 if keep else 0


def _print_logs(console: Console, directory: Path) -> None:
    for log in sorted(directory.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-8:]
        text = "\n".join([f"--- the end of {log}", *lines])
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__.splitlines()[0])
    parser.add_argument("--kill-at", type=float, default=8, help="when a beat is killed (%(default)s s)")
    parser.add_argument("--join-at", type=float, default=16, help="when another one starts (%(default)s s)")
    parser.add_argument("--end-at", type=float, default=24, help="when the count ends (%(default)s s)")
    options = parser.parse_args()
    if not 0 < options.kill_at < options.join_at < options.end_at:
        parser.error("--kill-at, --join-at and --end-at must follow each other")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    return run(Console(), kill_at=options.kill_at, join_at=options.join_at, end_at=options.end_at)


if __name__ == "__main__":
    sys.exit(main())
