"""What a node says of itself: counters, lag and errors, read by people and never by the rules."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

__all__ = ["NodeReport"]

_RECENT = 1_000
_SHOWN_ERRORS = 20


class NodeReport:
    """Counts what happens on a node; ``snapshot()`` may be taken by another thread."""

    def __init__(self, about: Mapping[str, object]) -> None:
        self._about = dict(about)
        self._lags: deque[float] = deque(maxlen=_RECENT)
        self._errors: dict[str, str] = {}
        self.fired = 0
        self.skipped = 0
        self.lost = 0
        self.owned = 0
        self.standby = 0
        self.loading = 0
        self.outage: str | None = None

    def lag(self, lag: timedelta) -> None:
        """An occurrence was fired this long after its due."""
        self._lags.append(lag.total_seconds() * 1000)

    def error(self, name: str, message: str) -> bool:
        """An entry cannot be fired now; whether that is news."""
        news = self._errors.get(name) != message
        self._errors[name] = message
        return news

    def well(self, name: str) -> bool:
        """It can again, or is not this node's any more; whether that is news."""
        return self._errors.pop(name, None) is not None

    def snapshot(self) -> dict[str, Any]:
        """JSON-ready; the lag is that of the last 1,000 occurrences, in milliseconds."""
        lags = sorted(self._lags.copy())
        errors = dict(self._errors)
        return {
            **self._about,
            "entries": self.owned,
            "standby": self.standby,
            "loading": self.loading,
            "fired": self.fired,
            "skipped": self.skipped,
            "lag": {"p50": round(lags[len(lags) // 2], 1), "max": round(lags[-1], 1)} if lags else None,
            "errors": {name: errors[name][:500] for name in sorted(errors)[:_SHOWN_ERRORS]},
            "error_count": len(errors),
            "outage": self.outage,
        }
