"""How a node follows what is said at run time; why it is done so is told in ``rows``.

::

    at start, or rows were put back, or removed ──► reading all versions ──► in line ──► reading what is later
                                                                                ▲                 │
                                                                                └─────────────────┘

A look is one request, twice a second, or when told; a page of changes a look.  Until everything is in line
for the gate that is stored, the catalog is not ``sound``, and its node fires nothing.

A row that is stored in a lower version than this node knows, or not at all though it was not removed, is one
that Redis has lost: the node becomes suspicious, and the recovery has it put back.

Where the row of all entries is not the one that the gate stands for, and is not when it is read again, nobody
can say whether all entries are paused: the node says so, and fires nothing until somebody does.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence

from celery_dispatch.core.catalog import LiveCatalog
from celery_dispatch.core.clock import PoolClock
from celery_dispatch.core.ports import Damaged, News, Rows
from celery_dispatch.core.report import NodeReport
from celery_dispatch.core.rows import ALL, Row
from celery_dispatch.errors import DispatchError

__all__ = ["Following"]

logger = logging.getLogger(__name__)

_EVERY = 0.5  # seconds between two looks
_PAGE = 1_000  # changes in one look

_UNREADABLE = (
    "the row that says whether all entries are paused cannot be read. "
    "Run: celery -A <app> dispatch pause --all; when all may go on: celery -A <app> dispatch resume --all"
)


class Following:
    """Keeps a catalog in line with the rows.

    ``suspicious`` is set when Redis turns out to have lost rows that this node knows.
    """

    def __init__(self, *, catalog: LiveCatalog, rows: Rows, clock: PoolClock, report: NodeReport) -> None:
        self.suspicious = False
        self._catalog = catalog
        self._rows = rows
        self._clock = clock
        self._report = report
        self._known = 0  # everything up to this version is known
        self._floor = 0  # as it is stored: an emptied Redis has none, and what it lost was not removed
        self._mends: str | None = None  # the part of the gate that says when rows were put back
        self._seen: set[str] | None = None  # names met while all versions are read
        self._position = 0
        self._missing: dict[str, int] = {}  # rows that were not found in the version that is known
        self._learnt: set[str] = set()  # names of which something else is known than ``turn`` told
        self._unclear: str | None = None  # the gate for which it is not known whether all entries are paused
        self._must_look = True
        self._look_at = 0.0
        self._merge_of = ""
        self._merge_steps: Iterator[None] = iter(())

    @property
    def sound(self) -> bool:
        """Whether the catalog is in line with the gate that it holds."""
        return not self._is_reading and self._unclear is None

    @property
    def _is_reading(self) -> bool:
        return self._mends is None or self._seen is not None

    def look(self) -> None:
        """Let the next turn look at once; may be called from any thread."""
        self._must_look = True

    def turn(self) -> Collection[str]:
        """Look, if it is time to; all names of which something else is known now.  Raises ``StoreError``."""
        if self._must_look or self._is_reading or self._clock.monotonic() >= self._look_at:
            self._look()
        learnt, self._learnt = self._learnt, set()
        return learnt

    def _look(self) -> None:
        self._must_look = False
        doubtful, self._missing = self._missing, {}
        news = self._rows.news(self._known if self._seen is None else self._position, _PAGE)
        if self._seen is None and self._must_begin(news):
            self._mends, self._seen, self._position = _mends(news), set(), 0
            news = self._rows.news(0, _PAGE)
        removed, self._floor = news.floor > self._floor, news.floor
        if news.version < self._known:
            self.suspicious = True
            return
        self._doubt(doubtful)
        self._take(news)
        if removed:
            self._forget()
        self._look_at = self._clock.monotonic() + _EVERY

    @property
    def wait(self) -> float:
        """Seconds until the next look, or until there is something to tell."""
        if self._must_look or self._learnt or self._is_reading:
            return 0.0
        return max(0.0, self._look_at - self._clock.monotonic())

    def learn(self, names: Sequence[str]) -> Collection[str]:
        """Read the rows of these names; those that Redis seems to have lost.  Raises ``StoreError``.

        Of the others the next turn tells, whoever asked.
        """
        lost = []
        for name, row in zip(names, self._rows.read(names)):
            known = self._catalog.version(name)
            if isinstance(row, Damaged) or (row.version if row else 0) >= known:
                self._put(name, row)
                self._missing.pop(name, None)
            elif known > self._floor:
                lost.append(name)
                self._missing[name] = known
                self._must_look = True
            else:
                self._put(name, row)
        return lost

    def _put(self, name: str, row: Row | Damaged | None) -> None:
        self._catalog.put(name, row)
        self._learnt.add(name)

    # --- a look ---------------------------------------------------------------------------------------------

    def _must_begin(self, news: News) -> bool:
        """Whether this node cannot have heard of everything."""
        removed_later = news.floor > self._known and news.floor != self._floor
        return _mends(news) != self._mends or removed_later

    def _take(self, news: News) -> None:
        """Read the rows that differ; the catalog is in line after the last page."""
        names = [name for name, version in news.changed if self._catalog.version(name) != version]
        if self._unclear is not None and ALL not in names:
            names.append(ALL)
        if names:
            self.learn(names)
        if self._seen is not None:
            self._seen.update(name for name, _ in news.changed)
        if len(news.changed) == _PAGE:
            self._must_look = True
            self._position = news.changed[-1][1]
            if self._seen is None:
                self._known = self._position
            return
        self._known = max(self._known, news.version)
        if self._seen is not None:
            self._drop_unseen(self._seen)
            self._seen = None
        self._pass(news)
        self._report.followed(self._known, run_time=self._catalog.defined)

    def _pass(self, news: News) -> None:
        """Hold the gate, if everything that it stands for is known."""
        halt = news.gate.partition(".")[2]
        if _mends(news) != self._mends:
            self._must_look = True
        elif halt in ("", str(self._catalog.version(ALL))):
            self._catalog.gate, self._unclear = news.gate, None
            if self._report.well(ALL):
                logger.warning("It is known again whether all entries are paused")
        elif news.gate != self._unclear:  # it changed while this node looked, most likely
            self._unclear, self._must_look = news.gate, True
        elif self._report.error(ALL, _UNREADABLE):
            logger.error("Nothing is fired: %s", _UNREADABLE)

    def _drop_unseen(self, seen: set[str]) -> None:
        """Forget what is stored no more; what is no more though it was not removed is missed."""
        for name in [name for name in self._catalog.rows if name not in seen]:
            version = self._catalog.version(name)
            if version > self._floor:
                self._missing[name], self._must_look = version, True
            else:
                self._put(name, None)

    def _forget(self) -> None:
        """Forget rows that say nothing and may have been removed; a stored one is read when met."""
        for name, row in self._catalog.rows.items():
            says_nothing = name not in self._catalog and not row.is_paused
            if says_nothing and name != ALL and row.version <= self._floor:
                self._put(name, None)

    def _doubt(self, doubtful: Mapping[str, int]) -> None:
        """See what became of rows that were not found at the last look: removed meanwhile, or lost."""
        for name, version in doubtful.items():
            if version <= self._floor:
                self._put(name, None)
            elif self._catalog.version(name) == version:
                self.suspicious = True

    # --- recovery -------------------------------------------------------------------------------------------

    def merge(self, recovery: str) -> bool:
        """Do a step of putting back what Redis lost; whether all is put back.

        Raises ``StoreError``, and ``FencedError`` where that recovery is over.
        """
        if recovery != self._merge_of:
            self._merge_of, self._merge_steps = recovery, self._merge(recovery)
            self._missing.clear()
        try:
            return next(self._merge_steps, self) is self
        except DispatchError:
            self._merge_of = ""
            raise

    def _merge(self, recovery: str) -> Iterator[None]:
        stored: dict[str, int] = {}
        news = self._rows.news(0, _PAGE)
        stored.update(news.changed)
        while len(news.changed) == _PAGE:
            yield
            news = self._rows.news(news.changed[-1][1], _PAGE)
            stored.update(news.changed)
        lost = {
            name: row
            for name, row in self._catalog.rows.items()
            if row.version > max(stored.get(name, 0), news.floor)
        }
        names = sorted(lost, key=lambda name: lost[name].version)
        for start in range(0, max(1, len(names)), _PAGE):
            yield
            part = {name: lost[name] for name in names[start : start + _PAGE]}
            self._rows.put_back(recovery, self._known, part)
        if lost:
            logger.warning(
                "Redis had lost what was said at run time of %d entries; it is put back", len(lost)
            )


def _mends(news: News) -> str:
    """The part of the gate that changes when rows were put back."""
    return news.gate.partition(".")[0]
