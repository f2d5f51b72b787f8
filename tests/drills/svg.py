"""Elements of an SVG file, written with the standard library."""

from __future__ import annotations

from xml.etree import ElementTree

__all__ = ["add", "number", "short"]


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
