"""Figures as people read them."""

from __future__ import annotations

import math

from benchmarks.figures import Ratio, Spread

__all__ = ["bytes_as", "milliseconds", "number", "percent", "ratio", "seconds", "spread"]


def number(value: float) -> str:
    """Three digits that count."""
    if not math.isfinite(value):
        return "∞" if value == math.inf else "-"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{round(value, 2 - math.floor(math.log10(abs(value)))):,.{digits}f}"


def ratio(found: Ratio) -> str:
    """The middle, and the lowest and the highest of all pairs."""
    if found.low == found.high:
        return number(found.middle)
    return f"{number(found.middle)} ({number(found.low)}–{number(found.high)})"


def spread(found: Spread | None, *, unit: str = "") -> str:
    if found is None:
        return ""
    middle = f"{number(found.middle)}{unit}"
    return middle if found.runs == 1 else f"{middle} ({number(found.low)}–{number(found.high)})"


def milliseconds(value: float) -> str:
    return f"{number(1000 * value)} ms"


def seconds(value: float) -> str:
    return f"{value:.1f} s"


def percent(share: float) -> str:
    """A share of a core."""
    return f"{number(100 * share)} %"


def bytes_as(count: float) -> str:
    return f"{count / 1e6:.0f} MB"
