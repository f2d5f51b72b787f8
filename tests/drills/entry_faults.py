"""What happens to single entries: they must not touch the others.

Each function harms a running stage and returns when the consequences are over.
"""

from __future__ import annotations

import json
import time

from tests.drills.node_faults import handover, kill
from tests.drills.oracle import Every
from tests.drills.process import wait_until
from tests.drills.releases import Spec, every
from tests.drills.stage import Stage

__all__ = ["LAZY", "SPOILT", "UNSERIALISABLE", "queue_spoilt", "unserialisable"]

#: The last of the twenty has a queue to itself, named as the entry.
SPOILT = {**every(19), "spoilt": Spec(Every(1), {"queue": "spoilt"})}
#: The last one has an argument that JSON has no word for.
UNSERIALISABLE = {**every(19), "odd": Spec(Every(1), odd="unserialisable")}
#: The last two have arguments that the owner's own code makes when they are fired.
LAZY = {**every(18), **{f"lazy-{number}": Spec(Every(1), odd="locked") for number in range(2)}}

_QUIET = 400  # ms after a due: nothing is on its way
_SHOWN = 10.0  # seconds until a node's word about an entry can be read


def queue_spoilt(stage: Stage) -> None:
    """Somebody puts a string where one entry's queue is; the others keep their bound."""
    stage.at_a_due(_QUIET)
    began = time.monotonic()
    stage.cluster.redis.set("spoilt", "no list")
    stage.note("the queue of one entry is a string")
    stage.run_on(stage.lease)
    _shown_in_error(stage, "spoilt", "WRONGTYPE", "holds a string")
    stage.cluster.redis.delete("spoilt")
    outage = time.monotonic() - began
    stage.note(f"the queue is a queue again after {outage:.1f} s")
    stage.bounds["spoilt"] = 1000 * (2 * outage + 3)  # the pauses between its tries double
    wait_until(
        lambda: any(
            it.entry == "spoilt" and it.at / 1e6 > time.time() - 1 for it in stage.collector.arrivals
        ),
        2 * outage + 3,
        why=lambda: f"a message of the mended entry\n{stage.cluster.logs()}",
    )
    stage.note("its messages come again")
    stage.run_on(0.6 * stage.lease)


def unserialisable(stage: Stage) -> None:
    """It is never fired, and said to be so, also by the node that has it next."""
    handover(stage)
    _shown_in_error(stage, "odd", "object")
    kill(stage)
    _shown_in_error(stage, "odd", "object")


def _shown_in_error(stage: Stage, name: str, *words: str) -> None:
    """The command line must name the entry and the cause: one of ``words``."""

    def shown() -> bool:
        done = stage.cluster.run("dispatch", "entries", "--state", "error", "--json")
        rows = {row["name"]: str(row["error"]) for row in json.loads(done.out)["entries"]}
        said.append(rows)
        return set(rows) == {name} and any(word in rows[name] for word in words)

    said: list[dict[str, str]] = []
    try:
        wait_until(shown, _SHOWN, every=0.2)
    except AssertionError:
        stage.complaints.append(f"{name} alone should be shown in error, for {words}: {said[-1]}")
