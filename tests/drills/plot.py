"""Draws a run as SVG: ``draw(scene)``.

From the top: a title with the verdict; numbered marks of what happened; a lane for each beat and one for
*nobody*, with a row for each entry; seconds; the legend with counts; the words to the numbers.  A tick stands
at the due of its occurrence; one that arrived late has a tail as long as its lag.  The colours are those of
Okabe and Ito, which all eyes tell apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from xml.etree import ElementTree

from tests.drills.record import Spell
from tests.drills.scene import NOBODY, PROMPT, Scene, Tick, counted
from tests.drills.svg import STYLE, add, number, short

__all__ = ["WIDTH", "Sheet", "draw"]

WIDTH = 1000
_LEFT, _RIGHT = 92, 24  # margins of the time axis
_HEAD = 54  # the title and the first line under it
_LINE = 18
_GAP = 7  # between lanes
_TICK = 3.0  # width
_EMPTY = 22  # height of a lane of nobody where nothing was lost
_TAIL_FROM = PROMPT  # ms of lag from which a tail is drawn
_STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)  # seconds between two labels of the axis
_BADGE = 17  # pixels that a numbered mark takes
_COLUMN = 58  # characters of a word to a number, in two columns
_WIDE = 140  # in one

_NAMES = {
    "on-time": "on time (50 ms)",
    "late": "late, as allowed",
    "too-late": "later than allowed",
    "twice": "sent more than once",
    "wrong": "early, or of no occurrence",
    "lost": "lost",
    "excused": "excused",
}

_STYLE = """
.pass { fill: #007a5a; font-weight: 700 } .fail { fill: #c2410c; font-weight: 700 }
.lane { fill: #f3f5f7 } .nobody { fill: #faeee7 }
.event { stroke: #57606a; stroke-width: 1; stroke-dasharray: 2 3 }
.fault { fill: #f0e442; fill-opacity: .22 } .spell { fill: url(#hatch) } .server { fill: url(#hatch-back) }
.hatch { stroke: #57606a; stroke-opacity: .55; stroke-width: 1.6 }
.halo { stroke: #ffffff; stroke-width: 4px; paint-order: stroke; stroke-linejoin: round }
.badge { fill: #57606a } .number { fill: #ffffff; font-size: 10px; font-weight: 600 }
.on-time { fill: #0072b2 } .late { fill: #e69f00 } .too-late { fill: #d55e00 } .twice { fill: #b5508f }
.wrong { fill: #000000 } .lost { fill: #d55e00 } .excused { fill: #8c959f } .tail { fill-opacity: .45 }
@media (prefers-color-scheme: dark) {
.pass { fill: #3fd0a0 } .fail { fill: #ff9a62 }
.lane { fill: #171c23 } .nobody { fill: #261a14 }
.event { stroke: #9da7b3 } .hatch { stroke: #c9d1d9; stroke-opacity: .4 }
.halo { stroke: #0d1117 } .badge { fill: #9da7b3 } .number { fill: #0d1117 } .fault { fill-opacity: .14 }
.on-time { fill: #56b4e9 } .twice { fill: #e08cc0 } .wrong { fill: #ffffff } .lost { fill: #ff7a33 }
.too-late { fill: #ff7a33 }
}
"""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Where things are, in pixels."""

    scene: Scene
    row: float
    seconds: float
    levels: Mapping[int, int]

    @classmethod
    def of(cls, scene: Scene) -> Sheet:
        room = 84 if len(scene.lanes) <= 6 else 48
        last = max([scene.end, *(max(tick.due, tick.at or 0) for tick in scene.ticks)])
        flat = cls(
            scene, min(6.0, room / max(1, len(scene.entries))), max(1.0, (last - scene.anchor) / 1000), {}
        )
        return replace(flat, levels=_levels([flat.x(instant) for instant, _ in scene.events]))

    @property
    def top(self) -> float:
        """The upper edge of the first lane."""
        return _HEAD + _LINE * (len(self.scene.lines) + max(self.levels.values(), default=0)) + 22

    def x(self, instant: float) -> float:
        """Of an instant in ms; what lies before the anchor stands at the left edge."""
        past = max(0.0, instant - self.scene.anchor) / 1000
        return _LEFT + min(1.0, past / self.seconds) * (WIDTH - _LEFT - _RIGHT)

    def height(self, lane: str) -> float:
        """Of a lane; that of nobody is low where it is empty."""
        if lane == NOBODY and all(tick.lane != NOBODY for tick in self.scene.ticks):
            return _EMPTY
        return self.row * max(1, len(self.scene.entries)) + 6

    def lane(self, name: str) -> float:
        """The upper edge of a lane; that of nobody is the last."""
        beat = self.row * max(1, len(self.scene.entries)) + 6
        return self.top + self.scene.lanes.index(name) * (beat + _GAP)

    @property
    def bottom(self) -> float:
        """The lower edge of the last lane."""
        return self.lane(NOBODY) + self.height(NOBODY)

    def y(self, tick: Tick) -> float:
        """The upper edge of a tick."""
        return self.lane(tick.lane) + 3 + self.row * self.scene.entries.index(tick.entry)


def _levels(places: Sequence[float]) -> dict[int, int]:
    """How high the mark of each event stands, so that none covers another."""
    ends: list[float] = []
    found = {}
    for index, place in enumerate(places):
        level = next((level for level, end in enumerate(ends) if end <= place), len(ends))
        ends[level : level + 1] = [place + _BADGE]
        found[index] = level
    return found


def draw(scene: Scene) -> str:
    """The plot as the text of an SVG file, readable in light and dark mode."""
    sheet = Sheet.of(scene)
    root = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img"})
    add(root, "title", f"{scene.title}: {'pass' if scene.passed else 'FAIL'}. {' '.join(scene.lines)}")
    add(root, "style", STYLE + _STYLE)
    _patterns(root)
    paper = add(root, "rect", cls="paper", x=0.5, y=0.5, rx=8, width=WIDTH - 1)
    _head(root, scene)
    _lanes(root, sheet)
    _shades(root, sheet)
    for tick in scene.ticks:
        _tick(root, sheet, tick)
    _events(root, sheet)
    _axis(root, sheet)
    below = _words(root, sheet, _legend(root, sheet))
    paper.set("height", number(below - 1))
    root.set("viewBox", f"0 0 {WIDTH} {number(below)}")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _patterns(root: ElementTree.Element) -> None:
    defs = add(root, "defs")
    for name, size, angle in (("hatch", 6, 45), ("hatch-back", 9, -45)):
        pattern = add(
            defs, "pattern", id=name, width=size, height=size, patternUnits="userSpaceOnUse",
            patternTransform=f"rotate({angle})",
        )  # fmt: skip
        add(pattern, "line", cls="hatch", x1=0, y1=0, x2=0, y2=size)


def _head(root: ElementTree.Element, scene: Scene) -> None:
    text = add(root, "text", x=20, y=32, cls="title")
    verdict = add(text, "tspan", "✓ pass" if scene.passed else "✗ FAIL")
    verdict.set("class", "pass" if scene.passed else "fail")
    add(text, "tspan", scene.title, dx=10)
    for index, line in enumerate(scene.lines):
        add(root, "text", short(line, _WIDE), x=20, y=_HEAD + _LINE * index, cls="quiet")


def _lanes(root: ElementTree.Element, sheet: Sheet) -> None:
    for name in sheet.scene.lanes:
        top, height = sheet.lane(name), sheet.height(name)
        kind = "nobody" if name == NOBODY else "lane"
        add(root, "rect", cls=kind, x=_LEFT, y=top, width=WIDTH - _LEFT - _RIGHT, height=height, rx=3)
        add(root, "text", short(name, 13), cls="end", x=_LEFT - 10, y=top + height / 2 + 4)
        if height == _EMPTY:
            add(root, "text", "nothing was lost", cls="quiet small", x=_LEFT + 10, y=top + height / 2 + 4)


def _shades(root: ElementTree.Element, sheet: Sheet) -> None:
    if sheet.scene.struck is not None:
        begun, over = sheet.scene.struck
        _shade(root, sheet, "fault", begun, over, sheet.top - 4, sheet.bottom + 4)
    for spell in sheet.scene.spells:
        if spell.server or spell.who in sheet.scene.lanes:
            _spell(root, sheet, spell)


def _spell(root: ElementTree.Element, sheet: Sheet, spell: Spell) -> None:
    until = sheet.scene.end if spell.until is None else min(spell.until, sheet.scene.end)
    if until <= max(spell.since, sheet.scene.anchor):
        return
    top = sheet.top - 4 if spell.server else sheet.lane(spell.who)
    bottom = sheet.bottom + 4 if spell.server else top + sheet.height(spell.who)
    kind = "server" if spell.server else "spell"
    rect = _shade(root, sheet, kind, spell.since, until, top, bottom)
    add(rect, "title", f"{spell.who} {spell.what} for {(until - spell.since) / 1000:.1f} s")
    words = f"{spell.who} {spell.what}" if spell.server else spell.what
    if sheet.x(until) - sheet.x(spell.since) > 8 * len(words):
        middle = (sheet.x(spell.since) + sheet.x(until)) / 2
        y = sheet.lane(NOBODY) - _GAP / 2 if spell.server else (top + bottom) / 2
        add(root, "text", words, cls="small halo middle", x=middle, y=y + 4)


def _shade(
    root: ElementTree.Element, sheet: Sheet, kind: str, since: int, until: int, top: float, bottom: float
) -> ElementTree.Element:
    left, right = sheet.x(since), sheet.x(until)
    return add(root, "rect", cls=kind, x=left, y=top, width=max(1.0, right - left), height=bottom - top)


def _tick(root: ElementTree.Element, sheet: Sheet, tick: Tick) -> None:
    x, y = sheet.x(tick.due), sheet.y(tick)
    size = max(1.0, sheet.row - 0.6)
    if tick.at is not None and tick.at - tick.due > _TAIL_FROM and tick.look != "wrong":
        width = sheet.x(tick.at) - x
        add(root, "rect", cls=f"tail {tick.look}", x=x, y=y + size * 0.25, width=width, height=size * 0.5)
    wide = _TICK if tick.look in ("on-time", "late") else _TICK + 1.6
    mark = add(root, "rect", cls=f"tick {tick.look}", x=x - wide / 2, y=y, width=wide, height=size)
    if tick.look != "on-time":
        add(mark, "title", _said(sheet.scene, tick))


def _said(scene: Scene, tick: Tick) -> str:
    head = f"{tick.entry}, due at {(tick.due - scene.anchor) / 1000:.3f} s: {_NAMES[tick.look]}"
    return head if tick.at is None else f"{head}; {tick.at - tick.due:.0f} ms after its due, by {tick.lane}"


# --- words --------------------------------------------------------------------------------------------------


def _events(root: ElementTree.Element, sheet: Sheet) -> None:
    for index, level in sheet.levels.items():
        instant, what = sheet.scene.events[index]
        x, y = sheet.x(instant), sheet.top - 14 - _LINE * level
        add(root, "line", cls="event", x1=x, x2=x, y1=y, y2=sheet.bottom + 4)
        mark = add(root, "circle", cls="badge", cx=x, cy=y, r=8)
        add(mark, "title", what)
        add(root, "text", str(index + 1), cls="number middle", x=x, y=y + 3.5)


def _axis(root: ElementTree.Element, sheet: Sheet) -> None:
    step = next((step for step in _STEPS if sheet.seconds / step <= 16), _STEPS[-1])
    for second in range(0, int(sheet.seconds) + 1, step):
        x = sheet.x(sheet.scene.anchor + 1000 * second)
        add(root, "line", cls="grid", x1=x, x2=x, y1=sheet.bottom + 4, y2=sheet.bottom + 9)
        add(root, "text", str(second), cls="quiet middle", x=x, y=sheet.bottom + 22)
    what = "seconds since the schedule came into force"
    add(root, "text", what, cls="quiet small end", x=WIDTH - _RIGHT, y=sheet.bottom + 38)


def _legend(root: ElementTree.Element, sheet: Sheet) -> float:
    """Draws the legend; the lower edge of it."""
    x, y = float(_LEFT), sheet.bottom + 60
    for mark, words in _keys(sheet.scene):
        if x + 24 + 6.6 * len(words) > WIDTH - _RIGHT:
            x, y = float(_LEFT), y + 20
        add(root, "rect", cls=mark, x=x, y=y - 10, width=12, height=12, rx=2)
        add(root, "text", words, x=x + 18, y=y)
        x += 40 + 6.6 * len(words)
    return y


def _keys(scene: Scene) -> Iterator[tuple[str, str]]:
    for look, count in counted(scene.ticks).items():
        yield look, f"{_NAMES[look]}: {count}"
    if scene.struck is not None:
        yield "fault", "the fault, until its consequences are over"
    for kind in ("spell", "server"):
        if what := dict.fromkeys(it.what for it in scene.spells if it.server == (kind == "server")):
            yield kind, f"{'server' if kind == 'server' else 'beat'} {' or '.join(what)}"


def _words(root: ElementTree.Element, sheet: Sheet, above: float) -> float:
    """Writes the words to the numbers, in two columns if they are many; the height of the whole sheet."""
    events = sheet.scene.events
    columns = 2 if len(events) > 3 else 1
    rows = -(-len(events) // columns)
    for index, (instant, what) in enumerate(events):
        x = _LEFT + (index // rows) * (WIDTH - _LEFT - _RIGHT) / 2
        y = above + 32 + _LINE * (index % rows)
        add(root, "text", str(index + 1), cls="end", x=x + 12, y=y)
        add(root, "text", f"{(instant - sheet.scene.anchor) / 1000:.1f} s", cls="quiet end", x=x + 62, y=y)
        words = add(root, "text", short(what, _COLUMN if columns == 2 else _WIDE), cls="quiet", x=x + 74, y=y)
        add(words, "title", what)
    return above + (34 + _LINE * rows if rows else 20)
