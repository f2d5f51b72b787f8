"""What must be reached, and whether this run has: each target with what was measured for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.figures import Ratio
from benchmarks.products import OURS, REDBEAT, STOCK
from benchmarks.results import Results, Storm
from benchmarks.words import bytes_as, milliseconds, percent, ratio, seconds

__all__ = ["TARGETS", "Finding", "Target", "judged"]

_HANDOVER = 0.5  # seconds; the default setting
_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """What was measured: ``value`` in the unit of its target, and in words.

    ``complete`` is false where something is missing whatever the value: occurrences, or the end of a storm.
    """

    value: float
    words: str
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Target:
    """``bound`` is the least that must be reached, or with ``at_most`` the most that it may cost."""

    case: str
    wanted: str
    bound: float
    find: Callable[[Results], Finding | None]
    at_most: bool = False

    def reached(self, finding: Finding) -> bool:
        within = finding.value <= self.bound if self.at_most else finding.value >= self.bound
        return within and finding.complete

    def verdict(self, finding: Finding | None) -> str:
        """``reached``, or ``missed`` and by how much."""
        if finding is None:
            return "not measured"
        if self.reached(finding):
            return "reached"
        if not finding.complete:
            return "missed: not all was fired, once"
        if math.isnan(finding.value):
            return "missed"
        short = finding.value / self.bound if self.at_most else self.bound / max(finding.value, 1e-12)
        return f"missed by a factor of {short:.2g}"


def judged(results: Results) -> Iterator[tuple[Target, Finding | None]]:
    """Each target with what this run found for it."""
    for target in TARGETS:
        yield target, target.find(results)


# --- storms -------------------------------------------------------------------------------------------------


def _rate(storm: Storm) -> float:
    return storm.burst.rate


def _against(product: str, entries: int, kind: str = "interval") -> Callable[[Results], Finding | None]:
    """Our rate over another's, from the due to the last message."""

    def find(results: Results) -> Finding | None:
        ours = results.of(OURS.name, kind, 1, entries)
        found = results.ratio(ours, results.of(product, kind, 1, entries), _rate)
        return _of_ratio(found, complete=_complete(ours))

    return find


def _of_ratio(found: Ratio | None, *, complete: bool = True) -> Finding | None:
    return None if found is None else Finding(found.middle, ratio(found), complete)


def _complete(storms: list[Storm]) -> bool:
    """Whether all of them fired everything, and nothing twice."""
    return all(it.burst.finished and not it.twice and it.distinct in (None, it.entries) for it in storms)


def _of_bare(results: Results) -> Finding | None:
    storms = results.of(OURS.name, "interval", 1, 100_000)
    shares = [it.burst.rate_between / it.bare for it in storms if it.bare]
    if not shares:
        return None
    found = Ratio(sorted(shares)[len(shares) // 2], min(shares), max(shares))
    return _of_ratio(found, complete=_complete(storms))


def _crontabs(results: Results) -> Finding | None:
    crontabs = results.of(OURS.name, "crontab", 1, 100_000)
    intervals = results.of(OURS.name, "interval", 1, 100_000)
    found = results.ratio(crontabs, intervals, lambda storm: storm.burst.rate_between)
    return _of_ratio(found, complete=_complete(crontabs))


def _cpu_growth(results: Results) -> Finding | None:
    large, small = (results.of(OURS.name, "interval", 1, entries) for entries in (100_000, 1_000))
    return _of_ratio(results.ratio(large, small, cpu_each), complete=_complete(large))


def cpu_each(storm: Storm) -> float | None:
    """CPU per occurrence, in seconds."""
    return storm.cpu / storm.burst.fired if storm.cpu is not None and storm.burst.fired else None


def _two_nodes(results: Results) -> Finding | None:
    two, one = (results.of(OURS.name, "interval", nodes, 100_000) for nodes in (2, 1))
    return _of_ratio(results.ratio(two, one, _rate), complete=_complete(two))


# --- the rest -----------------------------------------------------------------------------------------------


def _steady_lag(results: Results) -> Finding | None:
    found = [it for it in results.steady if it.wanted >= 5_000]
    worst = max(found, key=lambda it: it.p99, default=None)
    if worst is None:
        return None
    words = f"p50 {milliseconds(worst.p50)}, p99 {milliseconds(worst.p99)}, max {milliseconds(worst.worst)}"
    return Finding(worst.p99, words, not worst.twice and worst.rate > 0.97 * worst.wanted)


def _steady_cpu(results: Results) -> Finding | None:
    found = [it.cpu for it in results.steady if it.wanted >= 5_000]
    return Finding(max(found), percent(max(found))) if found else None


def _idle_cpu(results: Results) -> Finding | None:
    found = [it.cpu for it in results.idle if it.entries >= 100_000]
    return Finding(max(found), percent(max(found))) if found else None


def _idle_memory(results: Results) -> Finding | None:
    found = [it.memory - it.merely_loaded for it in results.idle if it.entries >= 100_000]
    return Finding(max(found), bytes_as(max(found))) if found else None


def _start(first: bool) -> Callable[[Results], Finding | None]:
    def find(results: Results) -> Finding | None:
        found = [it.steady for it in results.starts if it.entries >= 100_000 and (it.number == 1) == first]
        return Finding(max(found), " and ".join(map(seconds, found))) if found else None

    return find


def _pause(results: Results) -> Finding | None:
    found = results.changes
    words = ", ".join(f"{it.what} {milliseconds(it.pause)}" for it in found)
    complete = all(it.finished and not it.twice for it in found)
    return Finding(max(it.pause for it in found), words, complete) if found else None


def _extra(results: Results) -> Finding | None:
    found = results.changes
    words = ", ".join(f"{it.what} {milliseconds(it.extra)}" for it in found)
    complete = all(it.finished and not it.twice for it in found)
    return Finding(max(it.extra for it in found), words, complete) if found else None


def _bulk(results: Results) -> Finding | None:
    found = [it.took for it in results.work if it.what == "create 10,000 in one call"]
    return Finding(max(found), f"{max(found):.2f} s") if found else None


def _longest(results: Results) -> Finding | None:
    worst = max(results.work, key=lambda it: it.longest, default=None)
    return None if worst is None else Finding(worst.longest, f"{milliseconds(worst.longest)}: {worst.what}")


def _following(told: bool) -> Callable[[Results], Finding | None]:
    def find(results: Results) -> Finding | None:
        found = [it for it in results.followed if it.told == told]
        words = ", ".join(f"p50 {milliseconds(it.p50)}, max {milliseconds(it.worst)}" for it in found)
        return Finding(max(it.worst for it in found), words) if found else None

    return find


TARGETS = (
    Target("storm, 1 node, N = 1,000", "30 times stock beat's rate", 30, _against(STOCK.name, 1_000)),
    Target("storm, 1 node, N = 1,000", "20 times RedBeat's", 20, _against(REDBEAT.name, 1_000)),
    Target("storm, 1 node, N = 5,000", "150 times stock beat's rate", 150, _against(STOCK.name, 5_000)),
    Target("storm, 1 node, N = 5,000", "20 times RedBeat's", 20, _against(REDBEAT.name, 5_000)),
    Target(
        "storm, 1 node, N = 100,000, intervals",
        "a quarter of the bare pipelined push, all fired",
        0.25,
        _of_bare,
    ),
    Target("the same, 100,000 distinct crontabs", "half the interval rate, first to last", 0.5, _crontabs),
    Target(
        "CPU per occurrence, N = 100,000 against 1,000", "1.3 times at most", 1.3, _cpu_growth, at_most=True
    ),
    Target("2 nodes against 1, N = 100,000", "1.2 times", 1.2, _two_nodes),
    Target("steady 5,000 a second, 1 node: lag", "p99 20 ms at most", 0.02, _steady_lag, at_most=True),
    Target("steady 5,000 a second, 1 node: CPU", "under half a core", 0.5, _steady_cpu, at_most=True),
    Target("idle, 100,000 entries: CPU", "under 1 % of a core", 0.01, _idle_cpu, at_most=True),
    Target(
        "idle, 100,000 entries: memory",
        "100 MB above the app merely loaded, at most",
        100 * _MEGABYTE,
        _idle_memory,
        at_most=True,
    ),
    Target("start with 100,000 entries, first node", "10 s at most", 10, _start(first=True), at_most=True),
    Target("start with 100,000 entries, further nodes", "5 s at most", 5, _start(first=False), at_most=True),
    Target("join or kill during a storm: pause", "250 ms at most", 0.25, _pause, at_most=True),
    Target(
        "join or kill during a storm: extra lag",
        "handover + 200 ms at most",
        _HANDOVER + 0.2,
        _extra,
        at_most=True,
    ),
    Target(
        "two steps to RabbitMQ, N = 1,000", "3 times stock beat", 3, _against(STOCK.name, 1_000, "rabbitmq")
    ),
    Target(
        "two steps on the same Redis, N = 1,000",
        "3 times stock beat",
        3,
        _against(STOCK.name, 1_000, "receiver"),
    ),
    Target("10,000 entries created in one call", "2 s at most", 2, _bulk, at_most=True),
    Target("100,000 entries made at run time: Redis", "no command over 10 ms", 0.01, _longest, at_most=True),
    Target("a change is followed by each node", "100 ms at most", 0.1, _following(True), at_most=True),
    Target("the same, its notification lost", "1 s at most", 1, _following(False), at_most=True),
)
