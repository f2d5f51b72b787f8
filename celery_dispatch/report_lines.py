"""One line in the log every so often, for those who read logs and no dashboards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from celery_dispatch.core.report import LAG_BOUNDS, ErrorKind, NodeReport, Skip

__all__ = ["ReportLines"]


class ReportLines:
    """Turns a node's counters into a line for each interval; ``None`` for no lines at all."""

    def __init__(self, report: NodeReport, interval: timedelta | None, *, node: str) -> None:
        self._report = report
        self._interval = None if interval is None else interval.total_seconds()
        self._node = node
        self._began: float | None = None
        self._before = _Counts.of(report)

    def line(self, monotonic: float) -> str | None:
        """What happened since the last line, once an interval; cheap, so every turn may ask."""
        if self._interval is None:
            return None
        if self._began is None:
            self._began = monotonic
        elapsed = monotonic - self._began
        if elapsed < self._interval:
            return None
        now = _Counts.of(self._report)
        parts = "; ".join(_parts(now.since(self._before), self._report))
        self._began, self._before = monotonic, now
        return f"Node {self._node}, last {elapsed:,.0f} s: {parts}"


@dataclass(frozen=True, slots=True)
class _Counts:
    """The counters of a report at one moment, or how far they moved."""

    fired: int
    takeovers: int
    lost: int
    intents: int
    recoveries: int
    lags: tuple[int, ...]
    skips: Mapping[Skip, int]
    failures: Mapping[ErrorKind, int]

    @classmethod
    def of(cls, report: NodeReport) -> _Counts:
        return cls(
            fired=report.fired,
            takeovers=report.takeovers,
            lost=report.lost,
            intents=report.intents_taken_over,
            recoveries=report.recoveries,
            lags=report.lags.counts,
            skips=report.skips,
            failures=report.failures,
        )

    def since(self, before: _Counts) -> _Counts:
        return _Counts(
            fired=self.fired - before.fired,
            takeovers=self.takeovers - before.takeovers,
            lost=self.lost - before.lost,
            intents=self.intents - before.intents,
            recoveries=self.recoveries - before.recoveries,
            lags=tuple(now - then for now, then in zip(self.lags, before.lags)),
            skips={reason: count - before.skips[reason] for reason, count in self.skips.items()},
            failures={kind: count - before.failures[kind] for kind, count in self.failures.items()},
        )


def _parts(moved: _Counts, report: NodeReport) -> Iterator[str]:
    """What was fired and what is held; the rest only where there is something to say."""
    helped = f" ({moved.takeovers:,} as standby)" if moved.takeovers else ""
    yield f"fired {moved.fired:,}{helped}"
    if moved.fired:
        yield f"lag {_within(moved.lags, 50)}, {_within(moved.lags, 99)}"
    if any(moved.skips.values()):
        yield f"skipped {_listed(moved.skips)}"
    if moved.lost:
        yield f"claims lost {moved.lost:,}"
    if moved.intents:
        yield f"intents taken over {moved.intents:,}"
    if moved.recoveries:
        yield f"recoveries {moved.recoveries:,}"
    if any(moved.failures.values()):
        yield f"errors {_listed(moved.failures)}"
    yield f"owner of {report.owned:,} entries, standby of {report.standby:,}"
    if report.entries_in_error:
        yield f"in error {report.entries_in_error:,}"
    if report.open_intents:
        yield f"open intents {report.open_intents:,}"
    if report.outage:
        yield f"fires nothing now: {report.outage}"


def _listed(counts: Mapping[Skip, int] | Mapping[ErrorKind, int]) -> str:
    """``3 (late 2, window 1)``"""
    named: dict[Enum, int] = {what: count for what, count in counts.items() if count}
    return (
        f"{sum(named.values()):,} ({', '.join(f'{what.value} {count:,}' for what, count in named.items())})"
    )


def _within(lags: tuple[int, ...], percent: int) -> str:
    """The bound that so many percent of the lags keep."""
    wanted, seen = sum(lags) * percent / 100, 0
    for bound, count in zip(LAG_BOUNDS, lags):
        seen += count
        if seen >= wanted:
            return f"{percent} % within {_span(bound)}"
    return f"{percent} % within more than {_span(LAG_BOUNDS[-1])}"


def _span(seconds: float) -> str:
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"
