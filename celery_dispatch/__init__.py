"""Many ``celery beat`` processes, one schedule: each occurrence is put on the broker exactly once."""

from importlib.metadata import version

from celery_dispatch.celery_bridge.codecs import ScheduleCodec
from celery_dispatch.celery_bridge.kinds.at import at
from celery_dispatch.celery_bridge.kinds.cron import cron
from celery_dispatch.celery_bridge.kinds.rrule import rrule
from celery_dispatch.config import Config
from celery_dispatch.errors import (
    BulkRefused,
    ConfigError,
    DispatchError,
    EntryError,
    FencedError,
    NameTaken,
    NeverDue,
    ScheduleError,
    StaleVersion,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UnknownSchedule,
)
from celery_dispatch.scheduler import DispatchScheduler
from celery_dispatch.schedules import (
    Backfill,
    Bulk,
    Coming,
    Page,
    Paused,
    Plan,
    Planned,
    RunNow,
    Schedule,
    Schedules,
    State,
    Step,
)

__version__ = version("celery-dispatch")

__all__ = [
    "Backfill",
    "Bulk",
    "BulkRefused",
    "Coming",
    "Config",
    "ConfigError",
    "DispatchError",
    "DispatchScheduler",
    "EntryError",
    "FencedError",
    "NameTaken",
    "NeverDue",
    "Page",
    "Paused",
    "Plan",
    "Planned",
    "RunNow",
    "Schedule",
    "ScheduleCodec",
    "ScheduleError",
    "Schedules",
    "StaleVersion",
    "State",
    "Step",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "UnknownSchedule",
    "__version__",
    "at",
    "cron",
    "rrule",
]
