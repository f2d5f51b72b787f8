"""What the commands read, built from the Celery app; the one place of this package that wires it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from celery.beat import ScheduleEntry
from celery.schedules import crontab, schedule

from celery_dispatch.celery_bridge.entries import catalog_of
from celery_dispatch.config import Config
from celery_dispatch.core.entry import Entry
from celery_dispatch.core.ports import Pool
from celery_dispatch.errors import ConfigError
from celery_dispatch.manage.operations import Sources
from celery_dispatch.manage.reports import Sketch
from celery_dispatch.manage.words import duration
from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from celery_dispatch.redis_store.pool import RedisPool

__all__ = ["open_pool", "open_sources", "sketch_of"]


@contextmanager
def open_pool(app: Celery) -> Iterator[Pool]:
    """The pool alone, without the schedule."""
    config = Config.from_app(app)
    client = redis_client(config.redis_url, config.redis_options)
    try:
        yield RedisPool(client, Keys(config.key_prefix))
    finally:
        client.close()


@contextmanager
def open_sources(app: Celery) -> Iterator[Sources]:
    """Pool, cursors and the schedule of this app, the modules of its tasks imported as beat would."""
    config = Config.from_app(app)
    _import_tasks(app)
    catalog = catalog_of(app, config)
    client = redis_client(config.redis_url, config.redis_options)
    keys = Keys(config.key_prefix)
    try:
        yield Sources(
            pool=RedisPool(client, keys),
            ledger=RedisLedger(client, keys),
            catalog=catalog,
            patience=config.lease_ttl + config.handover_delay,
            sketch=sketch_of,
        )
    finally:
        client.close()


def sketch_of(entry: Entry) -> Sketch:
    """An entry of Celery's in words; an object whose ``repr`` fails spoils only its own field."""
    payload = entry.payload
    if not isinstance(payload, ScheduleEntry):
        return Sketch()
    return Sketch(
        task=str(payload.task),
        schedule=_schedule(payload.schedule),
        args=_shown(payload.args) if payload.args else None,
        kwargs=_shown(payload.kwargs) if payload.kwargs else None,
        options=_shown(payload.options) if payload.options else None,
    )


def _schedule(value: Any) -> str:
    """Celery's own schedules in the way people write them, others by their ``repr``."""
    if type(value) is schedule:
        every = duration(value.run_every)  # type: ignore[attr-defined]  # celery-types lacks it
        return f"every {every}, relative" if value.relative else f"every {every}"
    if type(value) is crontab:
        names = "minute", "hour", "day_of_month", "month_of_year", "day_of_week"
        return "cron " + " ".join(_cron_field(getattr(value, f"_orig_{name}")) for name in names)
    return _shown(value).strip("<>")


def _cron_field(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple, set, frozenset)) else str(value)


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<repr failed: {error}>"


def _import_tasks(app: Celery) -> None:
    try:
        app.loader.import_default_modules()
        app.finalize()
    except Exception as error:
        raise ConfigError(f"The modules of the app's tasks cannot be imported: {error!r}") from error
