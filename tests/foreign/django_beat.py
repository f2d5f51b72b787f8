"""A database that django-celery-beat wrote: ``python -m tests.foreign.django_beat``, in a Django project.

``DJANGO_SETTINGS_MODULE`` is ``tests.foreign.django_settings``, and ``DATABASE`` a path for sqlite.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import django
from django.core.management import call_command

#: When the tasks were sent last, by the scheduler's own clock.
LAST_RUN = datetime(2026, 11, 21, 3, 10, 0, 740_123, tzinfo=timezone.utc)


def write() -> None:
    from django_celery_beat.models import (
        ClockedSchedule,
        CrontabSchedule,
        IntervalSchedule,
        PeriodicTask,
        SolarSchedule,
    )

    interval = IntervalSchedule.objects.create(every=2, period="minutes")
    paris = CrontabSchedule.objects.create(minute="0,30", hour="2-5", timezone="Europe/Paris")
    later = datetime.now(timezone.utc) + timedelta(days=30)
    sent: dict[str, Any] = {"last_run_at": LAST_RUN, "total_run_count": 7}
    for name, fields in {
        "interval": {"interval": interval, "args": "[1, 2]", **sent},
        "crontab": {"crontab": paris, "queue": "reports", "priority": 3, **sent},
        "solar": {
            "solar": SolarSchedule.objects.create(event="sunset", latitude=48.85, longitude=2.35),
            **sent,
        },
        "clocked": {"clocked": ClockedSchedule.objects.create(clocked_time=later), "one_off": True},
        "one-off": {"interval": interval, "one_off": True},
        "ran": {"interval": interval, "one_off": True, **sent},
        "ending": {"interval": interval, "expires": later, "start_time": LAST_RUN, **sent},
        "starting": {"interval": interval, "start_time": later},
        "expiring": {"interval": interval, "expire_seconds": 60, "headers": '{"tenant": 7}', **sent},
        "disabled": {"interval": interval, "enabled": False, "description": "Not now"},
        "broken": {"interval": interval, "kwargs": "[1", **sent},
    }.items():
        PeriodicTask.objects.create(name=name, task=f"proj.{name}", **fields)


if __name__ == "__main__":
    django.setup()
    call_command("migrate", verbosity=0)
    write()
