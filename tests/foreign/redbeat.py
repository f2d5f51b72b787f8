"""A keyspace that RedBeat wrote: ``python -m tests.foreign.redbeat URL [LAST_RUN]``, in a process of its own.

RedBeat connects receivers of Celery's signals when it is imported, so it is kept out of the tests' process.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone
from typing import Any

from celery import Celery
from celery.schedules import crontab, schedule
from dateutil.rrule import FR, MO
from redbeat import RedBeatSchedulerEntry
from redbeat.schedules import rrule

#: When the entries were sent last, if nothing else is said.
LAST_RUN = datetime(2026, 11, 21, 3, 10, 0, 740_123, tzinfo=timezone.utc)


def entries() -> dict[str, dict[str, Any]]:
    start = datetime(2026, 11, 1, 8, tzinfo=timezone.utc)
    return {
        "interval": {"schedule": schedule(timedelta(seconds=90)), "args": [1, 2]},
        "relative": {"schedule": schedule(timedelta(hours=1), relative=True)},
        "crontab": {"schedule": crontab(minute="*/10", hour="2-4"), "options": {"queue": "reports"}},
        "rrule": {"schedule": rrule("WEEKLY", dtstart=start, byweekday=[MO, FR], byhour=[8, 20])},
        "monthly": {"schedule": rrule("MONTHLY", dtstart=start, bymonthday=-1, count=12)},
        "dates": {"schedule": schedule(60.0), "kwargs": {"since": start}},
        "expiring": {"schedule": schedule(60.0), "options": {"expires": start}},
        "disabled": {"schedule": schedule(60.0), "enabled": False},
        "fresh": {"schedule": schedule(60.0)},
    }


def write(url: str, last_run: datetime) -> None:
    app = Celery("proj", broker=url, set_as_current=False)
    app.conf.redbeat_redis_url = url
    app.conf.redbeat_redis_options = {}
    for name, fields in entries().items():
        entry = RedBeatSchedulerEntry(name, f"proj.{name}", app=app, **fields)
        entry.save()
        if name not in ("fresh", "disabled"):
            entry._next_instance(last_run_at=last_run)  # what its scheduler does when it has sent


if __name__ == "__main__":
    write(sys.argv[1], datetime.fromisoformat(sys.argv[2]) if sys.argv[2:] else LAST_RUN)
