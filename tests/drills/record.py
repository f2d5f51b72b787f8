"""What a drill leaves to be looked at: every arrival, and when each process was there.

A process is looked at from outside, so it does not matter who harmed it: it is *dead* when it has ended,
*stopped* while it stands still, *cut off* while its proxy does not let it through.  A server is *away* or
*stopped*.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.drills.checker import Arrival
from tests.drills.cluster import Beat
from tests.drills.ground import Ground
from tests.drills.proxy import Mode

__all__ = ["AWAY", "CUT_OFF", "DEAD", "STOPPED", "Record", "Spell", "Stall", "Watch"]

AWAY, CUT_OFF, DEAD, STOPPED = "away", "cut off", "dead", "stopped"
_EVERY = 0.02  # seconds between two looks
_CUT = (Mode.HOLD, Mode.DEAF, Mode.REFUSE)


@dataclass(frozen=True, slots=True)
class Spell:
    """``who`` was not all right in ``[since, until]`` (ms); ``until`` is ``None`` where it lasted.

    ``server``: it concerns every node.
    """

    who: str
    what: str
    since: int
    until: int | None = None
    server: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One run: from its anchor to the end of what is judged, both ms.

    ``beats`` are the names of the beats as they were started; ``late_from`` is the due from which lag is
    judged; ``struck`` is when the fault began and when its consequences were over.
    """

    anchor: int
    end: int
    late_from: int
    beats: tuple[str, ...]
    arrivals: tuple[Arrival, ...]
    spells: tuple[Spell, ...] = ()
    struck: tuple[int, int] | None = None


class Stall:
    """How long this machine let a thread wait that wanted to run: what part of a lag is nobody's fault."""

    _STEP = 0.005

    def __init__(self) -> None:
        self.worst = 0.0  #: ms
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drill-stall", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            time.sleep(self._STEP)
            self.worst = max(self.worst, (time.monotonic() - began - self._STEP) * 1000)


class Watch:
    """Notes the spells of ``beats`` and of the ground's servers until stopped."""

    def __init__(self, ground: Ground, beats: Mapping[str, Beat]) -> None:
        self._ground, self._beats = ground, beats
        self._open: dict[tuple[str, bool], Spell] = {}
        self._over: list[Spell] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drill-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Idempotent."""
        self._stopping.set()
        self._thread.join(5)

    @property
    def spells(self) -> tuple[Spell, ...]:
        """In the order in which they began; ask once stopped."""
        return tuple(sorted((*self._over, *self._open.values()), key=lambda spell: spell.since))

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY):
            now = time.time_ns() // 1_000_000
            for name, beat in list(self._beats.items()):
                self._note(name, False, _of_beat(beat), now)
            self._note("Redis", True, _of_server(lambda: self._ground.first.pid), now)
            if (broker := self._ground.broker) is not None:
                self._note("RabbitMQ", True, _of_server(lambda: broker.pid), now)

    def _note(self, who: str, server: bool, what: str, now: int) -> None:
        known = self._open.get((who, server))
        if known is not None and known.what != what:
            del self._open[who, server]
            self._over.append(Spell(who, known.what, known.since, now, server))
        if what and (known is None or known.what != what):
            self._open[who, server] = Spell(who, what, now, None, server)


def _of_beat(beat: Beat) -> str:
    try:
        if not beat.process.alive:
            return DEAD
        if _stands_still(beat.process.pid):
            return STOPPED
    except RuntimeError:  # not started yet
        return ""
    return CUT_OFF if beat.proxy is not None and beat.proxy.mode in _CUT else ""


def _of_server(pid: Callable[[], int]) -> str:
    try:
        return STOPPED if _stands_still(pid()) else ""
    except AssertionError:  # it has no pid while it does not run
        return AWAY


def _stands_still(pid: int) -> bool:
    """Whether the process is stopped by a signal; never, where there is no ``/proc``."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False
