"""Many ``celery beat`` processes, one schedule: each occurrence is put on the broker exactly once."""

from importlib.metadata import version

from celery_dispatch.celery_bridge.codecs import ScheduleCodec
from celery_dispatch.celery_bridge.kinds.at import at
from celery_dispatch.celery_bridge.kinds.cron import cron
from celery_dispatch.celery_bridge.kinds.rrule import rrule
from celery_dispatch.config import Config
from celery_dispatch.errors import (
    ConfigError,
    DispatchError,
    EntryError,
    FencedError,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from celery_dispatch.scheduler import DispatchScheduler

__version__ = version("celery-dispatch")

__all__ = [
    "Config",
    "ConfigError",
    "DispatchError",
    "DispatchScheduler",
    "EntryError",
    "FencedError",
    "ScheduleCodec",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "__version__",
    "at",
    "cron",
    "rrule",
]
