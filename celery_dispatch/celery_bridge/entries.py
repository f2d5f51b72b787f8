"""The entries of an app, read from ``beat_schedule`` as stock beat reads it.

One bad entry is one bad entry: it is logged with its name and the reason, kept by name, and the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from celery.schedules import crontab

from celery_dispatch.celery_bridge.definitions import Definitions
from celery_dispatch.celery_bridge.fingerprint import fingerprint_of
from celery_dispatch.config import Config
from celery_dispatch.core.entry import Catalog, Entry
from celery_dispatch.errors import ConfigError, EntryError

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["catalog_of"]

logger = logging.getLogger(__name__)

_CLEANUP = "celery.backend_cleanup"


def catalog_of(app: Celery, config: Config) -> Catalog:
    """The entries of ``app`` with the fingerprint of its config; those that cannot be used are in ``broken``.

    The user's dicts are not changed.
    """
    definitions = Definitions(app, config)
    entries: dict[str, Entry] = {}
    broken: dict[str, str] = {}
    for name, item in _items(app, broken):
        shown = name if isinstance(name, str) and name.isprintable() else repr(name)
        try:
            entry = definitions.entry(name, item)
            if entry.remove_when_completed:
                raise EntryError(
                    "dispatch option remove_when_completed: only entries made at run time can be removed; "
                    "leave it out"
                )
            entries[shown] = entry
        except Exception as error:  # user code: schedule classes, __reduce__, nowfun
            broken[shown] = str(error) if isinstance(error, EntryError) else repr(error)
    for name, reason in broken.items():
        logger.error("Entry %s is left out: %s", name, reason)
    hashes = {name: entry.definition for name, entry in entries.items()}
    hashes.update(dict.fromkeys(broken, ""))
    return Catalog(fingerprint_of(hashes, app, config), entries, broken)


def _items(app: Celery, broken: dict[str, str]) -> Iterable[tuple[object, Any]]:
    """Name and item of each entry; the backend's clean-up among them exactly when stock beat installs it."""
    given: Any = app.conf.beat_schedule or {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"beat_schedule is a {type(given).__name__}; use a dict of name and entry")
    yield from given.items()
    if not app.conf.result_expires or _CLEANUP in given:
        return
    try:
        expires_itself = app.backend.supports_autoexpire
    except Exception as error:
        broken[_CLEANUP] = f"the result backend cannot be loaded: {error!r}"
        return
    if not expires_itself:
        options = {"expires": 12 * 3600}
        yield _CLEANUP, {"task": _CLEANUP, "schedule": crontab("0", "4", "*"), "options": options}
