"""AMQP with publisher confirms: a batch is written as a whole, and then its confirmations are waited for.

RabbitMQ numbers the messages of a channel and answers ``ack`` or ``nack`` for each number, or for all up to
it.  What can happen to a message instead:

=========================  ===========================================================================
the broker                 the message
=========================  ===========================================================================
``nack``                   ``FULL``: not taken, a queue is full; try later
returns it (mandatory)     ``REFUSED``: no queue is bound; its ``ack`` still comes
closes the channel         its fault or a neighbour's: those without an answer are sent again one by one,
                           until the one that closes the channel alone is found, which is ``REFUSED``
blocks the connection      ``UNKNOWN``, as all that have no answer; nothing more is written
closes the connection, or  ``UNKNOWN``
is silent for too long
=========================  ===========================================================================

The confirmation of a message that was given up on may still come: it has no number of a later batch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import amqp

from celery_dispatch.celery_bridge.messages import Capture
from celery_dispatch.celery_bridge.publishing import confirmed, full, refused, together, unknown
from celery_dispatch.celery_bridge.raw_messages import RawMessage
from celery_dispatch.core.ports import Command, Publication

__all__ = ["AmqpPublisher"]

_BLOCKED = "the broker takes no messages now: it has raised an alarm for memory or disk space"
_CLOSE_TIMEOUT = 1.0  # seconds

#: Errors that come over the wire, or from it; what py-amqp cannot write is another ``ConnectionError``.
_THE_BROKERS = (amqp.exceptions.ChannelError, amqp.exceptions.RecoverableConnectionError, OSError)


class _Message:
    """One message of a batch, and what became of it so far."""

    def __init__(self, command: Command) -> None:
        self.outcome: Publication | None = None
        self.raw: RawMessage | None = None
        try:
            self.raw = RawMessage.of(command)
        except ValueError as error:
            self.outcome = refused(str(error))

    def settle(self, outcome: Publication) -> None:
        """The first word on a message holds: one that was returned is acknowledged too."""
        if self.outcome is None:
            self.outcome = outcome


class _Silent(Exception):
    """The time for this batch is up, or the broker blocks; says why."""


class AmqpPublisher:
    """Publishes on a channel of its own, in confirm mode; ``timeout`` seconds are what a batch may take."""

    def __init__(self, capture: Capture, *, timeout: float) -> None:
        connection: Any = capture.connection
        self._connection: Any = connection.connection
        self._timeout = timeout
        self._blocked = False
        self._lost: Exception | None = None
        self._sent: dict[int, _Message] = {}  # by number, those without an answer, in order
        self._last_number = 0
        self._connection.on_blocked = self._on_blocked
        self._connection.on_unblocked = self._on_unblocked
        self._connection.sock.settimeout(timeout)  # py-amqp would wait for ever
        self._channel: Any = connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)

    def publish(self, messages: Sequence[tuple[Command, ...]]) -> list[Publication]:
        batch = [[_Message(command) for command in commands] for commands in messages]
        left = [each for message in batch for each in message if each.outcome is None]
        try:
            self._publish(left, time.monotonic() + self._timeout)
        except _Silent as silent:
            reason = str(silent)
        except Exception as error:  # py-amqp raises more than it names when a connection breaks
            self._lost = error
            reason = f"the connection to the broker was lost: {error}"
        else:
            reason = ""
        finally:
            self._sent.clear()
        for each in left:
            each.settle(unknown(reason))
        return [together([each.outcome for each in message if each.outcome]) for message in batch]

    def check(self) -> str:
        if self._lost is not None:
            raise self._lost
        self._hear()
        self._connection.heartbeat_tick()
        return _BLOCKED if self._blocked else ""

    def probe(self) -> None:
        if self._lost is not None:
            raise self._lost
        try:
            self._channel.basic_qos(0, 0, False)
        except Exception as error:
            self._lost = error
            raise

    def close(self) -> None:
        if self._connection.connected:
            self._connection.sock.settimeout(_CLOSE_TIMEOUT)

    # --- a batch --------------------------------------------------------------------------------------------

    def _publish(self, left: list[_Message], until: float) -> None:
        """Send ``left`` and wait until each has an answer; after a closed channel one by one, see above."""
        alone = False
        while left:
            self._hear()
            batch = left[:1] if alone else left
            try:
                self._send(batch, until)
            except amqp.exceptions.ChannelError as error:
                self._renew_channel()
                if len(batch) == 1:
                    batch[0].settle(refused(str(error)))
                alone = len(batch) > 1
            left = [each for each in left if each.outcome is None]

    def _send(self, batch: Sequence[_Message], until: float) -> None:
        """Write ``batch`` and hear the broker out.  Raises ``ChannelError`` if it closes the channel."""
        for message in batch:
            self._check_time(until)
            self._write(message, until)
        heard = self._connection.bytes_recv
        while self._sent:
            self._check_time(until)
            try:
                self._drain(max(0.001, until - time.monotonic()))
            except TimeoutError:
                if self._connection.bytes_recv == heard:
                    self._lost = TimeoutError(f"the broker was silent for {self._timeout:g} s")

    def _write(self, message: _Message, until: float) -> None:
        assert message.raw is not None
        try:
            self._channel.send(message.raw, timeout=max(0.001, until - time.monotonic()))
        except _THE_BROKERS:
            raise
        except Exception as error:
            if not self._connection.connected:
                raise
            message.settle(refused(f"it cannot be written in AMQP: {error!r}"))
        else:
            self._last_number += 1
            self._sent[self._last_number] = message

    def _check_time(self, until: float) -> None:
        if self._blocked:
            raise _Silent(_BLOCKED)
        if time.monotonic() >= until:
            raise _Silent(f"no confirmation came within {self._timeout:g} s")

    def _hear(self) -> None:
        """Take in what the broker has said meanwhile, without waiting."""
        while True:
            try:
                self._drain(0)
            except TimeoutError:
                return
            except amqp.exceptions.ChannelError:  # late word on a message that was given up on
                self._renew_channel()

    def _drain(self, seconds: float) -> None:
        if not self._connection.connected:  # py-amqp would connect again, on its own terms
            raise amqp.exceptions.RecoverableConnectionError("the connection is closed")
        self._connection.drain_events(timeout=seconds)

    def _renew_channel(self) -> None:
        """py-amqp has opened the channel again; its numbers begin anew."""
        self._sent.clear()
        self._last_number = 0
        self._channel.confirm_select()

    # --- what the broker says -------------------------------------------------------------------------------

    def _on_ack(self, number: int, multiple: bool) -> None:
        self._answered(number, multiple, confirmed())

    def _on_nack(self, number: int, multiple: bool) -> None:
        self._answered(number, multiple, full("the broker did not take it (nack); is a queue full?"))

    def _answered(self, number: int, multiple: bool, outcome: Publication) -> None:
        numbers = list(takewhile(lambda sent: sent <= number, self._sent)) if multiple else [number]
        for each in numbers:
            message = self._sent.pop(each, None)
            if message is not None:
                message.settle(outcome)

    def _on_return(self, error: Exception, exchange: str, routing_key: str, returned: Any) -> None:
        """Those that look the same share their fate, so it does not matter which of them this is."""
        for message in self._sent.values():
            raw = message.raw
            if (
                raw is not None
                and message.outcome is None
                and (raw.mandatory, raw.exchange, raw.routing_key) == (True, exchange, routing_key)
                and raw.properties.get("correlation_id") == returned.properties.get("correlation_id")
            ):
                message.settle(refused(str(error)))
                return

    def _on_blocked(self, reason: str) -> None:
        self._blocked = True

    def _on_unblocked(self) -> None:
        self._blocked = False
