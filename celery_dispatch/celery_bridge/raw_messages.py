"""A message as any transport of kombu takes it, carried as text between its rendering and its publishing.

What is kept are the arguments that kombu's ``prepare_message`` and ``basic_publish`` were called with, so
nothing here depends on the transport.  The text is JSON in kombu's own dialect, which knows bytes, datetimes
and decimals; another process can publish it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from kombu.utils import json

from celery_dispatch.core.ports import Command

__all__ = ["PUBLISH", "RawMessage"]

#: The ``op`` of a command that holds a message as this module writes it.
PUBLISH = "BASIC.PUBLISH"


@dataclass(frozen=True, slots=True)
class RawMessage:
    """One message and where it goes; ``body`` is text or bytes, ``priority`` may be ``None``."""

    body: str | bytes
    priority: int | None
    content_type: str | None
    content_encoding: str | None
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    exchange: str = ""
    routing_key: str = ""
    mandatory: bool = False

    def command(self) -> Command:
        """This message as text.  Raises ``TypeError`` or ``ValueError`` if something in it is no JSON."""
        text: str = json.dumps({each.name: getattr(self, each.name) for each in fields(self)})
        return Command(PUBLISH, f"{self.exchange}/{self.routing_key}", text)

    @staticmethod
    def of(command: Command) -> RawMessage:
        """The message that ``command`` holds.  Raises ``ValueError`` if it holds none."""
        if command.op != PUBLISH:
            raise ValueError(f"{command.op} {command.key} is no command of this broker")
        try:
            return RawMessage(**json.loads(command.value))
        except Exception as error:  # the decoders of kombu's types raise anything for what they did not write
            raise ValueError(f"{command.op} {command.key} holds no message: {error}") from error

    def prepared(self, channel: Any) -> Any:
        """This message in the form that ``channel``, a channel of kombu's, publishes."""
        return channel.native_message(
            self.body,
            self.priority,
            self.content_type,
            self.content_encoding,
            dict(self.headers),
            dict(self.properties),
        )
