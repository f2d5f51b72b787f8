"""Makes a plan that fails smaller, as long as it fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.simulation.plan import Config, Plan
from tests.simulation.run import Outcome, run

__all__ = ["shrink"]


def shrink(outcome: Outcome, *, most: int = 300) -> Outcome:
    """A smaller plan that something is wrong with too, after at most ``most`` runs."""
    runs, smaller = 0, True
    while smaller:
        smaller = False
        for plan in _smaller(outcome.plan):
            if runs >= most:
                return outcome
            runs += 1
            tried = run(plan)
            if tried.wrong:
                outcome, smaller = tried, True
                break
    return outcome


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Plans with less in them, the boldest first."""
    events = plan.events
    size = len(events) // 2
    while size:
        for start in range(0, len(events), size):
            yield plan.with_events(events[:start] + events[start + size :])
        size //= 2
    for node in sorted({event.node for event in events if event.node}):
        yield plan.with_events(tuple(event for event in events if event.node != node))
    names = sorted({spec.name for config in plan.configs for spec in config})
    if len(names) > 1:
        for name in names:
            yield replace(plan, configs=tuple(_without(config, name) for config in plan.configs))
    last = max((event.at + abs(event.seconds) for event in events), default=0.0)
    if last < plan.quiet - 1:
        yield replace(plan, quiet=last)


def _without(config: Config, name: str) -> Config:
    return tuple(spec for spec in config if spec.name != name)
