"""From an occurrence to its message, and from its message to the broker; and the log lines of stock beat.

One connection serves both: ``messages`` captures on it what Celery publishes, ``publishing`` and ``confirms``
send it.  It is opened by ``connect()`` alone.  When it is lost, rendering raises and publishing answers
``UNKNOWN``, and the next ``connect()`` opens another one, on the next host if there are several.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from celery import Celery
from celery.beat import ScheduleEntry
from celery.result import denied_join_result
from kombu import Connection
from kombu.transport.pyamqp import Transport as AmqpTransport

from celery_dispatch.celery_bridge.broker import masked
from celery_dispatch.celery_bridge.confirms import AmqpPublisher
from celery_dispatch.celery_bridge.messages import Capture
from celery_dispatch.celery_bridge.moments import rfc3339
from celery_dispatch.celery_bridge.outages import in_words, is_outage, is_refusal, is_refused_login
from celery_dispatch.celery_bridge.payload import Payload, payload_of
from celery_dispatch.celery_bridge.publishing import PlainPublisher, Publisher, RedisPublisher, unknown
from celery_dispatch.celery_bridge.rendering import prepared, task_id
from celery_dispatch.celery_bridge.stencils import Stencils
from celery_dispatch.celery_bridge.user_code import UserCode
from celery_dispatch.core.entry import Occurrence
from celery_dispatch.core.ports import Command, Path, Publication
from celery_dispatch.errors import EntryError, StoreError, StoreRefused, StoreUnavailable

__all__ = ["CeleryOutbox", "rfc3339", "task_id"]

#: Stock beat's own logger: its "Sending due task" lines stay where people look for them.
beat_logger = logging.getLogger("celery.beat")

_ELSEWHERE = "the broker is not the Redis of the pool"


class CeleryOutbox:
    """Renders occurrences whose payload is a ``Payload``; implements the ``Outbox`` port.

    ``scheduler`` has ``apply_entry`` and ``apply_async`` as a ``celery.beat.Scheduler`` has, so that what
    users override or patch there keeps its effect; while ``apply_entry`` runs, its ``apply_async`` is
    covered by another.
    ``same_store`` is asked of each new connection whether it leads to the Redis that the ledger writes to.
    ``timeout``, in seconds, is how long ``publish`` waits for the broker's word.  The connection belongs to
    the thread that renders.
    """

    def __init__(
        self,
        app: Celery,
        *,
        key_prefix: str,
        node: str,
        scheduler: Any,
        same_store: Callable[[Connection], bool] = lambda connection: False,
        timeout: float = 5.0,
    ) -> None:
        self._app = app
        self._key_prefix = key_prefix
        self._node = node
        self._scheduler = scheduler
        self._decide_same_store = same_store
        self._timeout = timeout
        self._user_code = UserCode(app, scheduler)
        self._stencils = Stencils(app, key_prefix=key_prefix)
        self._asked: tuple[Occurrence | None, str] = (None, "")  # whose path was asked for last, and its code
        self._plain_path = Path(False, False, _ELSEWHERE)
        self._on_redis = False
        self._capture: Capture | None = None
        self._publisher: Publisher | None = None
        self._producer: Any = None

    @property
    def connection(self) -> Connection:
        """The capturing connection; raises ``RuntimeError`` before ``connect()``."""
        if self._capture is None:
            raise RuntimeError("the outbox is not connected")
        return self._capture.connection

    # --- the connection -------------------------------------------------------------------------------------

    def connect(self) -> None:
        if self._publisher is not None and not self._plain_path.same_store:
            try:
                trouble = self._publisher.check()
            except Exception:  # whatever it is, another connection will show what is the matter
                self._drop()
            else:
                if trouble:
                    raise StoreUnavailable(f"The broker {self._broker()} cannot be used: {trouble}")
        if self._publisher is None:
            self._open()

    def close(self) -> None:
        publisher, capture = self._publisher, self._capture
        self._publisher = self._producer = self._capture = None
        if publisher is not None:
            publisher.close()
        if capture is not None:
            capture.connection.release()

    def _open(self) -> None:
        if self._capture is None:
            self._capture = Capture(self._app)
        capture = self._capture
        connection: Any = capture.connection
        try:
            connection.ensure_connection(
                max_retries=max(0, len(connection.alt) - 1),  # each host once
                interval_start=0,
                interval_step=0,
                timeout=connection.connect_timeout,
            )
            publisher = _publisher_on(capture, timeout=self._timeout)
            same_store = self._decide_same_store(connection)
            self._producer = capture.producer()
        except Exception as error:
            self._drop()
            connection.maybe_switch_next()
            raise self._translated(error) from error
        self._publisher = publisher
        self._on_redis = capture.speaks_redis
        self._plain_path = Path(same_store, False, "" if same_store else _ELSEWHERE)

    def _drop(self) -> None:
        """Forget the connection without a word to the broker, which may not listen any more."""
        self._publisher = self._producer = None
        if self._capture is not None:
            self._capture.connection.collect()

    def _translated(self, error: Exception) -> Exception:
        """The error of connecting, as this package's own."""
        if isinstance(error, StoreError):  # the ledger's Redis, asked whether it is the broker
            return error
        error = in_words(error)
        if is_refused_login(error):
            return StoreRefused(f"The broker {self._broker()} refused the login ({error}). Check broker_url.")
        if is_outage(error):
            return StoreUnavailable(f"The broker {self._broker()} cannot be reached: {error}")
        if is_refusal(error):
            return StoreRefused(
                f"The broker {self._broker()} refused ({error}). Give the user of broker_url its missing "
                "right; on Redis, ACL LOG says which."
            )
        return error

    def _broker(self) -> str:
        url: Any = self._app.conf.broker_write_url
        return ";".join(masked(each) for each in (url.split(";") if isinstance(url, str) else url))

    # --- rendering ------------------------------------------------------------------------------------------

    def path(self, occurrence: Occurrence | None) -> Path:
        if occurrence is None:
            return self._plain_path
        payload = occurrence.entry.payload
        if not isinstance(payload, Payload):  # rendering will say so
            return self._plain_path
        why = self._user_code.of(payload)
        self._asked = (occurrence, why)
        return Path(self._plain_path.same_store, True, why) if why else self._plain_path

    def render(self, occurrence: Occurrence, *, now: datetime) -> tuple[Command, ...]:
        """See the port.

        What looks like an outage is one if this outbox's own connection does not answer.  If it does, the
        connection was renewed meanwhile, and a second try settles it; but not where that would run code of
        the user again.
        """
        if self._publisher is None:
            self.connect()
        if not self._on_redis or self._user_code_of(occurrence):
            return self._built(occurrence, now)
        commands = self._stencils.message(occurrence, now)
        if commands is None:
            commands = self._built(occurrence, now)
            self._stencils.learn(occurrence, now, commands)
        return commands

    def _user_code_of(self, occurrence: Occurrence) -> str:
        """As ``path`` says, which has mostly been asked just now."""
        asked, why = self._asked
        return why if asked is occurrence else self._user_code.of(payload_of(occurrence.entry))

    def _built(self, occurrence: Occurrence, now: datetime) -> tuple[Command, ...]:
        """The message as Celery builds it."""
        try:
            return self._captured(occurrence, now)
        except Exception as error:
            if not is_outage(error):
                raise EntryError(str(error)) from error
            self._must_answer(error)
            if self._user_code_of(occurrence):
                raise EntryError(str(error)) from error
        try:
            return self._captured(occurrence, now)
        except Exception as error:
            raise EntryError(str(error)) from error

    def _captured(self, occurrence: Occurrence, now: datetime) -> tuple[Command, ...]:
        assert self._capture is not None
        captured = self._capture.commands
        captured.clear()
        self._asked = (None, "")  # whose code runs now may change what others run
        entry = prepared(occurrence, self._app, key_prefix=self._key_prefix, node=self._node, now=now)
        with denied_join_result():  # beat reads no results: do not subscribe to each of them
            if self._user_code.wraps_sending:
                self._apply_entry(entry)
            else:
                self._scheduler.apply_async(entry, producer=self._producer, advance=False)
        return tuple(captured)

    def _apply_entry(self, entry: ScheduleEntry) -> None:
        """Send through ``apply_entry``, which keeps errors to itself, and raise what it kept."""
        scheduler = self._scheduler
        errors: list[Exception] = []
        apply_async = scheduler.apply_async

        def noting(*args: Any, **kwargs: Any) -> Any:
            try:
                return apply_async(*args, **kwargs)
            except Exception as error:
                errors.append(error)
                raise

        covered = vars(scheduler).get("apply_async")
        scheduler.apply_async = noting
        try:
            scheduler.apply_entry(entry, producer=self._producer)
        finally:
            if covered is None:
                del scheduler.apply_async
            else:
                scheduler.apply_async = covered
        if errors:
            raise errors[-1]

    def _must_answer(self, error: Exception) -> None:
        """Raise ``StoreUnavailable`` if the broker does not answer; ``error`` is why it is asked."""
        assert self._publisher is not None
        try:
            self._publisher.probe()
        except Exception as silence:
            if not is_outage(silence):
                raise
            self._drop()
            raise StoreUnavailable(f"The broker's routing tables cannot be read: {error}") from error

    # --- publishing -----------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[tuple[Command, ...]]) -> list[Publication]:
        if self._publisher is None:
            return [unknown("there is no connection to the broker")] * len(messages)
        return self._publisher.publish(messages)

    def sent(self, occurrence: Occurrence) -> None:
        if beat_logger.isEnabledFor(logging.INFO) and not self._user_code.wraps_sending:  # it said so itself
            name, task = occurrence.entry.name, payload_of(occurrence.entry).task
            beat_logger.info("Scheduler: Sending due task %s (%s)", name, task)


def _publisher_on(capture: Capture, *, timeout: float) -> Publisher:
    """The publisher that suits the transport of an open connection."""
    connection: Any = capture.connection
    if capture.speaks_redis:
        return RedisPublisher(connection.default_channel)
    if isinstance(connection.transport, AmqpTransport):
        return AmqpPublisher(capture, timeout=timeout)
    return PlainPublisher(capture)
