"""A chart with lines, as SVG: two axes, each of them linear or logarithmic, and a legend.

The colours are those of Okabe and Ito, which all eyes tell apart; lines differ in their dashes as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from tests.drills.svg import STYLE, add, number, short

__all__ = ["Axis", "Chart", "Line"]

_WIDTH, _HEIGHT = 1000, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 24, 92, 56
_LEGEND = 20  # height of a line of the legend
_MOST_TICKS = 9
_LOOKS = 7

_STYLE = """
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round } .dot { stroke: none }
.s0 { stroke: #0072b2; fill: #0072b2 } .s1 { stroke: #e69f00; fill: #e69f00; stroke-dasharray: 7 3 }
.s2 { stroke: #d55e00; fill: #d55e00; stroke-dasharray: 2 3 } .s3 { stroke: #b5508f; fill: #b5508f }
.s4 { stroke: #57606a; fill: #57606a; stroke-dasharray: 9 3 2 3 } .s5 { stroke: #009e73; fill: #009e73 }
.s6 { stroke: #56b4e9; fill: #56b4e9; stroke-dasharray: 4 2 } .line { fill: none }
.mark { stroke: #57606a; stroke-dasharray: 2 3 }
@media (prefers-color-scheme: dark) {
.s0 { stroke: #56b4e9; fill: #56b4e9 } .s2 { stroke: #ff7a33; fill: #ff7a33 }
.s3 { stroke: #e08cc0; fill: #e08cc0 } .s4 { stroke: #9da7b3; fill: #9da7b3 }
.s5 { stroke: #3fd0a0; fill: #3fd0a0 } .s6 { stroke: #a6d8f5; fill: #a6d8f5 } .line { fill: none }
.mark { stroke: #9da7b3 }
}
"""


@dataclass(frozen=True, slots=True)
class Line:
    """Points from left to right; ``dots``: each of them is a measurement, and is shown."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """``logarithmic`` takes positive values only."""

    title: str
    logarithmic: bool = False

    def range(self, values: Sequence[float]) -> tuple[float, float]:
        """From where to where it must reach to show these."""
        low, high = min(values), max(values)
        if self.logarithmic:
            return 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high) or 1)
        return min(0.0, low), high or 1.0

    def place(self, value: float, low: float, high: float) -> float:
        """Where between ``low`` (0) and ``high`` (1) a value stands."""
        if self.logarithmic:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return (value - low) / ((high - low) or 1.0)

    def ticks(self, low: float, high: float) -> Iterator[float]:
        """The values that get a label."""
        if self.logarithmic:
            first, last = round(math.log10(low)), round(math.log10(high))
            yield from (10.0**exponent for exponent in range(first, last + 1))
            return
        rough = (high - low) / _MOST_TICKS
        magnitude = 10 ** math.floor(math.log10(rough))
        step = next(step for part in (1, 2, 5, 10) if (step := part * magnitude) >= rough)
        yield from (number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1))


@dataclass(frozen=True, slots=True)
class Chart:
    """``words`` stand under the title; ``marks`` are places on the horizontal axis with what was there."""

    title: str
    words: str
    across: Axis
    up: Axis
    lines: Sequence[Line]
    marks: Sequence[tuple[float, str]] = ()

    def svg(self) -> str:
        """The text of an SVG file, readable in light and dark mode."""
        root = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img"})
        add(root, "title", f"{self.title}. {self.words}")
        add(root, "style", STYLE + _STYLE)
        height = _HEIGHT + _LEGEND * -(-len(self.lines) // 3)
        root.set("viewBox", f"0 0 {_WIDTH} {height}")
        add(root, "rect", cls="paper", x=0.5, y=0.5, rx=8, width=_WIDTH - 1, height=height - 1)
        add(root, "text", self.title, cls="title", x=20, y=32)
        add(root, "text", short(self.words, 150), cls="quiet", x=20, y=54)
        _Sheet(root, self).draw()
        return ElementTree.tostring(root, encoding="unicode") + "\n"


class _Sheet:
    """What is drawn within the axes."""

    def __init__(self, root: ElementTree.Element, chart: Chart) -> None:
        self._root, self._chart = root, chart
        points = [point for line in chart.lines for point in line.points]
        self._across = chart.across.range([x for x, _ in points])
        self._up = chart.up.range([y for _, y in points])

    def draw(self) -> None:
        self._grid()
        for place, line in enumerate(self._chart.lines):
            self._line(line, f"s{place % _LOOKS}")
            self._legend(line, place)
        for at, words in self._chart.marks:
            add(self._root, "line", cls="mark", x1=self._x(at), x2=self._x(at), y1=_TOP, y2=_HEIGHT - _BOTTOM)
            add(self._root, "text", words, cls="small quiet", x=self._x(at) + 5, y=_TOP + 12)

    def _x(self, value: float) -> float:
        return _LEFT + self._chart.across.place(value, *self._across) * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - self._chart.up.place(value, *self._up) * (_HEIGHT - _TOP - _BOTTOM)

    def _grid(self) -> None:
        bottom = _HEIGHT - _BOTTOM
        for value in self._chart.up.ticks(*self._up):
            y = self._y(value)
            add(self._root, "line", cls="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y)
            add(self._root, "text", _label(value), cls="quiet end", x=_LEFT - 8, y=y + 4)
        for value in self._chart.across.ticks(*self._across):
            x = self._x(value)
            add(self._root, "line", cls="grid", x1=x, x2=x, y1=_TOP, y2=bottom)
            add(self._root, "text", _label(value), cls="quiet middle", x=x, y=bottom + 18)
        add(self._root, "text", self._chart.up.title, cls="small quiet", x=20, y=_TOP - 12)
        add(
            self._root,
            "text",
            self._chart.across.title,
            cls="small quiet end",
            x=_WIDTH - _RIGHT,
            y=bottom + 36,
        )

    def _line(self, line: Line, look: str) -> None:
        points = " ".join(f"{number(self._x(x))},{number(self._y(y))}" for x, y in line.points)
        add(add(self._root, "polyline", cls=f"line {look}", points=points), "title", line.name)
        for x, y in line.points if line.dots else ():
            dot = add(self._root, "circle", cls=f"dot {look}", cx=self._x(x), cy=self._y(y), r=3.5)
            add(dot, "title", f"{line.name}: {_label(x)}, {_label(y)}")

    def _legend(self, line: Line, place: int) -> None:
        x = _LEFT + (place % 3) * (_WIDTH - _LEFT - _RIGHT) / 3
        y = _HEIGHT + _LEGEND * (place // 3)
        add(self._root, "line", cls=f"line s{place % _LOOKS}", x1=x, x2=x + 26, y1=y - 4, y2=y - 4)
        add(self._root, "text", short(line.name, 38), x=x + 34, y=y)


def _label(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
