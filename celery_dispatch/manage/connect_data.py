"""What the commands that move whole schedules read and write, built from the Celery app."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from celery import Celery

from celery_dispatch.celery_bridge.broker import is_redis
from celery_dispatch.celery_bridge.definitions import Definitions
from celery_dispatch.config import Config
from celery_dispatch.errors import ConfigError
from celery_dispatch.given import GivenSettings
from celery_dispatch.manage.connect import open_client, open_sources
from celery_dispatch.manage.keeping import Kept
from celery_dispatch.manage.moving.importing import Importer
from celery_dispatch.manage.moving.target import SchedulesTarget
from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.ledger import RedisLedger
from celery_dispatch.redis_store.planting import Planting
from celery_dispatch.redis_store.pool import RedisPool
from celery_dispatch.redis_store.rows import RedisRows
from celery_dispatch.schedules import Schedules

__all__ = ["open_importer", "open_kept", "open_redbeat"]


@contextmanager
def open_kept(app: Celery) -> Iterator[Kept]:
    """What a backup is read from, and put back to."""
    with open_client(app) as (client, keys):
        yield Kept(
            pool=RedisPool(client, keys),
            ledger=RedisLedger(client, keys),
            rows=RedisRows(client, keys),
            planting=Planting(client, keys),
        )


@contextmanager
def open_redbeat(app: Celery, *, url: str | None, prefix: str | None) -> Iterator[tuple[redis.Redis, str]]:
    """The Redis that RedBeat uses, and its prefix; from its own settings where they are not given."""
    settings = GivenSettings(app.conf)
    config = Config.from_app(app)
    given = url or settings.find("redbeat_redis_url")[1]
    if given is None and not is_redis(app.connection_for_write()):
        raise ConfigError("redbeat_redis_url is not set, and the broker is no Redis; give --url")
    where, options = (str(given), {}) if given else (config.redis_url, config.redis_options)
    client = redis_client(where, options, key_prefix=config.key_prefix)
    try:
        yield client, prefix or settings.find("redbeat_key_prefix")[1] or "redbeat:"
    finally:
        client.close()


@contextmanager
def open_importer(app: Celery, *, allow_unknown_task: bool) -> Iterator[Importer]:
    """What puts found entries into the pool of this app."""
    with open_sources(app) as sources, open_client(app) as (client, keys), Schedules(app) as schedules:
        target = SchedulesTarget(
            schedules,
            rows=RedisRows(client, keys),
            definitions=Definitions(app, Config.from_app(app)),
            planting=Planting(client, keys),
            author=f"import@{socket.gethostname()}",
            allow_unknown_task=allow_unknown_task,
        )
        yield Importer(
            target=target,
            read=sources.ledger.read,
            configured=sources.catalog.entries,
            broken=sources.catalog.broken,
            now=lambda: sources.pool.read().now,
        )
