"""The faults by name, in the order of the design's table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from tests.drills import (
    broker_faults,
    clock_faults,
    config_faults,
    entry_faults,
    ground,
    hostile_faults,
    live_faults,
    loss_faults,
    node_faults,
    outer_faults,
    worker_faults,
)
from tests.drills.broker_faults import two_steps
from tests.drills.ground import Ground, MakeGround
from tests.drills.point_faults import HARMS, at_point, points_of
from tests.drills.releases import Spec, every
from tests.drills.stage import Stage

__all__ = ["FAULTS", "POINTS", "VARIANTS", "Fault", "named"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A drill's name, what a person reads of it, what is done, and what it is done to.

    ``proxied``: each beat needs a proxy.  ``user_code``: what the app's receiver on a publish signal does.
    ``cast`` starts what is there if not three beats: real workers among it, which run what was sent.
    """

    name: str
    title: str
    strike: Callable[[Stage], None]
    ground: MakeGround = ground.one_redis
    proxied: bool = False
    user_code: str = ""
    cast: Callable[[Stage], None] | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    queues: Sequence[str] = ("celery",)
    entries: Mapping[str, Spec] = field(default_factory=lambda: every(20))

    def in_two_steps(self) -> Fault:
        """The same where code of the app's own runs for each message: claim and message are two steps."""
        return replace(
            self,
            name=f"code-{self.name}",
            title=f"user code: {self.title}",
            strike=_in_two_steps(self.strike),
            user_code="mark",
        )

    def on_rabbitmq(self) -> Fault:
        """The same where RabbitMQ is the broker."""
        return replace(
            self,
            name=f"amqp-{self.name}",
            title=f"RabbitMQ: {self.title}",
            strike=_in_two_steps(self.strike),
            ground=ground.rabbitmq,
        )

    def stage(
        self, ground: Ground, directory: Path, *, settings: Mapping[str, object], calm: float = 4.0
    ) -> Stage:
        """Three beats, ready for this fault."""
        return Stage(
            ground,
            directory,
            self.entries,
            settings={**self.settings, **settings},
            proxied=self.proxied,
            user_code=self.user_code,
            cast=self.cast,
            queues=self.queues,
            calm=calm,
        )


def _in_two_steps(strike: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """Where no beat comes to harm, what was claimed is not late."""
    harmless = (node_faults.nothing, node_faults.join, node_faults.terminate, node_faults.churn)
    return strike if strike in harmless else two_steps(strike)


#: What people set to make a broker connection patient; nothing may be published by it behind a claim's back.
_RETRIES = {
    "retry_on_timeout": True,
    "socket_keepalive": True,
    "socket_timeout": 4,
    "health_check_interval": 1,
}

_ONE_WRITE = (
    Fault("none", "none", node_faults.nothing),
    Fault("join", "join (3 to 4)", node_faults.join),
    Fault("churn", "3 to 6 to 1 to 3", node_faults.churn, cast=worker_faults.beats_and_worker),
    Fault(
        "embedded",
        "worker -B in four workers",
        worker_faults.embedded_leave,
        cast=worker_faults.four_with_beats,
    ),
    Fault("term", "SIGTERM of one", node_faults.terminate),
    Fault("kill", "SIGKILL of one", node_faults.kill),
    Fault("pause", "SIGSTOP 8 s, SIGCONT", node_faults.pause),
    Fault("pause-long", "SIGSTOP past the lease", node_faults.pause_past_the_lease),
    Fault("slow-node", "one has a fifth of a CPU", node_faults.flicker),
    Fault("slow-link", "one 300 ms from Redis", outer_faults.slow_link, proxied=True),
    Fault("cut", "one cut from Redis 12 s", outer_faults.cut_deaf, proxied=True),
    Fault("cut-held", "one cut, requests come late", outer_faults.cut_held, proxied=True),
    Fault("cut-refused", "one refused by Redis 8 s", outer_faults.cut_refused, proxied=True),
    Fault("lost-reply", "replies to claims lost", outer_faults.lost_replies, proxied=True),
    Fault(
        "lost-reply-retried",
        "replies lost, retry_on_timeout",
        outer_faults.lost_replies,
        proxied=True,
        settings={"broker_transport_options": _RETRIES},
    ),
    Fault("late-reply", "replies to claims never end", outer_faults.late_replies, proxied=True),
    Fault("kill-two", "two of three SIGKILLed", node_faults.kill_two),
    Fault("kill-in-turn", "SIGKILL seven times", node_faults.kill_in_turn),
    Fault("clock-ahead", "one clock +30 s", clock_faults.clock_ahead),
    Fault("clock-behind", "one clock -30 s", clock_faults.clock_behind),
    Fault("clock-step", "one clock stepped", clock_faults.clock_stepped),
)

_CONFIGS = (
    Fault(
        "deploy",
        "rolling deploy and rollback",
        config_faults.deploy,
        queues=("celery", config_faults.NEW_QUEUE),
        entries=config_faults.DEPLOYED,
    ),
    Fault(
        "deploy-asleep",
        "deploy that one sleeps through",
        config_faults.deploy_asleep,
        cast=worker_faults.beats_and_worker,
        queues=("celery", config_faults.NEW_QUEUE),
        entries=config_faults.DEPLOYED,
    ),
    Fault(
        "deploy-outage",
        "Redis away over a switch",
        config_faults.deploy_over_an_outage,
        queues=("celery", config_faults.NEW_QUEUE),
        entries=config_faults.DEPLOYED,
    ),
    Fault(
        "recreate",
        "all replaced at once, and back",
        config_faults.recreate,
        queues=("celery", config_faults.NEW_QUEUE),
        entries=config_faults.DEPLOYED,
    ),
    Fault("canary", "canary, laptop, crashing pod", config_faults.canary),
    Fault("staging", "another app's beats", config_faults.staging),
    Fault("neighbour", "two apps on one Redis", config_faults.neighbour),
)

_ENTRIES = (
    Fault(
        "queue-spoilt",
        "an entry's queue is a string",
        entry_faults.queue_spoilt,
        queues=("celery", "spoilt"),
        entries=entry_faults.SPOILT,
    ),
    Fault(
        "unserialisable",
        "one cannot be serialised; SIGKILL",
        entry_faults.unserialisable,
        entries=entry_faults.UNSERIALISABLE,
    ),
    Fault(
        "hostile-rows", "nonsense in every key", hostile_faults.hostile_rows, entries=hostile_faults.ENTRIES
    ),
    Fault("live-changes", "changed live; SIGSTOP, SIGKILL", live_faults.changed_live),
    Fault("wrong-types", "each key a string in turn", hostile_faults.wrong_types),
)

_REDIS = (
    Fault("redis-far", "Redis 100 ms from all", outer_faults.redis_far, proxied=True),
    Fault("redis-slow", "Redis has a fifth of a CPU", outer_faults.redis_slow),
    Fault("redis-clock", "Redis's clock 30 s back", clock_faults.redis_stepped_back, ground.stepped),
    Fault("redis-ahead", "Redis's clock 30 s on, and back", clock_faults.redis_ahead, ground.stepped),
    Fault("redis-down", "Redis down 10 s (AOF)", outer_faults.redis_down),
    Fault("redis-kill", "Redis SIGKILLed 5 times (AOF)", outer_faults.redis_killed),
    Fault("redis-pause", "Redis SIGSTOPped 10 s", outer_faults.redis_paused),
    Fault(
        "redis-everysec",
        "Redis SIGKILLed 5 times (everysec)",
        loss_faults.redis_killed_everysec,
        ground.everysec,
    ),
    Fault("redis-old", "Redis back from an old RDB", loss_faults.redis_old, ground.snapshots),
    Fault(
        "redis-old-config",
        "Redis back with an old config",
        loss_faults.redis_with_old_config,
        ground.snapshots,
        queues=("celery", config_faults.NEW_QUEUE),
        entries=config_faults.DEPLOYED,
    ),
    Fault("redis-flush", "FLUSHALL 3 times", loss_faults.redis_flushed),
    Fault("redis-promoted", "lagging replica promoted", loss_faults.redis_promoted, ground.sentinels),
)

_CODE = (
    Fault(
        "code-lock",
        "user code takes a lock: SIGKILL",
        two_steps(node_faults.kill),
        user_code="lock",
        entries=entry_faults.LAZY,
    ),
)

_AMQP = (
    Fault("amqp-down", "RabbitMQ stopped 10 s", broker_faults.broker_down, ground.rabbitmq),
    Fault("amqp-blocked", "RabbitMQ blocks 10 s", broker_faults.broker_blocked, ground.rabbitmq),
    Fault("amqp-broker-kill", "RabbitMQ SIGKILLed twice", broker_faults.broker_killed, ground.rabbitmq),
)

_ON_ONE_REDIS = (*_ONE_WRITE, *_CONFIGS, *_ENTRIES, *_REDIS)
_WITH_CODE = ("none", "kill", "pause", "redis-kill")
_WITH_RABBITMQ = ("none", "join", "term", "kill", "pause", "cut")
#: What is done there is done to queues that the dispatch Redis holds.
_TO_QUEUES = ("lost-reply", "lost-reply-retried", "late-reply", "staging", "neighbour", "queue-spoilt")


def _only(faults: Iterable[Fault], names: Sequence[str]) -> Iterator[Fault]:
    return (fault for fault in faults if fault.name in names)


#: What ``make drills`` runs.
FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        *_ON_ONE_REDIS,
        *(fault.in_two_steps() for fault in _only(_ON_ONE_REDIS, _WITH_CODE)),
        *_CODE,
        *(fault.on_rabbitmq() for fault in _only(_ON_ONE_REDIS, _WITH_RABBITMQ)),
        *_AMQP,
    )
}


def _variants() -> Iterator[Fault]:
    for fault in _ON_ONE_REDIS:
        yield fault.in_two_steps()
        if fault.ground is ground.one_redis and fault.cast is None and fault.name not in _TO_QUEUES:
            yield fault.on_rabbitmq()


#: Everything else in two steps: with code of the app's own, and with RabbitMQ where it can be the broker.
VARIANTS: Mapping[str, Fault] = {fault.name: fault for fault in _variants() if fault.name not in FAULTS}


def _points() -> Iterator[Fault]:
    for kind in ("one", "code", "amqp", "amqp-code"):
        for port, when, harm in points_of(kind):
            yield Fault(
                f"point-{kind}-{port.partition('.')[2]}-{when}-{harm}",
                f"{kind}: {when} {port}: {HARMS[harm]}",
                at_point(kind, port, when, harm),
                ground.rabbitmq if kind.startswith("amqp") else ground.one_redis,
                user_code="mark" if kind.endswith("code") else "",
            )


#: A beat comes to harm at each point in the life of a message.
POINTS: Mapping[str, Fault] = {fault.name: fault for fault in _points()}


def named(pattern: str) -> list[Fault]:
    """The faults, variants and points whose name matches a shell pattern, such as ``amqp-*``."""
    every_fault = (*FAULTS.values(), *VARIANTS.values(), *POINTS.values())
    return [fault for fault in every_fault if fnmatchcase(fault.name, pattern)]
