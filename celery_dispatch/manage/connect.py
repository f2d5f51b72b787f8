"""What the commands read, built from the Celery app; the one place of this package that wires it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import redis
from celery import Celery
from kombu.utils.imports import symbol_by_name

from celery_dispatch.celery_bridge.codecs import ScheduleCodec
from celery_dispatch.celery_bridge.definitions import Definitions
from celery_dispatch.celery_bridge.entries import catalog_of
from celery_dispatch.celery_bridge.facets import facets_of
from celery_dispatch.celery_bridge.identity import identity_of
from celery_dispatch.celery_bridge.outbox import CeleryOutbox
from celery_dispatch.celery_bridge.payload import Payload
from celery_dispatch.celery_bridge.schedule_codec import to_json
from celery_dispatch.config import Config
from celery_dispatch.core.entry import Catalog, Entry
from celery_dispatch.core.ports import Pool
from celery_dispatch.errors import ConfigError
from celery_dispatch.manage.doctor.reader import Consulted
from celery_dispatch.manage.doctor.rows import read_damaged_rows
from celery_dispatch.manage.doctor.server import read_server
from celery_dispatch.manage.operations import Sources
from celery_dispatch.manage.reports import Sketch
from celery_dispatch.manage.run_time import told_by
from celery_dispatch.manage.schedule_words import schedule_words
from celery_dispatch.metrics import check_available
from celery_dispatch.redis_store.client import redis_client, same_server
from celery_dispatch.redis_store.facets import Facets
from celery_dispatch.redis_store.intents import RedisIntents
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from celery_dispatch.redis_store.pool import RedisPool
from celery_dispatch.redis_store.rows import RedisRows

__all__ = ["identity", "open_client", "open_consulted", "open_pool", "open_sources", "sketch_of"]

_NONE: Mapping[str, ScheduleCodec] = MappingProxyType({})


@contextmanager
def open_client(app: Celery) -> Iterator[tuple[redis.Redis, Keys]]:
    """The pool's Redis and the names of its keys."""
    config = Config.from_app(app)
    client = _client(config)
    try:
        yield client, Keys(config.key_prefix)
    finally:
        client.close()


@contextmanager
def open_pool(app: Celery) -> Iterator[Pool]:
    """The pool alone, without the schedule."""
    with open_client(app) as (client, keys):
        yield RedisPool(client, keys)


def identity(app: Celery) -> str:
    """What names this app and its broker; asks nobody."""
    return identity_of(app, shadow=Config.from_app(app).shadow)


@contextmanager
def open_sources(app: Celery) -> Iterator[Sources]:
    """Pool, cursors and the schedule of this app, the modules of its tasks imported as beat would."""
    config = Config.from_app(app)
    catalog = _catalog(app, config)
    client = _client(config)
    try:
        yield _sources(app, config, catalog, client)
    finally:
        client.close()


@contextmanager
def open_consulted(app: Celery) -> Iterator[Consulted]:
    """All that the doctor asks: what ``open_sources`` gives, the server itself and the broker."""
    config = Config.from_app(app)
    if config.metrics_port is not None:
        check_available()
    catalog = _catalog(app, config)
    client = _client(config)
    try:
        yield Consulted(
            sources=_sources(app, config, catalog, client),
            server=lambda: read_server(client),
            outbox=_outbox(app, config, client),
            facets=Facets(client, Keys(config.key_prefix)),
            own_facets=facets_of(app, catalog, config),
            damaged_rows=lambda: read_damaged_rows(client, Keys(config.key_prefix)),
        )
    finally:
        client.close()


def _sources(app: Celery, config: Config, catalog: Catalog, client: redis.Redis) -> Sources:
    keys = Keys(config.key_prefix)
    return Sources(
        pool=RedisPool(client, keys),
        ledger=RedisLedger(client, keys),
        intents=RedisIntents(client, keys),
        catalog=catalog,
        patience=config.lease_ttl + config.handover_delay,
        sketch=partial(sketch_of, codecs=config.schedule_codecs),
        identity=identity_of(app, shadow=config.shadow),
        look=partial(told_by, RedisRows(client, keys), Definitions(app, config)),
    )


def _client(config: Config) -> redis.Redis:
    return redis_client(config.redis_url, config.redis_options, key_prefix=config.key_prefix)


def _outbox(app: Celery, config: Config, client: redis.Redis) -> CeleryOutbox:
    """The outbox of a node that is none: asked for paths, it sends nothing."""
    return CeleryOutbox(
        app,
        key_prefix=config.key_prefix,
        node="doctor",
        scheduler=_scheduler_class(app)(app=app, lazy=True),
        same_store=lambda connection: _is_store(connection, client),
    )


def _scheduler_class(app: Celery) -> Any:
    """The scheduler that the settings name, if it is of this package: it may override the sending."""
    from celery_dispatch.scheduler import DispatchScheduler  # loads what other commands do not need

    try:
        named: Any = symbol_by_name(app.conf.beat_scheduler)
    except (ImportError, AttributeError, ValueError):
        return DispatchScheduler
    is_ours = isinstance(named, type) and issubclass(named, DispatchScheduler)
    return named if is_ours else DispatchScheduler


def _is_store(connection: Any, client: redis.Redis) -> bool:
    """Whether a broker's open connection leads to the database that the pool lives in."""
    broker = getattr(connection.default_channel, "client", None)
    return isinstance(broker, redis.Redis) and same_server(client, broker)


def _catalog(app: Celery, config: Config) -> Catalog:
    _import_tasks(app)
    return catalog_of(app, config)


def sketch_of(entry: Entry, codecs: Mapping[str, ScheduleCodec] = _NONE) -> Sketch:
    """An entry of Celery's in words; an object whose ``repr`` fails spoils only its own field."""
    payload = entry.payload
    if not isinstance(payload, Payload):
        return Sketch()
    try:
        document = to_json(payload.schedule, codecs=codecs)
    except Exception:  # it is none, or its codec or its repr is wrong
        document = None
    return Sketch(
        task=str(payload.task),
        schedule=_shown(payload.schedule).strip("<>") if document is None else schedule_words(document),
        args=_shown(payload.args) if payload.args else None,
        kwargs=_shown(payload.kwargs) if payload.kwargs else None,
        options=_shown(payload.options) if payload.options else None,
        recurrence=document,
    )


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
