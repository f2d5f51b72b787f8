"""Where schedules are read and written, built from the Celery app."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import redis
from celery import Celery

from celery_dispatch.celery_bridge.definitions import Definitions
from celery_dispatch.celery_bridge.entries import catalog_of
from celery_dispatch.config import Config
from celery_dispatch.core.clock import whole_ms
from celery_dispatch.core.entry import Catalog
from celery_dispatch.core.ports import Ledger, Pool, Rows
from celery_dispatch.errors import ConfigError
from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from celery_dispatch.redis_store.pool import RedisPool
from celery_dispatch.redis_store.rows import RedisRows

__all__ = ["Store", "open_store"]


@dataclass(frozen=True)
class Store:
    """One pool's ports, and what the app at hand defines itself."""

    app: Celery
    client: redis.Redis
    key_prefix: str
    pool: Pool
    ledger: Ledger
    rows: Rows
    catalog: Catalog
    definitions: Definitions

    def now(self) -> datetime:
        """Redis TIME in whole milliseconds.  Raises ``StoreError``."""
        return whole_ms(self.pool.read().now)


def open_store(app: Celery) -> Store:
    """The store of an app, the modules of its tasks imported as beat would; connects with its first use.

    Raises ``ConfigError``.
    """
    config = Config.from_app(app)
    try:
        app.loader.import_default_modules()
        app.finalize()
    except Exception as error:
        raise ConfigError(f"The modules of the app's tasks cannot be imported: {error!r}") from error
    client = redis_client(config.redis_url, config.redis_options, key_prefix=config.key_prefix)
    keys = Keys(config.key_prefix)
    return Store(
        app=app,
        client=client,
        key_prefix=config.key_prefix,
        pool=RedisPool(client, keys),
        ledger=RedisLedger(client, keys),
        rows=RedisRows(client, keys),
        catalog=catalog_of(app, config),
        definitions=Definitions(app, config),
    )
