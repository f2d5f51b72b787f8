"""What redis-py raises, as what this package raises, each with its cure."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions

from celery_dispatch.address import NAMED_BY
from celery_dispatch.errors import StoreError, StoreRefused, StoreUnavailable

__all__ = ["error_text", "is_outage", "leading_word", "translated"]

_LOGIN = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.AuthenticationWrongNumberOfArgsError,
)
_NO_ANSWER = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.InvalidResponse, OSError)
_STATES_OF_THE_SERVER = frozenset({"OOM", "MISCONF", "READONLY", "LOADING", "BUSY", "UNKILLABLE"})
_STATES_OF_THE_GROUP = frozenset({"CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN"})
_OUTAGE_WORDS = _STATES_OF_THE_SERVER | _STATES_OF_THE_GROUP
#: redis-py takes the first word off an error that it has a class for; these are those that matter here.
_WORD_OF_CLASS = {
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "BusyLoadingError": "LOADING",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "NoPermissionError": "NOPERM",
    "ClusterCrossSlotError": "CROSSSLOT",
    "MovedError": "MOVED",
    "AskError": "ASK",
}
#: How Redis 6.2 passes an error out of a script.
_IN_SCRIPT = re.compile(r"@user_script:\s*\d+:\s*-?([A-Z]+) ")


@contextmanager
def translated() -> Iterator[None]:
    """redis-py's errors leave this context as ``StoreUnavailable`` or ``StoreRefused``; also a decorator."""
    try:
        yield
    except (exceptions.RedisError, OSError) as error:
        raise _translation(error) from error


def _translation(error: Exception) -> StoreError:
    text = error_text(error)
    if isinstance(error, _LOGIN) or "unauthenticated" in text:  # a server that got no password
        return StoreRefused(
            f"Redis refused the login ({text}). Check user and password in {NAMED_BY}; of Sentinels also "
            "those in the sentinel_kwargs of its options."
        )
    if _is_distrust(error):
        return StoreRefused(f"The TLS verification of Redis failed ({text}). {_cure_of_distrust(text)}")
    if isinstance(error, _NO_ANSWER):
        return StoreUnavailable(f"Redis does not answer ({text}).{_hint(text)}")
    if is_outage(error):
        return StoreUnavailable(f"Redis cannot serve now ({text}).")
    return StoreRefused(f"Redis refused ({text}). {_cure(text)}")


def _is_distrust(error: BaseException) -> bool:
    """Whether the server's certificate was not accepted; the driver wraps that in errors of its own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _cure_of_distrust(text: str) -> str:
    if "mismatch" in text or "not valid for" in text:
        return (
            f"The certificate is for another host: name that one in {NAMED_BY}, or set ssl_check_hostname to "
            "False in dispatch_redis_options."
        )
    return "Name the file of the authority that signed it: ssl_ca_certs in dispatch_redis_options."


def _hint(text: str) -> str:
    if "EOF occurred in violation" in text or "alert certificate" in text:
        return " If TLS was refused: the server may want a certificate of yours (ssl_certfile, ssl_keyfile)."
    return ""


def _cure(text: str) -> str:
    if "NOPERM" in text or "The user executing the script" in text:
        return (
            "Give the Redis user its missing right, which ACL LOG on the server names: to read and write the "
            "pool's keys ({celery-dispatch}:*, or your dispatch_key_prefix in the braces) and the queues, to "
            "use the pool's channel, and the commands of hashes, sorted sets, lists, scripts and pub/sub."
        )
    if "WRONGTYPE" in text:
        return "Something else uses keys of that name: choose another dispatch_key_prefix, or delete them."
    if "DB index" in text:
        return f"The server has no database of that number: change it in {NAMED_BY}."
    if leading_word(text) in ("MOVED", "ASK"):
        return "This server is part of a Cluster: set dispatch_redis_url to it, with redis+cluster://."
    if "cluster support disabled" in text:
        return "This server is no Cluster: write redis:// in dispatch_redis_url."
    return "celery-dispatch needs one Redis from 6.2 on, or Valkey, that runs Lua scripts."


def is_outage(error: Exception) -> bool:
    """Whether trying again may help, and the outcome is unknown."""
    if isinstance(error, _LOGIN) or _is_distrust(error):
        return False
    return isinstance(error, _NO_ANSWER) or leading_word(error_text(error)) in _OUTAGE_WORDS


def leading_word(text: str) -> str:
    """The word that a server's error begins with, also where it passed through a script; else empty."""
    inner = _IN_SCRIPT.search(text)
    if inner:
        return inner[1]
    word = text.partition(" ")[0]
    return word if word.isupper() else ""


def error_text(error: Exception) -> str:
    """The server's words, its code included."""
    text = str(error) or type(error).__name__
    word = _WORD_OF_CLASS.get(type(error).__name__, "")
    return text if text.startswith(word) else f"{word} {text}"
