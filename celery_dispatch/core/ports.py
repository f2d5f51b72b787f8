"""Every contract between the core and the world, on one page.

An adapter translates its driver's errors: ``StoreUnavailable`` where trying again may help and the outcome
of a write is unknown, ``StoreRefused`` where a person must act, ``EntryError`` where one entry is at fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol, Union

from celery_dispatch.core.entry import Cursor, Fence, Occurrence

__all__ = [
    "Claim",
    "ClaimReply",
    "ClaimResult",
    "ClaimStatus",
    "Command",
    "Damaged",
    "Heartbeat",
    "Ledger",
    "Listener",
    "Member",
    "MemberState",
    "Outbox",
    "Pool",
    "PoolState",
    "Pulse",
    "Stored",
]


# --- pool ---------------------------------------------------------------------------------------------------


class MemberState(Enum):
    """How far a node has come; only a steady one is on the ring."""

    JOINING = "joining"  #: alive, still loading its entries
    STEADY = "steady"  #: fires its share


@dataclass(frozen=True, slots=True)
class Member:
    """A live node as the pool knows it.

    ``joined`` is its first heartbeat by Redis TIME.  ``info`` is what people want to see (pid, version,
    share, lag, errors); it decides nothing.
    """

    id: str
    host: str
    config: str
    state: MemberState
    joined: datetime
    lease_end: datetime
    info: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a node says of itself each time."""

    node: str
    host: str
    config: str
    state: MemberState
    lease: timedelta
    info: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Pulse:
    """The answer to a heartbeat: the server's time and the pool.

    ``epoch`` is opaque: compare for inequality, never for order.  ``members`` is ``None`` where the epoch is
    the one that the caller said it knows.  ``fence`` is the config in force.
    """

    now: datetime
    epoch: str
    fence: Fence
    members: tuple[Member, ...] | None


@dataclass(frozen=True, slots=True)
class PoolState:
    """The pool as a person reads it, members expired but not yet trimmed included; ``None``: no pool yet."""

    now: datetime
    epoch: str
    fence: Fence | None
    members: tuple[Member, ...]


class Pool(Protocol):
    """The live nodes and the config in force."""

    def heartbeat(self, beat: Heartbeat, *, known_epoch: str | None) -> Pulse:
        """Renew (or take) this node's lease, trim those that ran out, and settle which config is in force.

        Idempotent: dying before it changes nothing, after it at most a lease is held by nobody, and when the
        answer is lost the next heartbeat says the same.  A new, changed, left or trimmed node changes the
        epoch and wakes the others.  The config in force stays while one live node runs it; then the one of
        the longest-lived node takes over at once.  If the whole pool was silent for a lease, or the server's
        clock went back, nobody is trimmed for one lease.
        """
        ...

    def leave(self, node: str) -> None:
        """Give the lease up now.  Idempotent; a lost call costs the others one lease."""
        ...

    def read(self) -> PoolState:
        """The pool without taking part in it; writes nothing."""
        ...


class Listener(Protocol):
    """Wakes from the other nodes.  Only hurries what polling would find anyway; may lose any of them."""

    def start(self, on_wake: Callable[[], None]) -> None: ...

    def stop(self) -> None: ...


# --- ledger -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Damaged:
    """A row that is not a cursor; ``raw`` is shown to people, ``reason`` says what is wrong with it."""

    raw: str
    reason: str


Stored = Union[Cursor, Damaged, None]


@dataclass(frozen=True, slots=True)
class Command:
    """One write that puts a message on the broker: ``LPUSH key payload``, ``PEXPIRE key ms`` or
    ``PUBLISH channel payload``; the key carries every prefix it needs."""

    op: str
    key: str
    value: bytes | str


@dataclass(frozen=True, slots=True)
class Claim:
    """ "If the cursor of ``name`` is ``expected``, make it ``wanted`` and carry out ``commands``."

    ``expected`` is ``None`` for "there is none" (an anchor), ``wanted`` is ``None`` to remove it (a swept
    tombstone).
    """

    name: str
    expected: Cursor | None
    wanted: Cursor | None
    commands: tuple[Command, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of its messages."""
        return sum(len(command.value) for command in self.commands)


class ClaimStatus(Enum):
    WON = "won"  #: the cursor is ``wanted``, by this claim or by an earlier try of the same one
    LOST = "lost"  #: the cursor is another one; the result carries it
    EARLY = "early"  #: it fires or skips an occurrence that is not due yet by the server's time
    FAILED = "failed"  #: this entry's commands were refused; nothing was pushed, the cursor stands


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What became of one claim.

    ``stored`` is the cursor after it (for ``FAILED`` and ``EARLY`` that which was expected).  ``detail`` is
    the server's error: with ``FAILED`` the cause; with ``WON`` what of a partial push did not succeed, else
    empty.
    """

    status: ClaimStatus
    stored: Stored
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ClaimReply:
    """The server's time and one result per claim, in their order."""

    now: datetime
    results: tuple[ClaimResult, ...]


class Ledger(Protocol):
    """The cursors.  Every write to one goes through ``claim``."""

    def read(self, names: Sequence[str]) -> list[Stored]:
        """The cursors of ``names``, in their order; writes nothing."""
        ...

    def claim(self, fence: Fence, claims: Sequence[Claim]) -> ClaimReply:
        """Carry out each claim whose cursor is as expected, and say for each what became of it.

        One atomic step.  Raises ``FencedError``, with nothing written, unless ``fence`` is in force.  On
        ``StoreUnavailable`` the outcome is unknown: the same claim may be repeated, and answers ``WON`` to
        its winner without pushing again.  Names must be unique within the batch.
        """
        ...

    def scan(self, position: int, count: int) -> tuple[int, list[tuple[str, Cursor | Damaged]]]:
        """A page of all cursors from ``position`` (0 to begin), and where to go on (0 when done).

        A name may appear twice; one that is there throughout appears at least once.
        """
        ...


# --- outbox -------------------------------------------------------------------------------------------------


class Outbox(Protocol):
    """Turns an occurrence into the commands that put its message on the broker."""

    def connect(self) -> None:
        """Open what rendering needs; raises ``StoreUnavailable`` while the broker cannot be reached."""
        ...

    def render(self, occurrence: Occurrence, *, now: datetime) -> tuple[Command, ...]:
        """The commands for one message, built by Celery itself; empty if it is routed nowhere.

        Sends nothing.  Raises ``EntryError`` if this entry cannot be serialised or routed, and
        ``StoreUnavailable`` if the broker's routing tables cannot be read now.
        """
        ...

    def sent(self, occurrence: Occurrence) -> None:
        """Called once the occurrence's claim was won: what stock beat logs on sending."""
        ...

    def close(self) -> None:
        """Release connections; idempotent."""
        ...
