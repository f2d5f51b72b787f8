"""Whether a long run needs more and more: memory, descriptors and threads of a process, connections and keys.

Samples are taken while the pool is at rest.  The first quarter of a run is left out, for what is bought once
(caches, arenas, pools); then the median of the second quarter is held against that of the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import redis

__all__ = ["LIMITS", "Growth", "Limit", "Sample", "grown", "sample"]

Sample = Mapping[str, float]

_MB = 1 << 20
_LEAST = 8  # samples; a quarter of fewer says nothing


@dataclass(frozen=True, slots=True)
class Limit:
    """How much more the last quarter may need: a share of what the second one did, and something on top."""

    share: float
    extra: float

    def allows(self, before: float, after: float) -> bool:
        return after <= before * (1 + self.share) + self.extra


LIMITS: Mapping[str, Limit] = {
    "memory of a beat (MB)": Limit(0.05, 4),
    "descriptors of a beat": Limit(0, 4),
    "threads of a beat": Limit(0, 1),
    "connections to Redis": Limit(0, 4),
    "keys of the pool": Limit(0, 1),
    "rows of the pool": Limit(0, 4),
    "bytes of the pool's keys": Limit(0.02, 1024),
}


@dataclass(frozen=True, slots=True)
class Growth:
    """What was needed in the second and in the last quarter of a run."""

    what: str
    before: float
    after: float

    @property
    def allowed(self) -> bool:
        return LIMITS[self.what].allows(self.before, self.after)


def sample(pid: int, client: redis.Redis, prefix: str) -> Sample:
    """What the process and the pool need now; of the process nothing where there is no /proc."""
    keys: Any = list(client.scan_iter(match=f"{{{prefix}}}:*", count=1000))
    return {
        **_of_process(Path("/proc") / str(pid)),
        "connections to Redis": float(len(_answer(client.client_list()))),
        "keys of the pool": float(len(keys)),
        "rows of the pool": float(sum(_rows(client, key) for key in keys)),
        "bytes of the pool's keys": float(sum(_bytes(client, key) for key in keys)),
    }


def _of_process(there: Path) -> dict[str, float]:
    if not there.exists():
        return {}
    status = dict(line.split(":", 1) for line in (there / "status").read_text().splitlines() if ":" in line)
    return {
        "memory of a beat (MB)": int(status["VmRSS"].split()[0]) * 1024 / _MB,
        "descriptors of a beat": float(len(list((there / "fd").iterdir()))),
        "threads of a beat": float(status["Threads"]),
    }


def _rows(client: redis.Redis, key: bytes) -> int:
    kind = _answer(client.type(key))
    count = {b"hash": client.hlen, b"zset": client.zcard}.get(kind)
    return int(_answer(count(key))) if count else 1


def _bytes(client: redis.Redis, key: bytes) -> int:
    return int(_answer(client.memory_usage(key, samples=0)) or 0)


def _answer(found: Any) -> Any:
    """redis-py types every answer as one that may be awaited."""
    return found


def grown(samples: Sequence[Sample]) -> list[Growth]:
    """Each figure that every sample has; nothing where there are too few samples to tell."""
    if len(samples) < _LEAST:
        return []
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    return [
        Growth(what, median(it[what] for it in second), median(it[what] for it in last))
        for what in LIMITS
        if all(what in it for it in samples)
    ]
