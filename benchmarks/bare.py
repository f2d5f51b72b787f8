"""The limit of the machine: ready messages pushed by a bare pipelined client, and nothing else.

``python -m benchmarks.bare URL SOURCE TARGET`` pushes a copy of each message of the list ``SOURCE`` to
``TARGET``, 500 in each round trip, and prints how many that was a second.  It is a process of its own, as a
beat is.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import redis

from benchmarks.ground import QUEUE
from tests.drills.process import ROOT

__all__ = ["bare_rate"]

_TARGET = "bench:bare"
_BATCH = 500
_LONGEST = 120.0  # seconds


def bare_rate(client: redis.Redis, url: str) -> float | None:
    """Messages a second that a bare client pushes, of those queued now; ``None`` if there are none."""
    if not client.llen(QUEUE):
        return None
    argv = [sys.executable, "-m", "benchmarks.bare", url, QUEUE, _TARGET]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=_LONGEST, check=True)
    client.unlink(_TARGET)
    return float(done.stdout)


def push(url: str, source: str, target: str) -> float:
    client = redis.Redis.from_url(url)
    messages: Any = client.lrange(source, 0, -1)
    began = time.perf_counter()
    for start in range(0, len(messages), _BATCH):
        pipe = client.pipeline(transaction=False)
        for message in messages[start : start + _BATCH]:
            pipe.lpush(target, message)
        pipe.execute()
    return len(messages) / (time.perf_counter() - began)


if __name__ == "__main__":
    print(push(*sys.argv[1:]))
