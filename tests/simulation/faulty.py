"""Ports that fail as a network does: a request is lost, or the reply to one that was carried out.

A ``Harm`` comes to a call *before* it is carried out or *after*; it loses the message, or stops or kills the
process at that very point.  Code cannot tell a lost request from a lost reply, and must not have to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from celery_dispatch.core.ports import Publication, PublicationStatus
from celery_dispatch.errors import DispatchError, StoreUnavailable

__all__ = ["CALLS", "Faulty", "Harm", "Killed", "Victim"]

#: What goes over the network, by port.
CALLS = {
    "pool": ("heartbeat", "leave"),
    "ledger": ("read", "claim", "scan"),
    "rows": ("news", "read", "put_back", "retire"),
    "intents": ("settle", "keep", "take_over", "read"),
    "outbox": ("connect", "publish"),
}


class Killed(BaseException):
    """The process is gone: nothing of what it was about to do happens."""


@dataclass(slots=True)
class Harm:
    """``what`` (lose, pause, kill) comes to calls of ``ports`` (or one ``port.call``) with probability ``p``.

    ``seconds`` is how long the caller waits for a reply that is lost, or is stopped.  It ends at ``until``,
    or with its first victim where it comes only ``once``.
    """

    ports: tuple[str, ...]
    moment: str
    what: str
    until: float
    p: float = 1.0
    seconds: float = 0.0
    once: bool = False
    random: Random = field(default_factory=lambda: Random(0))

    def concerns(self, call: str, now: float) -> bool:
        if now >= self.until or not (call in self.ports or call.partition(".")[0] in self.ports):
            return False
        return self.p >= 1.0 or self.random.random() < self.p


class Victim(Protocol):
    """The process that a port belongs to."""

    def breathe(self, call: str) -> None:
        """Return when the process runs; raises ``Killed`` if it does no more, or not for such a call."""

    def travel(self) -> None:
        """Let a message be on its way."""

    def harm_to(self, call: str) -> Harm | None: ...

    def suffer(self, harm: Harm) -> None:
        """Be stopped, killed, or wait in vain."""


class Faulty:
    """A port of ``victim``; ``seen`` is told of each call that was carried out: name, arguments, result."""

    def __init__(
        self, port: Any, name: str, victim: Victim, seen: Callable[[str, tuple[Any, ...], Any], None]
    ) -> None:
        self._port = port
        self._victim = victim
        self._seen = seen
        for call in CALLS[name]:
            setattr(self, call, self._through(f"{name}.{call}", getattr(port, call)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def _through(self, call: str, original: Callable[..., Any]) -> Callable[..., Any]:
        victim, seen = self._victim, self._seen

        def through(*args: Any, **options: Any) -> Any:
            victim.breathe(call)
            harm = victim.harm_to(call)
            if harm is not None and harm.moment == "before":
                victim.suffer(harm)
                victim.breathe(call)
                if harm.what == "lose":
                    return _lost(call, args)
            victim.travel()  # and arrives, whatever becomes of the sender
            result, error = None, None
            try:
                result = original(*args, **options)
                seen(call, args, result)
            except DispatchError as caught:
                error = caught
            victim.travel()
            if harm is not None and harm.moment == "after":
                victim.suffer(harm)
                if harm.what == "lose":
                    victim.breathe(call)
                    return _lost(call, args)
            victim.breathe(call)
            if error is not None:
                raise error
            return result

        return through


def _lost(call: str, args: Sequence[Any]) -> Any:
    """What the caller sees; only a broker's confirms have an answer for it."""
    if call == "outbox.publish":
        return [Publication(PublicationStatus.UNKNOWN, "no word from the broker") for _ in args[0]]
    raise StoreUnavailable(f"{call}: no answer.")
