"""Many ``celery beat`` processes, one schedule: each occurrence is put on the broker exactly once."""

from importlib.metadata import version

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
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "__version__",
]
