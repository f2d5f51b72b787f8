"""Everything that this package raises, in one tree.

::

    DispatchError
    ├── ConfigError          a setting is wrong; raised at start, with the value and the cure
    ├── EntryError           one entry cannot be scheduled, rendered or routed; never stops another
    │   └── NeverDue         nothing would ever be fired of one that is new
    ├── FencedError          the config that this node runs is not the one in force
    ├── ScheduleError        a schedule cannot be changed as asked, so it was not
    │   ├── UnknownSchedule  there is none of that name
    │   ├── NameTaken        there is one of that name
    │   ├── StaleVersion     somebody changed it since it was read
    │   └── BulkRefused      some of many cannot be written
    └── StoreError
        ├── StoreUnavailable Redis did not answer, or answered that it cannot serve now: try again
        └── StoreRefused     Redis refused for good (password, rights, schema): needs a person

An error is never read as an answer: a store that cannot be asked is "unknown", not "empty".
"""

from __future__ import annotations

from collections.abc import Mapping

from celery.exceptions import ImproperlyConfigured

__all__ = [
    "BulkRefused",
    "ConfigError",
    "DispatchError",
    "EntryError",
    "FencedError",
    "NameTaken",
    "NeverDue",
    "ScheduleError",
    "StaleVersion",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "UnknownSchedule",
]


class DispatchError(Exception):
    """The root of every error of this package."""


class ConfigError(DispatchError, ImproperlyConfigured):
    """A setting cannot be used; the message names the setting, its value and the cure."""


class EntryError(DispatchError):
    """One entry cannot be scheduled, rendered or routed; the message names the cause."""


class NeverDue(EntryError):
    """An entry that begins now would never fire anything: its schedule and its end give no later due."""


class FencedError(DispatchError):
    """The fence of a claim is not the config in force, so nothing of its batch was written."""


class ScheduleError(DispatchError):
    """A schedule cannot be changed as asked, so it was not; the message names it and the cure."""


class UnknownSchedule(ScheduleError):
    """There is no schedule of that name."""


class NameTaken(ScheduleError):
    """There is a schedule of that name already."""


class StaleVersion(ScheduleError):
    """Somebody changed the schedule since it was read: ``given`` was asked for, ``stored`` is there."""

    def __init__(self, name: str, *, given: int, stored: int) -> None:
        super().__init__(
            f"{name!r} is at version {stored} by now, and not at {given}: somebody changed it. "
            "Read it again and decide anew."
        )
        self.given = given
        self.stored = stored


class BulkRefused(ScheduleError):
    """Some of many schedules cannot be written; ``errors`` has the reason of each by name.

    None was, unless the reason is that somebody else was faster with just these.
    """

    def __init__(self, errors: Mapping[str, DispatchError]) -> None:
        listed = "".join(f"\n  - {name!r}: {error}" for name, error in list(errors.items())[:20])
        more = f"\n  and {len(errors) - 20} more" if len(errors) > 20 else ""
        super().__init__(f"{len(errors)} schedules cannot be written:{listed}{more}")
        self.errors = dict(errors)


class StoreError(DispatchError):
    """The store could not do what it was asked."""


class StoreUnavailable(StoreError):
    """The store did not answer or cannot serve now; whether a write took place is unknown."""


class StoreRefused(StoreError):
    """The store answered that it will not do this; trying again changes nothing."""
