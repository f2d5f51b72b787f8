"""The server: what it is, and what would be lost with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from celery_dispatch.address import NAMED_BY
from celery_dispatch.manage.doctor.findings import Area, Finding
from celery_dispatch.manage.doctor.snapshot import Server, Snapshot
from celery_dispatch.manage.reports import Severity
from celery_dispatch.manage.words import duration

__all__ = ["check_redis"]

_OLDEST = (6, 2)
_FULL = 0.9  # of the memory that it may use
_CLOCK = timedelta(seconds=1)  # what a clock may be off before it is worth a word


def check_redis(snapshot: Snapshot) -> Iterator[Finding]:
    """Everything about the server itself."""
    if snapshot.trouble:
        yield _found(
            Severity.ERROR, "Redis cannot be read.", snapshot.trouble,
            cure=f"Is Redis running, does {NAMED_BY} name it, and has its user the rights?",
        )  # fmt: skip
    server = snapshot.server
    if server is not None:
        yield from _what_it_is(server)
        yield from _durability(server)
        yield from _memory(server)
        yield from _replication(server)
        yield from _clock(server)
        yield from _unread(server)


def _found(severity: Severity, what: str, *evidence: str, cure: str = "") -> Finding:
    return Finding(Area.REDIS, severity, what, evidence, cure)


def _what_it_is(server: Server) -> Iterator[Finding]:
    version = tuple(map(int, re.findall(r"\d+", server.version or "")[:2]))
    if version and version < _OLDEST:
        yield _found(
            Severity.ERROR, f"Redis {server.version} is too old.", cure="Use Redis 6.2 or later, or Valkey."
        )
    if server.mode == "sentinel":
        yield _found(
            Severity.ERROR, "The URL of the pool's Redis names a Sentinel itself.", "redis_mode:sentinel",
            cure=f"Write sentinel://host:26379 in {NAMED_BY}, and master_name in its options.",
        )  # fmt: skip
    if server.mode == "cluster":
        yield _found(
            Severity.NOTE,
            "This is a Redis Cluster: all keys of the pool are on one of its nodes.",
            cure="Nothing. A message and its claim are two writes there, so a fault may repeat a message "
            "under the same task id.",
        )
    if server.role == "slave":
        yield _found(
            Severity.ERROR, "The pool's Redis is a replica, which takes no writes.", "role:slave",
            cure=f"Name the master in {NAMED_BY}; or the Sentinels, sentinel://host:26379 with master_name "
            "in its options.",
        )  # fmt: skip


def _durability(server: Server) -> Iterator[Finding]:
    for failing in server.failing:
        yield _found(
            Severity.ERROR, "Redis cannot write to its disk, and will refuse all writes.", failing,
            cure="Look into Redis's log: is the disk full, or read-only?",
        )  # fmt: skip
    saves = "none" if server.save == "" else server.save or "not known"
    if server.append_only is False:
        yield _found(
            Severity.WARNING,
            "Redis has no append-only file: a restart loses what it wrote since the last snapshot.",
            "aof_enabled:0",
            f"save: {saves}",
            cure="Set appendonly yes. Until then: live nodes put back what they know, but what no live node "
            "knows begins anew, and messages that wait in the queues are lost too.",
        )
    elif server.append_only and server.append_fsync == "no":
        yield _found(
            Severity.WARNING, "Redis leaves it to the system when its append-only file reaches the disk.",
            "appendfsync: no",
            cure="Set appendfsync everysec, or always.",
        )  # fmt: skip
    elif server.append_only and server.append_fsync == "everysec":
        yield _found(
            Severity.NOTE,
            "The append-only file reaches the disk once a second: a crash of the host loses up to a second "
            "(more, if the disk is slow), which live nodes put back.",
            "appendfsync: everysec",
            cure="Nothing, or appendfsync always: claims then wait for the disk.",
        )


def _memory(server: Server) -> Iterator[Finding]:
    limit, policy = server.max_memory, server.policy
    if policy is not None and policy != "noeviction":
        evidence = f"maxmemory-policy: {policy}", f"maxmemory: {limit if limit is not None else 'not known'}"
        yield _found(
            Severity.ERROR if limit else Severity.WARNING,
            "Redis may evict keys when its memory is full: cursors, or queues with all their messages."
            if limit
            else "Redis would evict keys if its memory were limited: cursors, or queues with their messages.",
            *evidence,
            cure="Set maxmemory-policy noeviction.",
        )
    if limit and server.used_memory > _FULL * limit:
        full = server.used_memory >= limit
        yield _found(
            Severity.ERROR if full else Severity.WARNING,
            "Redis has used up its memory: it refuses every claim, and nothing is fired."
            if full
            else f"Redis uses {server.used_memory / limit:.0%} of the memory that it may use: full, it "
            "refuses every claim.",
            f"used_memory: {server.used_memory:,}, maxmemory: {limit:,}",
            cure="Raise maxmemory, or find the queue that nobody empties (LLEN).",
        )


def _replication(server: Server) -> Iterator[Finding]:
    if server.role != "master":
        return
    if (
        server.min_replicas
        and server.good_replicas is not None
        and server.good_replicas < server.min_replicas
    ):
        yield _found(
            Severity.ERROR,
            "Redis refuses every write, since too few replicas keep up: nothing is fired.",
            f"min_slaves_good_slaves:{server.good_replicas}, min-replicas-to-write: {server.min_replicas}",
            cure="Start a replica; or, until there is one: redis-cli CONFIG SET min-replicas-to-write 0.",
        )
    if server.sentinels and not server.replicas:
        yield _found(
            Severity.WARNING,
            "The Sentinels have no replica to promote: nothing is fired while this master is away.",
            "connected_slaves:0",
            cure="Start a replica, or let the one that is there reach its master: see SENTINEL REPLICAS, and "
            "the replica's log.",
        )
    if not server.replicas or server.min_replicas:
        return
    known = f"min-replicas-to-write: {'not known' if server.min_replicas is None else server.min_replicas}"
    yield _found(
        Severity.NOTE,
        "Replication is asynchronous: if a replica is promoted, it may lack the last claims. Live nodes put "
        "back what they know.",
        f"connected_slaves:{server.replicas}",
        known,
        cure="Set min-replicas-to-write 1, so that a master that was cut off takes no more claims."
        if server.replicas > 1
        else "Add a second replica, and set min-replicas-to-write 1, so that a master that was cut off takes "
        "no more claims. With one replica alone, a promoted server would refuse every write.",
    )


def _clock(server: Server) -> Iterator[Finding]:
    if abs(server.ahead) < _CLOCK + server.precision:
        return
    side = "ahead of" if server.ahead > timedelta() else "behind"
    yield _found(
        Severity.NOTE,
        f"This host's clock is {duration(server.ahead)} {side} Redis's. It does no harm here: beats go by "
        "Redis's clock alone. Workers judge eta and expires by their own.",
        f"give or take {duration(server.precision)}",
        cure="Set the wrong one with NTP; a step of Redis's clock is what the beats would notice.",
    )


def _unread(server: Server) -> Iterator[Finding]:
    if server.refused:
        yield _found(
            Severity.NOTE,
            "Not everything about Redis could be read.",
            *(f"refused: {command}" for command in server.refused),
            cure="Nothing, if it is a managed Redis: see in its console that it keeps an append-only file "
            "and that its eviction policy is noeviction. Else allow this user these commands.",
        )
