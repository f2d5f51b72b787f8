"""Points in the life of a message at which a beat comes to harm by its own hand, to the instruction.

``DRILL_POINT="outbox.publish:after:3:kill"`` wraps the method behind that port in this process: its third
call from the moment that the file named by ``DRILL_POINT_FILE`` is there is carried out, and then the process
kills itself.  Calls that carry no message do not count.

=======  ===============================================================================================
harm     what happens
=======  ===============================================================================================
kill     SIGKILL
term     SIGTERM, after which the process goes on until it ends in order
pause    SIGSTOP; the drill lets it go on
cut      the process waits until the drill has cut its connections, and goes on
=======  ===============================================================================================

The file says how far it is: ``armed`` by the drill, ``reached`` by the process, ``done`` by the drill again.
"""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ARMED", "DONE", "PORTS", "REACHED", "Point", "install"]

ARMED, REACHED, DONE = "armed", "reached", "done"
_SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "pause": signal.SIGSTOP}
_CUT_WITHIN = 10.0  # seconds that the drill has for cutting a connection


def _carries_messages(claims: Any) -> bool:
    return any(claim.commands or claim.intent for claim in claims)


def _always(*_: object) -> bool:
    return True


#: Where each port's method is, and which of its calls count, by the argument that holds the batch.
PORTS: dict[str, tuple[str, str, int, Callable[[Any], bool]]] = {
    "ledger.claim": ("celery_dispatch.redis_store.ledger", "RedisLedger.claim", 1, _carries_messages),
    "outbox.render": ("celery_dispatch.celery_bridge.outbox", "CeleryOutbox.render", 0, _always),
    "intents.keep": ("celery_dispatch.redis_store.intents", "RedisIntents.keep", 0, bool),
    "outbox.publish": ("celery_dispatch.celery_bridge.outbox", "CeleryOutbox.publish", 0, bool),
    "intents.settle": ("celery_dispatch.redis_store.intents", "RedisIntents.settle", 0, bool),
}


@dataclass(frozen=True, slots=True)
class Point:
    """The ``number``-th call of a port's method, ``before`` or ``after`` it, and the harm done there."""

    port: str
    when: str
    number: int
    harm: str

    @classmethod
    def parse(cls, text: str) -> Point:
        port, when, number, harm = text.split(":")
        if port not in PORTS or when not in ("before", "after") or harm not in (*_SIGNALS, "cut"):
            raise ValueError(f"{text!r} is no point; write e.g. 'outbox.publish:after:3:kill'")
        return cls(port, when, int(number), harm)

    def __str__(self) -> str:
        return f"{self.port}:{self.when}:{self.number}:{self.harm}"


def install() -> None:
    """Wrap the method that ``DRILL_POINT`` names; nothing without it."""
    if text := os.environ.get("DRILL_POINT"):
        _wrap(Point.parse(text), Path(os.environ["DRILL_POINT_FILE"]))


def _wrap(point: Point, file: Path) -> None:
    module, path, position, counts = PORTS[point.port]
    owner, method = path.split(".")
    kind: Any = getattr(importlib.import_module(module), owner)
    original: Callable[..., Any] = getattr(kind, method)
    left = point.number

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        here = left > 0 and counts(args[position]) and file.exists()
        left -= here
        if here and not left and point.when == "before":
            _come_to_harm(point.harm, file)
        answer = original(self, *args, **kwargs)
        if here and not left and point.when == "after":
            _come_to_harm(point.harm, file)
        return answer

    setattr(kind, method, wrapped)


def _come_to_harm(harm: str, file: Path) -> None:
    file.write_text(REACHED)
    if harm == "cut":
        until = time.monotonic() + _CUT_WITHIN
        while file.read_text() != DONE and time.monotonic() < until:
            time.sleep(0.002)
        return
    os.kill(os.getpid(), _SIGNALS[harm])
