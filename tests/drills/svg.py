"""Elements of an SVG file, written with the standard library."""

from __future__ import annotations

from xml.etree import ElementTree

__all__ = ["STYLE", "add", "number", "short"]

#: What every plot has in common: text, paper and grid, in light and dark mode.
STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #24292f }
.title { font-size: 17px; font-weight: 600 } .quiet { fill: #57606a } .small { font-size: 11px }
.middle { text-anchor: middle } .end { text-anchor: end }
.paper { fill: #ffffff; stroke: #d0d7de } .grid { stroke: #d0d7de; stroke-width: 1 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .quiet { fill: #9da7b3 }
.paper { fill: #0d1117; stroke: #30363d } .grid { stroke: #30363d }
}
"""


def short(text: str, limit: int) -> str:
    """One line of at most ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def number(value: float) -> str:
    """As SVG writes it, to a hundredth of a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def add(
    parent: ElementTree.Element,
    tag: str,
    text: str | None = None,
    *,
    cls: str = "",
    **attributes: float | str,
) -> ElementTree.Element:
    """A new element in ``parent``; ``cls`` is its class, since ``class`` is a word of Python."""
    element = ElementTree.SubElement(parent, tag)
    if cls:
        element.set("class", cls)
    for name, value in attributes.items():
        element.set(name, value if isinstance(value, str) else number(value))
    element.text = None if text is None else _legal(text)
    return element


def _legal(text: str) -> str:
    """Without the characters that XML cannot carry, as a log may contain them."""
    return "".join(sign for sign in text if sign in "\t\n" or sign >= " ")
