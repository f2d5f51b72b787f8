"""Whose fault an error of a driver is: the broker's, a person's, or that of the message."""

from __future__ import annotations

from amqp import exceptions as amqp_errors
from kombu.exceptions import OperationalError
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import MasterNotFoundError

from celery_dispatch.sentinels import explained

__all__ = ["in_words", "is_busy", "is_outage", "is_refusal", "is_refused_login"]

#: Answers of Redis that say that it takes no writes now, whatever is written.
_BUSY = (BusyLoadingError, OutOfMemoryError, ReadOnlyError)
_BUSY_WORDS = ("CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN")

#: What may say that the broker cannot be used now.  Users' own code raises these as well.
_OUTAGES = (RedisConnectionError, RedisTimeoutError, OperationalError, amqp_errors.ConnectionError, OSError)


def is_busy(error: Exception) -> bool:
    """Whether Redis answered that it takes no writes at all now."""
    return isinstance(error, _BUSY) or str(error).startswith(_BUSY_WORDS)


def is_outage(error: Exception) -> bool:
    """Whether the broker may be at fault; Celery and kombu wrap what was raised first."""
    chain = _chain(error)
    if any(_is_answer(each) for each in chain):
        return False
    return any(isinstance(each, _OUTAGES) or is_busy(each) for each in chain)


def in_words(error: Exception) -> Exception:
    """The error; where no Sentinel names the broker's master, what they say instead of the driver's."""
    unnamed = next((each for each in _chain(error) if isinstance(each, MasterNotFoundError)), None)
    return error if unnamed is None else explained(unnamed)


def is_refused_login(error: Exception) -> bool:
    """Whether the broker was reached and did not let this user in, or not there."""
    refusals = (AuthenticationError, amqp_errors.AccessRefused, amqp_errors.NotAllowed)
    return any(isinstance(each, refusals) for each in _chain(error))


def is_refusal(error: Exception) -> bool:
    """Whether the broker answered that it will not do what was asked."""
    return any(_is_answer(each) for each in _chain(error))


def _is_answer(error: Exception) -> bool:
    """Whether the broker answered to what was sent to it, and is thus there."""
    if isinstance(error, ResponseError):
        return not is_busy(error)
    return isinstance(error, amqp_errors.ChannelError)


def _chain(error: BaseException | None) -> list[Exception]:
    """The error and those that led to it."""
    chain: list[Exception] = []
    while isinstance(error, Exception) and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
