"""Wrong wall clocks, by Debian's libfaketime: of a beat, or of a Redis.

The monotonic clock stays right.  The library hangs Debian's own redis-server, whose jemalloc asks for the
time before libfaketime is ready; Valkey from the wheel allocates by libc and is fine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["clock_environment", "faketime", "set_clock"]

_LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
)


def faketime() -> str | None:
    """Debian's libfaketime, if it is installed."""
    return next((library for library in _LIBRARIES if os.path.exists(library)), None)


def clock_environment(steps: Path) -> Mapping[str, str]:
    """What a process needs whose clock ``set_clock`` sets; ``steps`` must be there when it starts."""
    library = faketime()
    if library is None:
        raise AssertionError("a wrong clock needs libfaketime: apt-get install faketime")
    return {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(steps),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(steps: Path, offset: str) -> None:
    """Step the clock to ``offset`` from the right time, such as ``-30s``; at once, in every process of it."""
    draft = steps.with_suffix(".new")
    draft.write_text(f"{offset}\n")
    draft.replace(steps)
