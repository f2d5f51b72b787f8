"""The faults by name, in the order of the design's table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.drills import node_faults, outer_faults
from tests.drills.stage import Stage

__all__ = ["FAULTS", "Fault"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A drill's name, what a person reads of it, what is done, and whether each beat needs a proxy."""

    name: str
    title: str
    strike: Callable[[Stage], None]
    proxied: bool = False


_ALL = (
    Fault("none", "none", node_faults.nothing),
    Fault("join", "join (3 to 4)", node_faults.join),
    Fault("term", "SIGTERM of one", node_faults.terminate),
    Fault("kill", "SIGKILL of one", node_faults.kill),
    Fault("pause", "SIGSTOP 8 s, SIGCONT", node_faults.pause),
    Fault("pause-long", "SIGSTOP past the lease", node_faults.pause_past_the_lease),
    Fault("cut", "one cut from Redis 12 s", outer_faults.cut_deaf, proxied=True),
    Fault("cut-held", "one cut, requests come late", outer_faults.cut_held, proxied=True),
    Fault("cut-refused", "one refused by Redis 8 s", outer_faults.cut_refused, proxied=True),
    Fault("lost-reply", "replies to claims lost", outer_faults.lost_replies, proxied=True),
    Fault("kill-two", "two of three SIGKILLed", node_faults.kill_two),
    Fault("kill-in-turn", "SIGKILL seven times", node_faults.kill_in_turn),
    Fault("redis-down", "Redis down 10 s (AOF)", outer_faults.redis_down),
    Fault("redis-kill", "Redis SIGKILLed 5 times (AOF)", outer_faults.redis_killed),
    Fault("redis-pause", "Redis SIGSTOPped 10 s", outer_faults.redis_paused),
    Fault("clock-ahead", "one clock +30 s", node_faults.clock_ahead),
    Fault("clock-behind", "one clock -30 s", node_faults.clock_behind),
    Fault("clock-step", "one clock stepped", node_faults.clock_stepped),
)

FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _ALL}
