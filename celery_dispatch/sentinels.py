"""What redis-py says where no Sentinel names a master, in words that a person reads."""

from __future__ import annotations

import re

from redis import exceptions
from redis.sentinel import MasterNotFoundError

__all__ = ["explained"]

_NAME = re.compile(r"^No master found for (.+?)(?: : |$)")
_SENTINEL = re.compile(r"host=([^,)>]+),port=(\d+)")
_ANSWER = re.compile(r"> - (.+?)(?=, (?:<redis|Redis<)|$)")


def explained(error: MasterNotFoundError) -> exceptions.ConnectionError:
    """The error with its cause: what the Sentinels answered, or that they name none."""
    text, found = _answers(str(error)), _NAME.match(str(error))
    name = found[1] if found else "of that name"
    if "AuthenticationError" in text or "NOPERM" in text or "NoPermission" in text:
        return exceptions.AuthenticationError(f"by the Sentinels: {text}")
    if text:
        return exceptions.ConnectionError(f"no Sentinel says who the master {name} is: {text}")
    return exceptions.ConnectionError(
        f"the Sentinels name no master {name} that is up: a promotion is under way, or none is possible; "
        "if that stays so, see whether SENTINEL MASTERS lists that master_name"
    )


def _answers(text: str) -> str:
    """What each Sentinel answered, without the driver's long description of it; empty without an error."""
    where, what = _SENTINEL.findall(text), _ANSWER.findall(text)
    if not where:
        return ""
    return "; ".join(f"{host}:{port}: {answer}" for (host, port), answer in zip(where, what)) or text[:200]
