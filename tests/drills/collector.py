"""Takes every message off the broker as it arrives, and notes when that was by Redis's clock.

The messages are moved, in one script with TIME, to a list of the harness's own on the same server.  A move
whose reply is lost (the server is killed just then) is therefore found again at the end, and never looks like
a loss.  On one queue the collector waits with ``BLMOVE queue queue RIGHT RIGHT``, which changes nothing and
returns the moment a message is there; the script follows in the same pipeline.

Where real workers are to run the messages, the script passes each of them on to a queue of theirs.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.drills.checker import Arrival

__all__ = [
    "ARCHIVE",
    "MARK",
    "RUNS",
    "WORK",
    "Collector",
    "arrival_of",
    "connect",
    "decode",
    "now_us",
    "runs",
]

ARCHIVE = "drill:arrivals"
MARK = "drill_mark"  #: the header that user code of ``tests.drills.app`` puts on a message
WORK = "drill:work"  #: the queue that the drills' workers listen to
RUNS = "drill:runs"  #: what real workers ran, written by ``tests.drills.app``
_PRIORITY_STEPS = (0, 3, 6, 9)  # kombu's, of its Redis transport
_BLOCK = 1  # seconds
_POLL = 0.004  # seconds, where several queues are watched
_RETRY = 0.05  # seconds between tries while the server is away
_NAME = 16 + 1 + 6 + 1 + 32  # characters of a row that no other one has: instant, number, the call's word

_DRAIN = """
-- KEYS[1] archive, KEYS[2] the workers' queue, KEYS[3..] queues; ARGV[1] a word that no other call has,
-- ARGV[2] '1' if there are workers.  Returns the rows moved.  A key that is no queue just now is left alone.
local time = redis.call('TIME')
local at = time[1] .. string.format('%06d', tonumber(time[2]))
local rows = {}
for i = 3, #KEYS do
  for _ = 1, 1000 do
    local message = redis.pcall('RPOP', KEYS[i])
    if type(message) ~= 'string' then break end
    local row = at .. string.format(' %06d ', #rows) .. ARGV[1] .. ' ' .. (i - 3) .. ' ' .. message
    redis.call('RPUSH', KEYS[1], row)
    if ARGV[2] == '1' then redis.call('LPUSH', KEYS[2], message) end
    rows[#rows + 1] = row
  end
end
return rows
"""


def connect(url: str) -> redis.Redis:
    """A client that neither retries nor waits long, so that the harness sees what is."""
    return redis.Redis.from_url(
        url, socket_timeout=5, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0), health_check_interval=0
    )


def now_us(client: redis.Redis) -> int:
    """Redis TIME in microseconds."""
    answer: Any = client.time()
    return int(answer[0]) * 1_000_000 + int(answer[1])


class Collector:
    """Collects from ``queues`` until stopped; use as a context manager.  Survives that the server is away.

    ``url`` may be a function, which is asked for each new connection: where the master is now.  ``pass_on``:
    the messages go on to the workers' queue.  ``lean``: of each message only what is judged is kept.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        *,
        queues: Sequence[str] = ("celery",),
        priorities: bool = False,
        pass_on: bool = False,
        lean: bool = False,
    ) -> None:
        self._lean = lean
        self._pass_on = "1" if pass_on else "0"
        self._find = url if callable(url) else lambda: url
        steps = _PRIORITY_STEPS if priorities else (0,)
        self._keys = [f"{queue}\x06\x16{step}" if step else queue for queue in queues for step in steps]
        self._rows: set[bytes] = set()
        self._arrivals: list[Arrival] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drill-collector", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take what is left, and what a lost reply had hidden; idempotent."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._thread.join(10)
        with contextlib.suppress(redis.RedisError), contextlib.closing(connect(self._find())) as client:
            self._drain(client)
            archived: Any = client.lrange(ARCHIVE, 0, -1)
            self._note(archived)

    def __enter__(self) -> Collector:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def arrivals(self) -> list[Arrival]:
        """Everything so far, in order of arrival."""
        with self._lock:
            return sorted(self._arrivals, key=lambda arrival: arrival.at)

    def __len__(self) -> int:
        return len(self._arrivals)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with contextlib.closing(connect(self._find())) as client:
                    while not self._stopping.is_set():
                        self._wait(client)
            except redis.RedisError:
                self._stopping.wait(_RETRY)

    def _wait(self, client: redis.Redis) -> None:
        if len(self._keys) > 1:
            if not self._drain(client):
                time.sleep(_POLL)
            return
        pipe = client.pipeline(transaction=False)
        queue = self._keys[0]
        pipe.blmove(queue, queue, _BLOCK, "RIGHT", "RIGHT")
        pipe.eval(_DRAIN, 3, ARCHIVE, WORK, queue, uuid.uuid4().hex, self._pass_on)
        self._note(pipe.execute()[1])

    def _drain(self, client: redis.Redis) -> int:
        keys = (ARCHIVE, WORK, *self._keys)
        rows: Any = client.eval(_DRAIN, len(keys), *keys, uuid.uuid4().hex, self._pass_on)
        self._note(rows)
        return len(rows)

    def _note(self, rows: Sequence[bytes]) -> None:
        new = {name: row for row in rows if (name := row[:_NAME]) not in self._rows}
        found = [it for it in map(self._decode, new.values()) if not _given_back(it)]
        if self._lean:
            found = [replace(it, headers={}, properties={}) for it in found]
        with self._lock:
            self._rows.update(new)
            self._arrivals.extend(found)

    def _decode(self, row: bytes) -> Arrival:
        at, _, _, index, raw = row.split(b" ", 4)
        return decode(raw, at=int(at), queue=self._keys[int(index)])


def decode(raw: bytes, *, at: int, queue: str) -> Arrival:
    """A kombu message as an arrival; one that cannot be read becomes a phantom."""
    try:
        message = json.loads(raw)
        headers = message["headers"]
        return arrival_of(headers, at=at, queue=queue, args=_args(message), properties=message["properties"])
    except (ValueError, KeyError, TypeError) as error:
        text = raw.decode(errors="replace")
        return Arrival(f"unreadable: {error!r}", None, "", at, queue, headers={"raw": text})


def arrival_of(
    headers: dict[str, Any], *, at: int, queue: str, args: Sequence[object], properties: dict[str, object]
) -> Arrival:
    """The entry is the first argument that the drills give each task, which no scheduler can get wrong."""
    due = headers.get("dispatch_due")
    return Arrival(
        entry=str(args[0]) if args else "",
        due=_milliseconds(due) if isinstance(due, str) else None,
        task_id=str(headers.get("id", "")),
        at=at,
        queue=queue,
        node=str(headers.get("dispatch_node", "")),
        headers=headers,
        properties=properties,
    )


def _given_back(arrival: Arrival) -> bool:
    """Whether a worker that ended put it back: nobody sent it anew."""
    info: Any = arrival.properties.get("delivery_info") or {}
    return bool(info.get("redelivered"))


def _args(message: dict[str, Any]) -> Sequence[object]:
    body = message["body"]
    if message["properties"].get("body_encoding") == "base64":
        body = base64.b64decode(body)
    return tuple(json.loads(body)[0])


def _milliseconds(text: str) -> int:
    instant = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if instant.tzinfo is None:
        raise ValueError(f"the due {text!r} has no zone")
    return round(instant.timestamp() * 1000)


def runs(client: redis.Redis) -> Iterator[Arrival]:
    """What real workers ran, as ``tests.drills.app`` noted it."""
    rows: Any = client.lrange(RUNS, 0, -1)
    for row in rows:
        run = json.loads(row)
        yield arrival_of(run["headers"], at=run["at"], queue=run["queue"], args=run["args"], properties={})


def collected(collector: Collector, schedule_names: Sequence[str]) -> Callable[[], bool]:
    """A predicate: at least one message of each of ``schedule_names`` arrived."""
    wanted = set(schedule_names)
    return lambda: wanted <= {arrival.entry for arrival in collector.arrivals}
