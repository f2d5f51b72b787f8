"""What all views are made of.  Colour only repeats what a word says, so nothing is lost without it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from celery_dispatch.manage.reports import EntryState, NodeState
from celery_dispatch.manage.words import shorten

__all__ = ["Column", "fitted_table", "noted", "pair_grid", "state_words"]


_GAP = 2  # columns between columns


def state_words(state: NodeState | EntryState) -> str:
    word: str = state.value
    return word.replace("-", " ")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    ``least`` is the width that its cells may be shortened to, ``None`` where they must stay whole (numbers).
    Where the terminal is too narrow, columns go, the highest ``drop`` first; 0 always stays.
    """

    title: str
    cells: Sequence[str]
    right: bool = False
    least: int | None = None
    drop: int = 0
    styles: Sequence[str] = ()

    @property
    def natural(self) -> int:
        return max(len(self.title), *map(cell_len, self.cells))

    @property
    def smallest(self) -> int:
        return self.natural if self.least is None else min(self.natural, max(self.least, len(self.title)))


def fitted_table(columns: Iterable[Column], width: int) -> Table:
    """A table of at most ``width`` columns of text: leaves out, then shortens, what matters least."""
    shown = list(columns)
    while _least(shown) > width and any(column.drop for column in shown):
        shown.remove(max(shown, key=lambda column: column.drop))
    rooms = _rooms(shown, width)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for column in shown:
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
    for row in range(len(shown[0].cells)):
        table.add_row(*(_cell(column, row, room) for column, room in zip(shown, rooms, strict=True)))
    return table


def _least(columns: Sequence[Column]) -> int:
    return sum(column.smallest + _GAP for column in columns) - _GAP


def _rooms(columns: Sequence[Column], width: int) -> list[int]:
    """The width of each column; what is to spare goes to those that need least of it first."""
    rooms = [column.smallest for column in columns]
    spare = max(0, width - _least(columns))
    needy = sorted(range(len(columns)), key=lambda i: columns[i].natural - rooms[i])
    for position, i in enumerate(needy):
        given = min(columns[i].natural - rooms[i], spare // (len(needy) - position))
        rooms[i] += given
        spare -= given
    return rooms


def _cell(column: Column, row: int, room: int) -> Text:
    style = column.styles[row] if column.styles else ""
    return Text(shorten(column.cells[row], room), style=style)


def pair_grid(rows: Iterable[tuple[str, Text]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True, min_width=10)
    grid.add_column(overflow="fold")
    for title, value in rows:
        grid.add_row(title, value)
    return grid


def noted(about: str, message: str, style: str) -> RenderableType:
    return Padding(Text.assemble((about, style), f": {message}"), (0, 0, 0, 2), expand=False)
