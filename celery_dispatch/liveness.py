"""How a probe on the same host learns that a node's loop turns, without asking Redis.

The loop writes, about once a second, one small JSON file into a directory that belongs to one user, Redis,
key prefix and app.  What a reader finds, and what it means:

=====================================  ====================================================================
file                                   meaning
=====================================  ====================================================================
its process is there, written lately   the loop turns
its process is there, written long ago the loop hangs (or the process is stopped)
its process is gone                    killed before it could remove the file; the next node or reader does
written "later than now"               left from before a reboot, removed likewise
=====================================  ====================================================================

A process is known by pid *and* start time where the system tells it: where ``/tmp`` outlives a container,
the next beat has the same pid 1.  Times are of the monotonic clock, which all processes of a host share, so a
stepped wall clock neither hides a hang nor invents one.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

__all__ = ["STALE_AFTER", "Turn", "TurnFile", "directory_for", "read_turns"]

logger = logging.getLogger(__name__)

STALE_AFTER = 15.0  #: seconds without a turn after which a loop counts as hanging
_WRITE_EVERY = 1.0  # seconds
_SUFFIX = ".json"


def directory_for(server: str, key_prefix: str, app_name: str) -> Path:
    """Where this user's nodes of one Redis, key prefix and app leave their files; creates nothing."""
    digest = sha256(json.dumps([server, key_prefix, app_name]).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"celery-dispatch-{_uid()}" / digest


@dataclass(frozen=True, slots=True)
class Turn:
    """What one node last said: ``age`` is the seconds since its loop last turned."""

    node: str
    pid: int
    age: float

    @property
    def is_stale(self) -> bool:
        return self.age > STALE_AFTER


class TurnFile:
    """A node's sign of life.  Never raises: a directory that cannot be written is logged once."""

    def __init__(self, directory: Path, node_id: str) -> None:
        self._directory = directory
        self._node = node_id
        self._path = directory / f"{quote(node_id, safe='')}{_SUFFIX}"
        self._written: float | None = None
        self._prepared = False
        self._warned = False

    def touch(self, monotonic_now: float) -> None:
        """Say that the loop turned; writes at most once a second, so every turn may call it."""
        if self._written is not None and 0 <= monotonic_now - self._written < _WRITE_EVERY:
            return
        self._written = monotonic_now
        try:
            self._write(monotonic_now)
        except OSError as error:
            if not self._warned:
                self._warned = True
                logger.warning(
                    "Node %s cannot write its liveness file, so `celery dispatch health` will call this host "
                    "unhealthy: %s. Let %s be a directory that this user owns and can write, or set TMPDIR.",
                    self._node,
                    error,
                    self._directory,
                )

    def remove(self) -> None:
        """Take the file away, at a graceful stop; idempotent."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.debug("Node %s could not remove its liveness file: %s", self._node, error)

    def _write(self, monotonic_now: float) -> None:
        pid = os.getpid()
        record = {"node": self._node, "pid": pid, "born": _born(pid), "turned": monotonic_now}
        draft = self._path.with_suffix(".new")
        if not self._prepared or not self._directory.is_dir():
            _make_private(self._directory.parent)
            _make_private(self._directory)
            read_turns(self._directory, monotonic_now=monotonic_now)  # sweeps what killed nodes left
            self._prepared = True
        draft.write_text(json.dumps(record), encoding="utf-8")
        os.replace(draft, self._path)


def read_turns(directory: Path, *, monotonic_now: float | None = None) -> tuple[Turn, ...]:
    """The last turn of every node whose process is there, by node id; removes what dead ones left."""
    now = time.monotonic() if monotonic_now is None else monotonic_now
    try:
        if directory.parent.lstat().st_uid != _uid():
            return ()
        paths = sorted(directory.glob(f"*{_SUFFIX}"))
    except OSError:
        return ()
    return tuple(turn for turn in (_read(path, now) for path in paths) if turn is not None)


def _read(path: Path, now: float) -> Turn | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        node, pid, turned = str(record["node"]), int(record["pid"]), float(record["turned"])
        born = record.get("born")
    except FileNotFoundError:
        return None  # its node left between the listing and now
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("Ignoring %s, which is not a liveness file: %s", path, error)
        return None
    from_before_a_reboot = turned > now + 1
    if from_before_a_reboot or not _is_running(pid, born):
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return None
    return Turn(node, pid, max(0.0, now - turned))


def _is_running(pid: int, born: object) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return born is None or born == _born(pid)


def _born(pid: int) -> str | None:
    """The start time of a process, only fit for comparison; ``None`` where the system does not tell it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    if len(fields) <= 19:
        return None
    state, start = fields[0], fields[19]
    return "ended" if state in "ZX" else start


def _make_private(directory: Path) -> None:
    """Make sure that a directory is there and that only this user can write it."""
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != _uid():
        raise PermissionError(f"{directory} belongs to somebody else")
    if stat.S_IMODE(found.st_mode) != 0o700:
        directory.chmod(0o700)


def _uid() -> int:
    return os.getuid()
