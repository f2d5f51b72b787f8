"""Runs ``celery`` with the arguments it is given; for processes under libfaketime.

libfaketime 0.9.10 that leaves the monotonic clock alone breaks ``clock_nanosleep``, which ``time.sleep`` uses
from Python 3.11 on (EINVAL); ``select`` waits the same without it.
"""

from __future__ import annotations

import select
import sys
import time
from typing import SupportsIndex


def _sleep(seconds: float | SupportsIndex) -> None:
    select.select([], [], [], float(seconds))


if __name__ == "__main__":
    time.sleep = _sleep
    from celery.__main__ import main

    sys.argv[0] = "celery"
    sys.exit(main())
