"""Real processes with a log each, ended by their pid whatever happens."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["ROOT", "Process", "celery", "die_with_parent", "wait_until"]

ROOT = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG = 1
_ENDING = 8.0  # seconds that a process has to end in order before it is killed


def wait_until(
    predicate: Callable[[], object], timeout: float, *, every: float = 0.02, why: Callable[[], str] = str
) -> None:
    """Return as soon as ``predicate`` is true; ``AssertionError`` with ``why`` after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() >= end:
            raise AssertionError(f"not within {timeout:g} s: {why() or predicate}")
        time.sleep(every)


def die_with_parent() -> None:
    """Called in a ``Process``: it is not left behind, even if whoever started it is killed."""
    if sys.platform == "linux" and os.environ.get("DRILL_PARENT") == str(os.getppid()):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """One process in a session of its own, so that its children can be ended with it."""

    def __init__(self, name: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log_path = log
        self._argv = list(argv)
        self._env = dict(env)
        self.ended_by_us = False  #: whether it was told to end
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        ours = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "DRILL_PARENT": str(os.getpid())}
        env = {**os.environ, **ours, **self._env}
        with self.log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                self._argv, env=env, cwd=self.log_path.parent, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._started().pid

    @property
    def alive(self) -> bool:
        return self._started().poll() is None

    @property
    def log(self) -> str:
        """All that it printed, colours aside."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self.ended_by_us |= number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT)
        self._started().send_signal(number)

    def terminate(self) -> None:
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    def pause(self) -> None:
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def wait(self, timeout: float) -> int:
        """Its exit status, once it has ended; ``AssertionError`` with its log if it does not."""
        try:
            return self._started().wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout:g} s\n{self.log}") from None

    def end(self) -> None:
        """End it and its children, in order if it obeys, at last by SIGKILL; idempotent."""
        if self._popen is None:
            return
        if self._popen.poll() is None:
            self._signal_group(signal.SIGCONT)
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(_ENDING)
        self._signal_group(signal.SIGKILL)
        self._popen.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._popen is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._popen

    def __repr__(self) -> str:
        return f"<{self.name} pid {self._popen.pid if self._popen else None}>"


def celery(*arguments: str, launch: bool = False) -> list[str]:
    """The command line of ``celery``; ``launch`` for processes under libfaketime."""
    return [sys.executable, "-m", "tests.drills.launch" if launch else "celery", *arguments]
