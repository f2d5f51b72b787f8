"""How the harness looks at a queue and at processes, from outside and for little."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import redis

from benchmarks.figures import Sample

__all__ = ["cpu_seconds", "occurrences_of", "resident_bytes", "watched"]

_SAMPLE = """
local time = redis.call('TIME')
return {time[1] .. string.format('.%06d', time[2]), redis.call('LLEN', KEYS[1])}
"""
_PAGE = 5_000  # messages read at a time
_NAME = re.compile(rb'"argsrepr": "[\[(]\'([^\']+)\'')
_DUE = re.compile(rb'"dispatch_due": "([^"]+)"')
_SCHED = 2  # the clock of a process counts what all its threads ran


def watched(client: redis.Redis, queue: str, *, every: float, until: float) -> Iterator[Sample]:
    """The length of ``queue``, each ``every`` seconds, up to ``until`` by Redis's clock and once past it."""
    script = client.register_script(_SAMPLE)
    while True:
        began = time.monotonic()
        at, length = script(keys=[queue])
        sample = Sample(float(at), int(length))
        yield sample
        if sample.at >= until:
            return
        time.sleep(max(0.0, every - (time.monotonic() - began)))


def messages(client: redis.Redis, queue: str) -> Iterator[bytes]:
    """Those on ``queue``, the first that was pushed first."""
    length: Any = client.llen(queue)
    for end in range(-1, -length - 1, -_PAGE):
        page: Any = client.lrange(queue, end - _PAGE + 1, end)
        yield from reversed(page)


def occurrences_of(client: redis.Redis, queue: str) -> list[tuple[str, int]]:
    """Entry and due (ms) of each message on ``queue``, in the order in which they were pushed."""
    found = []
    for raw in messages(client, queue):
        name, due = _NAME.search(raw), _DUE.search(raw)
        if name is None or due is None:
            raise AssertionError(f"not a message of ours: {raw[:300]!r}")
        at = datetime.fromisoformat(due.group(1).decode().replace("Z", "+00:00"))
        found.append((name.group(1).decode(), round(1000 * at.timestamp())))
    return found


def cpu_seconds(pid: int) -> float:
    """What the process has run so far, user and system, to the nanosecond: its clock of POSIX, on Linux."""
    return time.clock_gettime((~pid << 3) | _SCHED)


def resident_bytes(pid: int) -> int:
    """The memory that the process has in RAM."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise AssertionError(f"process {pid} has ended")
    return 1024 * int(found.group(1))
