"""Rendered messages put on a broker that the ledger cannot write to.

A publisher belongs to one live connection.  ``publish`` answers for each message and never raises for an
outage; ``check`` and ``probe`` raise the driver's own error when the connection is lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Protocol

import redis

from celery_dispatch.celery_bridge.messages import Capture
from celery_dispatch.celery_bridge.outages import is_busy, is_outage
from celery_dispatch.celery_bridge.raw_messages import RawMessage
from celery_dispatch.core.ports import Command, Publication, PublicationStatus

__all__ = ["PlainPublisher", "Publisher", "RedisPublisher", "confirmed", "refused", "together", "unknown"]

_PROBE_INTERVAL = 2.0  # seconds between two round trips to a Redis that nothing is sent to
_COMMANDS = frozenset({"LPUSH", "PEXPIRE", "PUBLISH"})
_PROBE_KEY = "celery-dispatch.probe"


def confirmed(detail: str = "") -> Publication:
    return Publication(PublicationStatus.CONFIRMED, detail)


def refused(detail: str) -> Publication:
    return Publication(PublicationStatus.REFUSED, detail)


def full(detail: str) -> Publication:
    return Publication(PublicationStatus.FULL, detail)


def unknown(detail: str) -> Publication:
    return Publication(PublicationStatus.UNKNOWN, detail)


def together(parts: Sequence[Publication]) -> Publication:
    """What became of a message that consists of ``parts``, such as the queues of a topic exchange.

    As with a claim's own push, a message of which a part is on the broker counts as published, and ``detail``
    says what of it is not; unless a part may still come to be.
    """
    details = "; ".join(dict.fromkeys(part.detail for part in parts if part.detail))
    found = {part.status for part in parts}
    if PublicationStatus.UNKNOWN in found:
        return unknown(details)
    if PublicationStatus.CONFIRMED in found or not parts:
        return confirmed(details)
    return full(details) if PublicationStatus.FULL in found else refused(details)


class Publisher(Protocol):
    """Publishes on one live connection."""

    def publish(self, messages: Sequence[tuple[Command, ...]]) -> list[Publication]:
        """See the ``Outbox`` port."""
        ...

    def check(self) -> str:
        """Why the broker takes no messages though it is there, else empty.  Cheap; raises if it is lost."""
        ...

    def probe(self) -> None:
        """Ask the broker for a sign of life; raises if none comes in time."""
        ...

    def close(self) -> None:
        """Make ready for the connection to be closed, so that closing it cannot hang."""
        ...


class RedisPublisher:
    """Carries out commands on the Redis of a kombu channel: a batch is one round trip, and no transaction."""

    def __init__(self, channel: Any) -> None:
        # A client of its own on the channel's connections: the channel's may put a prefix before each key.
        self._client = redis.Redis(connection_pool=channel.pool)
        self._probe_key = f"{channel.global_keyprefix}{_PROBE_KEY}"
        self._next_probe = 0.0

    def publish(self, messages: Sequence[tuple[Command, ...]]) -> list[Publication]:
        pipeline: Any = self._client.pipeline(transaction=False)
        for command in chain.from_iterable(messages):
            if command.op in _COMMANDS:
                pipeline.execute_command(command.op, command.key, command.value)
        try:
            answers = iter(pipeline.execute(raise_on_error=False))
        except (redis.RedisError, OSError) as error:
            self._next_probe = 0.0
            return [unknown(str(error))] * len(messages)
        outcomes = [self._outcome(commands, answers) for commands in messages]
        if any(outcome.status is PublicationStatus.UNKNOWN for outcome in outcomes):
            self._next_probe = 0.0
        return outcomes

    def check(self) -> str:
        if time.monotonic() < self._next_probe:
            return ""
        try:
            # Refused like any write by a replica, or when there is no memory left; and writes nothing.
            self._client.lpushx(self._probe_key, "")
        except redis.ResponseError as error:
            if is_busy(error):
                return str(error)
        self._next_probe = time.monotonic() + _PROBE_INTERVAL
        return ""

    def probe(self) -> None:
        self._client.ping()

    def close(self) -> None:
        """Every wait of its client is bounded."""

    def _outcome(self, commands: Sequence[Command], answers: Iterator[object]) -> Publication:
        parts, details = [], []
        for command in commands:
            answer = next(answers) if command.op in _COMMANDS else ValueError("no command of this broker")
            detail = f"{command.op} {command.key}: {answer}"
            if not isinstance(answer, Exception):
                parts.append(confirmed())
            elif command.op == "PEXPIRE":
                details.append(detail)
            else:
                parts.append(unknown(detail) if is_busy(answer) else refused(detail))
        whole = together(parts)
        return Publication(whole.status, "; ".join(filter(None, (whole.detail, *details))))


class PlainPublisher:
    """Publishes one message after the other by the transport's own means, which confirm nothing further."""

    def __init__(self, capture: Capture) -> None:
        self._connection = capture.connection
        self._channel: Any = capture.connection.default_channel
        self._outage: Exception | None = None

    def publish(self, messages: Sequence[tuple[Command, ...]]) -> list[Publication]:
        return [together([self._publish(command) for command in commands]) for commands in messages]

    def check(self) -> str:
        if self._outage is not None:
            raise self._outage
        return ""

    def probe(self) -> None:
        if not self._connection.connected:
            raise ConnectionError("the connection is closed")

    def close(self) -> None:
        """The transport closes its connection as it sees fit."""

    def _publish(self, command: Command) -> Publication:
        if self._outage is not None:
            return unknown(f"not sent: {self._outage}")
        try:
            self._channel.send(RawMessage.of(command))
        except Exception as error:
            if not self._is_outage(error):
                return refused(str(error))
            self._outage = error
            return unknown(str(error))
        return confirmed()

    def _is_outage(self, error: Exception) -> bool:
        connection: Any = self._connection
        kinds = (*connection.connection_errors, *connection.recoverable_connection_errors)
        return isinstance(error, kinds) or is_outage(error)
