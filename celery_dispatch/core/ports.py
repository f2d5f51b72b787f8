"""Every contract between the core and the world, on one page.

An adapter translates its driver's errors: ``StoreUnavailable`` where trying again may help and the outcome
of a write is unknown, ``StoreRefused`` where a person must act, ``EntryError`` where one entry is at fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol, Union

from celery_dispatch.core.entry import Cursor, Fence, Occurrence
from celery_dispatch.core.records import record
from celery_dispatch.core.rows import Pause, Row

__all__ = [
    "Change",
    "ChangeResult",
    "ChangeStatus",
    "Claim",
    "ClaimReply",
    "ClaimResult",
    "ClaimStatus",
    "Command",
    "Damaged",
    "Heartbeat",
    "Intent",
    "Intents",
    "Ledger",
    "Listener",
    "Member",
    "MemberState",
    "News",
    "Outbox",
    "Path",
    "Pool",
    "PoolState",
    "Publication",
    "PublicationStatus",
    "Pulse",
    "Rows",
    "Settlement",
    "Stored",
]


# --- pool ---------------------------------------------------------------------------------------------------


class MemberState(Enum):
    """How far a node has come; only a steady one is on the ring."""

    JOINING = "joining"  #: alive, still loading its entries
    STEADY = "steady"  #: fires its share, or would if its config were in force
    CUT_OFF = "cut_off"  #: alive, but it cannot reach the broker


@dataclass(frozen=True, slots=True)
class Member:
    """A live node as the pool knows it.

    ``identity`` names its app and broker.  ``joined`` is its first heartbeat by Redis TIME.  ``info`` is what
    people want to see (pid, version, share, lag, errors); it decides nothing.
    """

    id: str
    host: str
    config: str
    identity: str
    state: MemberState
    draining: bool
    joined: datetime
    lease_end: datetime
    info: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a node says of itself each time.

    ``interval`` and ``handover`` are its settings; the pool needs them to say when a switch takes place.
    ``remembered`` is the config in force by its last pulse, and ``remembered_before`` the one before it: all
    that is left of them where Redis lost them.  ``swept``: the cursors are in line with the config that is in
    force since then.
    ``draining``: it was, by its last pulse; believed where the pool has lost its row.  ``merged`` names the
    recovery that this node is done with.  ``suspicious``: this node knows a cursor that
    the ledger has lost, so a recovery must begin.
    """

    node: str
    host: str
    config: str
    identity: str
    state: MemberState
    lease: timedelta
    interval: timedelta
    handover: timedelta
    info: Mapping[str, object]
    remembered: Fence | None = None
    remembered_before: Fence | None = None
    swept: datetime | None = None
    draining: bool = False
    merged: str = ""
    suspicious: bool = False


@dataclass(frozen=True, slots=True)
class Pulse:
    """The answer to a heartbeat: the server's time and the pool.

    ``epoch`` is opaque: compare for inequality, never for order.  ``members`` is ``None`` where the epoch is
    the one that the caller said it knows.  ``fence`` is the config in force, or about to be: its ``since``
    may lie ahead.  It is ``None`` while a pool without any is recovering.  ``before`` is the config that was
    in force until then, as long as what was due under it may still be claimed, and ``reopened`` the last
    instant at which nobody could claim that.  ``identity`` is the app and broker that this pool belongs to.
    ``recovery`` names the recovery under way, empty for none.
    """

    now: datetime
    epoch: str
    fence: Fence | None
    before: Fence | None
    identity: str
    recovery: str
    members: tuple[Member, ...] | None
    reopened: datetime | None = None


@dataclass(frozen=True, slots=True)
class PoolState:
    """The pool as a person reads it, members expired but not yet trimmed included; ``None``: no pool yet.

    ``challenger`` is a config that most nodes run but that is not in force (yet), empty for none.
    """

    now: datetime
    epoch: str
    fence: Fence | None
    before: Fence | None
    challenger: str
    identity: str
    recovery: str
    members: tuple[Member, ...]


class Pool(Protocol):
    """The live nodes, the config in force, and whose pool it is."""

    def heartbeat(self, beat: Heartbeat, *, known_epoch: str | None) -> Pulse:
        """Renew (or take) this node's lease, trim those that ran out, and settle what the pool agrees on.

        Idempotent: dying before it changes nothing, after it at most a lease is held by nobody, and when the
        answer is lost the next heartbeat says the same.  Whatever it changes begins a new epoch and wakes the
        others.

        *Lease.*  If the whole pool was silent for a lease, or the server's clock went back, nobody is trimmed
        for one lease.

        *Identity.*  The first node's app and broker are the pool's.  A node of another identity is listed
        and has no vote, until no node of the pool's identity has lived for a lease; then the pool is that of
        the longest-lived node, under a fence of its own.

        *Vote.*  Voters are the nodes of the pool's identity that have lived for a lease and do not drain; if
        there are none, all live ones of that identity.  The config with most voters leads; of equals the one
        in force, else that of the longest-lived node.  Another one that has led for two heartbeats comes into
        force at now + heartbeat + handover; what was due before then stays claimable under the old one for a
        lease, and no further vote switches before that is over and a node has said that the cursors are
        swept (two leases at most).  Time in which nobody could claim does not count for that lease: while the
        pool recovers, after a silence of it for two heartbeats, while all nodes are cut off from the broker.
        If no live node runs the one in force, the leader comes into force at once.

        *Recovery.*  Begins where the server is not the one that the pool was last seen on, the pool is gone,
        or a node is suspicious.  It ends when every live node, and every one that was alive when the pool was
        last seen, has merged (where no pool was left: and two heartbeats have passed), after a lease at most.
        Meanwhile nothing can be claimed and nothing is switched.  A pool that knows no config, or an older
        one, takes the newest that a node remembers, with the one before it, and that node's identity; where
        none remembers one, the vote decides at its end.  What a node knows to be over is not claimable again.
        """
        ...

    def leave(self, node: str) -> None:
        """Give the lease up now.  Idempotent; a lost call costs the others one lease."""
        ...

    def drain(self, node: str, draining: bool, *, force: bool = False) -> bool:
        """Take a node out of ring and vote, or back in; whether there is such a live node.

        Raises ``StoreRefused`` if no other node of its config would be left on the ring, unless ``force``.
        """
        ...

    def adopt(self, identity: str) -> None:
        """Make the pool that of ``identity``, now; nodes of the old one stand by.  Idempotent."""
        ...

    def read(self) -> PoolState:
        """The pool without taking part in it; writes nothing."""
        ...


class Listener(Protocol):
    """Wakes from the other nodes.  Only hurries what polling would find anyway; may lose any of them."""

    def start(self, on_wake: Callable[[], None], on_change: Callable[[], None]) -> None:
        """Call ``on_wake`` when the pool may have changed, and ``on_change`` when rows may have."""
        ...

    def stop(self) -> None: ...


# --- ledger -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Damaged:
    """A row that is not a cursor; ``raw`` is shown to people, ``reason`` says what is wrong with it.

    ``exact`` is what is stored, where ``raw`` could not say it.
    """

    raw: str
    reason: str
    exact: bytes | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"damaged ({self.reason}): {self.raw[:200]!r}"


Stored = Union[Cursor, Damaged, None]


@record
class Command:
    """One write that puts a message on the broker.

    On Redis ``LPUSH key payload``, ``PEXPIRE key ms`` or ``PUBLISH channel payload``, where the key carries
    every prefix it needs; on other brokers what their outbox makes of it.
    """

    op: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Intent:
    """An occurrence that was claimed and whose message is on its way.

    ``token`` is new for each attempt: whoever writes it must show the one that is stored.  ``since`` is when
    this attempt began (Redis TIME, whole milliseconds).  ``commands`` is the message, ``None`` while it was
    not rendered.
    """

    name: str
    due: datetime
    definition: str
    node: str
    token: str
    since: datetime
    commands: tuple[Command, ...] | None = None


@record
class Claim:
    """ "If the cursor of ``name`` is ``expected``, make it ``wanted`` and carry out ``commands``."

    ``expected`` is ``None`` for "there is none" (an anchor), or a damaged row that is to be replaced;
    ``wanted`` is ``None`` to remove it (a swept tombstone).  ``intent`` is written together with the cursor.
    ``undoes`` is an intent that must still be stored, of this very attempt, and is removed: its message was
    not sent and the cursor goes back.  ``not_before`` is when its occurrence is to be fired; ``None`` is at
    its due.
    """

    name: str
    expected: Stored
    wanted: Cursor | None
    commands: tuple[Command, ...] = ()
    intent: Intent | None = None
    undoes: Intent | None = None
    not_before: datetime | None = None

    @property
    def size(self) -> int:
        """Bytes of its messages."""
        size = 0
        for command in self.commands or (self.intent.commands if self.intent else None) or ():
            size += len(command.value)
        return size


class ClaimStatus(Enum):
    WON = "won"  #: the cursor is ``wanted``, by this claim or by an earlier try of the same one
    LOST = "lost"  #: the cursor is another one; the result carries it
    EARLY = "early"  #: it fires or skips an occurrence that is not to be fired yet by the server's time
    FAILED = "failed"  #: this entry's commands were refused; nothing was pushed, the cursor stands


@record
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

    def claim(
        self,
        fence: Fence,
        claims: Sequence[Claim],
        *,
        recovery: str = "",
        gate: str | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> ClaimReply:
        """Carry out each claim whose cursor is as expected, and say for each what became of it.

        One atomic step.  Raises ``FencedError``, with nothing written, unless ``fence`` is in force and no
        recovery is under way, and ``gate`` is that of the rows, where one is shown.  Under the config that
        was in force before, only occurrences that were due in its time can be claimed, for a lease after it.
        With ``recovery``, the one under way, any cursor can be put back whatever the fence.  On
        ``StoreUnavailable`` the outcome is unknown: the same claim may be repeated, and answers ``WON`` to
        its winner without pushing again.  Names must be unique within the batch.  ``meanwhile`` is called
        while the answer is on its way, once at most; it claims nothing.
        """
        ...

    def scan(self, position: int, count: int) -> tuple[int, list[tuple[str, Cursor | Damaged]]]:
        """A page of all cursors from ``position`` (0 to begin), and where to go on (0 when done).

        A name may appear twice; one that is there throughout appears at least once.
        """
        ...


@dataclass(frozen=True, slots=True)
class Settlement:
    """ "If ``intent`` is still stored as this attempt, carry out ``commands`` and remove it." """

    intent: Intent
    commands: tuple[Command, ...] = ()


class Intents(Protocol):
    """The open intents: occurrences that were claimed and are not known to be on the broker."""

    def settle(self, settlements: Sequence[Settlement]) -> tuple[ClaimResult, ...]:
        """Remove each intent that is still this attempt's, and carry out its commands with it.

        One atomic step.  ``WON``: it was.  ``LOST``: it is somebody else's, or settled already; nothing was
        pushed now.  ``FAILED``: nothing could be pushed, the intent stands.  ``stored`` is ``None`` in each.
        """
        ...

    def keep(self, intents: Sequence[Intent]) -> list[bool]:
        """Write the message into each intent that is still this attempt's, and say which were. Atomic."""
        ...

    def take_over(
        self,
        node: str,
        *,
        token: str,
        older_than: timedelta,
        limit: int,
        due_from: datetime | None = None,
        due_until: datetime | None = None,
    ) -> list[Intent]:
        """Make up to ``limit`` open intents attempts of ``node``, the oldest first, with tokens of their own.

        Those that may be taken are those of nodes that are not alive, those that are ``older_than``, and
        those of ``node`` itself: whoever asks does not know any more how they stand.  Occurrences of
        others that were due before ``due_from``, or from ``due_until`` on, are left alone.  Tokens are made
        from ``token``, which must be new.  On ``StoreUnavailable`` the outcome is unknown; ask again.  A row
        that is no intent is removed and logged.
        """
        ...

    def read(self, limit: int) -> tuple[int, list[Intent]]:
        """How many are open, and the oldest of them; writes nothing."""
        ...


# --- rows ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class News:
    """What is new among the rows.

    ``version`` is that of the latest change, ``changed`` the names that were written between what was asked
    for and that, with the versions of their rows, the oldest first.  Rows whose version is at or below
    ``floor`` may have been removed.  ``gate`` is opaque, for firing claims to show; the part of it before the
    point changes when rows were put back.
    """

    version: int
    floor: int
    gate: str
    changed: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """ "If the row of ``name`` is ``expected``, say this of it from now on."

    ``definition`` and ``pause`` are what the row will hold.  ``anchor`` is where an entry begins that the
    change creates, in the past; ``None`` is now.  ``drops_intents`` removes what is claimed and not yet sent.
    ``keeps_since``: the new definition fires the same at the same times, so that what is due stays due.
    ``before`` is the definition that the cursor carries of a row that cannot be read, and so cannot say it
    itself.  ``token`` must be new; the same change may be repeated under it.  ``created`` and ``updated``
    are whole milliseconds, for people.
    """

    name: str
    expected: Row | Damaged | None
    token: str
    created: datetime
    updated: datetime
    definition: str = ""
    pause: Pause | None = None
    anchor: datetime | None = None
    drops_intents: bool = False
    keeps_since: bool = False
    before: str = ""


class ChangeStatus(Enum):
    DONE = "done"  #: the row is written, by this change or by an earlier try of the same one
    STALE = "stale"  #: the row is another one; the result carries it
    TAKEN = "taken"  #: the name to be created is one of the config in force
    DAMAGED = "damaged"  #: its cursor cannot be read, so nothing was written


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """What became of one change: the row as it is after it."""

    status: ChangeStatus
    row: Row | Damaged | None


class Rows(Protocol):
    """What was said of entries at run time; ``rows`` tells how it is fenced."""

    def news(self, since: int, limit: int) -> News:
        """What was written after the version ``since``, up to ``limit`` names; writes nothing."""
        ...

    def read(self, names: Sequence[str]) -> list[Row | Damaged | None]:
        """The rows of ``names``, in their order; writes nothing."""
        ...

    def scan(self, position: int, count: int) -> tuple[int, list[tuple[str, Row | Damaged]]]:
        """A page of all rows from ``position`` (0 to begin), and where to go on (0 when done).

        A name may appear twice; one that is there throughout appears at least once.
        """
        ...

    def change(self, changes: Sequence[Change]) -> list[ChangeResult]:
        """Carry out each change whose row is as expected, with its cursor, and say what became of it.

        One atomic step, up to ``MOST_CHANGES``; names must be unique.  Raises ``FencedError``, with
        nothing written, while the pool recovers or Redis is not the server that it was last seen on.  On
        ``StoreUnavailable`` the outcome is unknown: the same change may be repeated.
        """
        ...

    def put_back(self, recovery: str, known: int, rows: Mapping[str, Row]) -> None:
        """Write each row that is stored in a lower version or not at all; the latest is at least ``known``.

        One atomic step.  Raises ``FencedError`` unless that recovery is under way.
        """
        ...

    def retire(self, rows: Mapping[str, tuple[Row, Cursor]]) -> None:
        """Remove each row together with its cursor where both are as given, and raise the floor.

        One atomic step.  Raises ``FencedError``, with nothing written, while the pool recovers.
        """
        ...


# --- outbox -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Path:
    """How the messages of an entry reach the broker.

    ``same_store``: the ledger can push them, since the broker is its own Redis.  ``user_code``: publishing
    runs code of the user, which must run after the claim, on its winner.  ``why`` tells a person.
    """

    same_store: bool
    user_code: bool
    why: str = ""

    @property
    def one_write(self) -> bool:
        """Whether claim and message are one write; else an intent stands between them."""
        return self.same_store and not self.user_code


class PublicationStatus(Enum):
    CONFIRMED = "confirmed"  #: the broker has it
    REFUSED = "refused"  #: it certainly has not, and it is this message's own fault
    FULL = "full"  #: it would not take this one now, but may later; others are not concerned
    UNKNOWN = "unknown"  #: it was not sent, or no confirmation came


@dataclass(frozen=True, slots=True)
class Publication:
    """What became of one message; ``detail`` is the broker's error."""

    status: PublicationStatus
    detail: str = ""


class Outbox(Protocol):
    """Turns an occurrence into its message, and puts it on a broker that the ledger cannot write to."""

    def connect(self) -> None:
        """Open what rendering and publishing need, or see that it still works; cheap when it does.

        Raises ``StoreUnavailable`` while the broker cannot be reached or takes no messages.
        """
        ...

    def path(self, occurrence: Occurrence | None) -> Path:
        """How its message would go now (``None``: one that is rendered already); runs no code of the user."""
        ...

    def render(self, occurrence: Occurrence, *, now: datetime) -> tuple[Command, ...]:
        """The commands for one message, built by Celery itself; empty if it is routed nowhere.

        Sends nothing.  Raises ``EntryError`` if this entry cannot be serialised or routed, and
        ``StoreUnavailable`` if the broker's routing tables cannot be read now.
        """
        ...

    def publish(self, messages: Sequence[tuple[Command, ...]]) -> list[Publication]:
        """Put rendered messages on the broker, in their order, and wait a bounded time for its word on each.

        For paths that are not ``same_store``.  Never raises for an outage: what was not confirmed is
        ``UNKNOWN``, and ``connect`` settles whether the broker is there.
        """
        ...

    def sent(self, occurrence: Occurrence) -> None:
        """Called once its message is on the broker: what stock beat logs on sending."""
        ...

    def close(self) -> None:
        """Release connections; idempotent."""
        ...
