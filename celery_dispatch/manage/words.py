"""Times, numbers and names as people read them."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from datetime import datetime, timedelta, timezone

from celery_dispatch.redis_store.codec import printable

__all__ = [
    "clock_time",
    "counted",
    "duration",
    "is_or_are",
    "listed",
    "milliseconds",
    "pause_words",
    "relative",
    "sentence",
    "shorten",
]

_NAMED = 3
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration(span: timedelta) -> str:
    """To about two digits: ``0.3 s``, ``4 s``, ``3 min 20 s``, ``25 min``, ``2 d 5 h``."""
    seconds = abs(span.total_seconds())
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    left = round(seconds)
    for i, (length, unit) in enumerate(_UNITS):
        if left >= length:
            count, rest = divmod(left, length)
            lower_length, lower = _UNITS[i + 1] if i + 1 < len(_UNITS) else (1, "s")
            more = rest // lower_length
            detailed = more and count < 10 and unit != "s"
            return f"{count} {unit} {more} {lower}" if detailed else f"{count:,} {unit}"
    return "0 s"


def relative(moment: datetime, now: datetime) -> str:
    """``in 4 s``, ``20 s ago``, ``now`` within a twentieth of a second."""
    span = moment - now
    if abs(span) < timedelta(milliseconds=50):
        return "now"
    return f"in {duration(span)}" if span > timedelta() else f"{duration(span)} ago"


def clock_time(moment: datetime) -> str:
    """``2026-11-21 02:18:02.125 UTC``, without the milliseconds where there are none."""
    text = moment.astimezone(timezone.utc).isoformat(sep=" ", timespec="milliseconds")[:-6]
    return f"{text.removesuffix('.000')} UTC"


def pause_words(since: datetime, *, author: str, note: str) -> str:
    """``since 2026-11-21 02:18:02 UTC, by ada: wrong figures``; printable."""
    words = f"since {clock_time(since)}" + (f", by {author}" if author else "")
    return printable(f"{words}: {note}" if note else words)


def milliseconds(value: float | None) -> str:
    """``3.2 ms``, ``140 ms``, ``2.1 s``; ``-`` where it is not known."""
    if value is None:
        return "-"
    if value >= 1000:
        return duration(timedelta(milliseconds=value))
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def shorten(text: str, width: int) -> str:
    """Cut in the middle, where names of hosts and nodes differ least."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 3 // 5
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def counted(number: int, noun: str) -> str:
    """``1 entry``, ``2,500 entries``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"


def is_or_are(things: Sized) -> str:
    """The verb that fits their number."""
    return "is" if len(things) == 1 else "are"


def listed(names: Sequence[str], most: int = _NAMED) -> str:
    """``a, b, c and 4 more``."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def sentence(text: str) -> str:
    """``text`` with its full stop."""
    return text if text.endswith((".", "?")) else f"{text}."
