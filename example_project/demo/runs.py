"""What the worker writes down of each message that it runs: a list in Redis, stamped with Redis TIME."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["Recorder", "Run", "RunLog"]

_KEY = "demo:runs"
_STAMP_AND_PUSH = """
local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('RPUSH', KEYS[1], string.format('%.0f', ms) .. ' ' .. ARGV[1])
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one message; ``due`` and ``at`` are milliseconds since 1970, by Redis's clock.

    ``number`` is that of the definition that it was sent by, 0 for one that never changes.
    """

    entry: str
    due: int
    node: str
    task_id: str
    at: int
    number: int = 0

    @property
    def lag(self) -> int:
        """Milliseconds from the due instant to the run."""
        return self.at - self.due


class Recorder:
    """Appends a run, at the time of the server."""

    def __init__(self, client: Any) -> None:
        self._push = client.register_script(_STAMP_AND_PUSH)

    def __call__(self, **run: str | int | None) -> None:
        self._push(keys=[_KEY], args=[json.dumps(run)])


class RunLog:
    """Reads the runs, each of them once."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.runs: list[Run] = []

    def read(self) -> list[Run]:
        """The runs since the last call."""
        new = [_parse(row) for row in self._client.lrange(_KEY, len(self.runs), -1)]
        self.runs += new
        return new


def _parse(row: bytes) -> Run:
    at, _, fields = row.decode().partition(" ")
    run = json.loads(fields)
    due = round(datetime.fromisoformat(run["due"].replace("Z", "+00:00")).timestamp() * 1000)
    return Run(run["entry"], due, run["node"], run["task_id"], int(at), run["number"])
