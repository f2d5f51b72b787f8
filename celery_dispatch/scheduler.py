"""The door: what ``celery beat`` instantiates.

Celery's contract, and what follows from it:

* The constructor does no I/O and starts nothing: ``celery beat`` builds a second, lazy instance for its
  banner, an embedded beat is forked after it, and a SIGTERM during construction builds a third.  The node
  starts at the first ``tick()``.
* ``tick()`` lends the node this thread for one pass, waits inside for the next alarm or a wake (never longer
  than ``max_interval``), and returns 0.
* ``close()`` may run inside a signal handler on this very thread, and again afterwards.  It asks the
  keeper, which has a connection of its own, to leave the pool; connections of this thread are closed only
  outside of a pass.
* The handlers of SIGTERM and SIGINT run when a pass is over (``undisturbed``), unless that takes too long.
* The handler then raises ``SystemExit``, which Python drops where it interrupted a finalizer, or a callback
  of the import system.  A scheduler that is closed and still ticks ends its beat by the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from celery.beat import ScheduleEntry, Scheduler

from celery_dispatch.celery_bridge.broker import masked
from celery_dispatch.celery_bridge.entries import catalog_of
from celery_dispatch.celery_bridge.payload import payload_of
from celery_dispatch.config import Config
from celery_dispatch.core.entry import Catalog, Entry
from celery_dispatch.errors import ConfigError, StoreRefused
from celery_dispatch.running import Running

__all__ = ["DispatchScheduler"]


class _Schedule(Mapping[str, ScheduleEntry]):
    """The entries of a config as stock beat has them, each made when it is asked for."""

    def __init__(self, entries: Mapping[str, Entry], app: Any) -> None:
        self._entries = entries
        self._app = app

    def __getitem__(self, name: str) -> ScheduleEntry:
        return payload_of(self._entries[name]).entry(name, self._app, last_run_at=self._app.now())

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class DispatchScheduler(Scheduler):
    """A Celery beat scheduler of which any number may run.

    Set ``beat_scheduler = "celery_dispatch:DispatchScheduler"`` or start ``celery beat -S dispatch``.  Raises
    ``ConfigError`` from the constructor where a setting is wrong, and ``StoreRefused`` from ``tick()`` where
    Redis refuses this node before it ever was in the pool.
    """

    def __init__(self, app: Any, **kwargs: Any) -> None:
        self._config: Config | None = None
        self._catalog: Catalog | None = None
        self._running: Running | None = None
        self._closed = False
        super().__init__(app, **kwargs)

    def setup_schedule(self) -> None:
        self._config = Config.from_app(self.app)
        self._catalog = catalog_of(self.app, self._config)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        if self._closed:
            raise SystemExit
        if self._running is None:
            self._running = Running(self.app, config=self.config, catalog=self.catalog, scheduler=self)
        try:
            self._running.turn(longest=float(self.max_interval or 1))
        except StoreRefused as error:
            raise StoreRefused(str(error)) from None  # Celery logs the whole chain, a line each, and twice
        return 0.0

    def close(self) -> None:
        self._closed = True
        if self._running is not None:
            self._running.stop()
        super().close()

    def get_schedule(self) -> Mapping[str, ScheduleEntry]:  # type: ignore[override]  # it is not to be changed
        if self._catalog is None:
            return {}
        return _Schedule(self._catalog.entries, self.app)

    def set_schedule(self, schedule: Any) -> NoReturn:
        raise _refused("Assigning schedule")

    schedule = property(get_schedule, set_schedule)

    def add(self, **kwargs: Any) -> NoReturn:
        raise _refused("add()")

    def update_from_dict(self, dict_: Any) -> NoReturn:
        raise _refused("update_from_dict()")

    def merge_inplace(self, b: Any) -> NoReturn:
        raise _refused("merge_inplace()")

    def reserve(self, entry: ScheduleEntry) -> Any:
        """``entry`` as it is after one more run; nothing is kept of it, for runs are counted in Redis."""
        return next(entry)

    @property
    def info(self) -> str:
        config = self._config or Config.from_app(self.app)
        mode = ", shadow mode: nothing is sent" if config.shadow else ""
        return f"    . pool -> {masked(config.redis_url)} ({config.key_prefix}){mode}"

    @property
    def config(self) -> Config:
        """The settings, parsed; only on an instance that is not lazy."""
        assert self._config is not None
        return self._config

    @property
    def catalog(self) -> Catalog:
        """The entries of ``beat_schedule``; only on an instance that is not lazy."""
        assert self._catalog is not None
        return self._catalog


def _refused(what: str) -> ConfigError:
    return ConfigError(
        f"{what} cannot change what a dispatch scheduler fires: one beat alone would know of it. "
        "Put the entry into beat_schedule, or call app.add_periodic_task(), before beat starts."
    )
