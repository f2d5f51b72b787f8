"""Everything that this package raises, in one tree.

::

    DispatchError
    ├── ConfigError          a setting is wrong; raised at start, with the value and the cure
    ├── EntryError           one entry cannot be scheduled, rendered or routed; never stops another
    ├── FencedError          the config that this node runs is not the one in force
    └── StoreError
        ├── StoreUnavailable Redis did not answer, or answered that it cannot serve now: try again
        └── StoreRefused     Redis refused for good (password, rights, schema): needs a person

An error is never read as an answer: a store that cannot be asked is "unknown", not "empty".
"""

from __future__ import annotations

from celery.exceptions import ImproperlyConfigured

__all__ = [
    "ConfigError",
    "DispatchError",
    "EntryError",
    "FencedError",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
]


class DispatchError(Exception):
    """The root of every error of this package."""


class ConfigError(DispatchError, ImproperlyConfigured):
    """A setting cannot be used; the message names the setting, its value and the cure."""


class EntryError(DispatchError):
    """One entry cannot be scheduled, rendered or routed; the message names the cause."""


class FencedError(DispatchError):
    """The fence of a claim is not the config in force, so nothing of its batch was written."""


class StoreError(DispatchError):
    """The store could not do what it was asked."""


class StoreUnavailable(StoreError):
    """The store did not answer or cannot serve now; whether a write took place is unknown."""


class StoreRefused(StoreError):
    """The store answered that it will not do this; trying again changes nothing."""
