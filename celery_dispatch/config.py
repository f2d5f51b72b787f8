"""Every setting of this package, read from the Celery app and checked once, before anything starts.

Settings are found wherever Celery itself would look: an object, module or mapping given to
``config_from_object``, ``app.conf.update(...)``, plain assignment, and Django's settings under a namespace
(``CELERY_DISPATCH_LEASE_TTL``).  All that is wrong is said in one ``ConfigError``, each setting by the name
under which it was written.  A password is never shown.
"""

from __future__ import annotations

import difflib
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from celery_dispatch.address import Deployment, InvalidAddress, parse_address
from celery_dispatch.celery_bridge.broker import is_redis, masked, redis_of
from celery_dispatch.celery_bridge.codecs import ScheduleCodec, wrong_codec
from celery_dispatch.core.entry import CatchUp
from celery_dispatch.errors import ConfigError
from celery_dispatch.given import GivenSettings

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Config", "InvalidValue", "parse_catch_up", "parse_duration", "parse_window", "suggestion"]

_OURS = "dispatch_"
_LONGEST = 100 * 365 * 86_400.0
_KEY_PREFIX = re.compile(r"[^\s{}\x00-\x1f\x7f-\x9f]{1,128}")
_TOKEN = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]{1,128}")
_SHOWN = 80


class InvalidValue(ValueError):
    """A value that a setting cannot have; the text says what it must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, checked; see the settings reference for their meaning and defaults.

    ``config_version`` is ``None`` where the fingerprint decides, ``catch_up_window`` where nothing is too
    old, ``metrics_port`` and ``report_interval`` where there is none of it.  ``redis_url`` and
    ``redis_options`` may hold passwords and stay out of the ``repr``.
    """

    redis_url: str = field(repr=False)
    redis_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    key_prefix: str = "celery-dispatch"
    config_version: str | None = None
    heartbeat_interval: timedelta = timedelta(seconds=2)
    lease_ttl: timedelta = timedelta(seconds=10)
    handover_delay: timedelta = timedelta(seconds=0.5)
    delivery: str = "at_least_once"
    catch_up: CatchUp = CatchUp.LATEST
    catch_up_window: timedelta | None = None
    batch_size: int = 500
    node_name: str = field(default_factory=socket.gethostname)
    metrics_port: int | None = None
    metrics_address: str = "127.0.0.1"
    report_interval: timedelta | None = None
    shadow: bool = False
    schedule_codecs: Mapping[str, ScheduleCodec] = field(default_factory=dict)

    @property
    def at_most_once(self) -> bool:
        """Whether a message that may have been sent is rather lost than repeated."""
        return self.delivery == "at_most_once"

    @classmethod
    def from_app(cls, app: Celery) -> Config:
        """The configuration of ``app``; raises one ``ConfigError`` that lists everything that is wrong."""
        settings = GivenSettings(app.conf)
        problems = [*_unknown(settings)]
        values: dict[str, Any] = {}
        for name, parse in _PARSERS.items():
            written, value = settings.find(_OURS + name)
            if value is None:
                continue
            try:
                values[name] = parse(value)
            except InvalidValue as wrong:
                problems.append(f"{written} = {_shown(name, value)}: {wrong}")
        problems += _contradictions(settings, values)
        problems += _broker(app, settings, values)
        if problems:
            listed = "".join(f"\n  - {problem}" for problem in problems)
            raise ConfigError(f"celery-dispatch cannot start with this configuration:{listed}")
        return cls(**values)


# --- names --------------------------------------------------------------------------------------------------


def _unknown(settings: GivenSettings) -> Iterator[str]:
    known = [_OURS + name for name in _PARSERS]
    for written, plain in dict(settings.beginning_with(_OURS, known=known)).items():
        if plain not in known:
            hint = suggestion(plain, known)
            if hint and written != plain:
                hint = settings.find(hint)[0]
            cure = f"did you mean {hint}?" if hint else "remove it"
            yield f"{written}: there is no such setting; {cure}"


def suggestion(name: str, known: list[str]) -> str | None:
    """The one of ``known`` that ``name`` was most likely meant to be, if any is close."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return found[0] if found else None


# --- what a value must be -----------------------------------------------------------------------------------


def parse_duration(value: object, least: float, most: float) -> timedelta:
    """A duration within bounds: seconds or a timedelta; else ``InvalidValue``."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidValue("must be a number of seconds or a timedelta")
    if not least <= value <= most:  # false for NaN as well
        limit = f" and at most {most:g} s" if most < _LONGEST else ""
        raise InvalidValue(f"must be at least {least:g} s{limit}")
    return timedelta(seconds=value)


def _duration(least: float, most: float) -> Callable[[object], timedelta]:
    return lambda value: parse_duration(value, least, most)


def parse_window(value: object) -> timedelta | None:
    """A catch-up window: seconds or a timedelta, ``None`` for no limit; else ``InvalidValue``."""
    return None if value is None else parse_duration(value, 0.001, _LONGEST)


def parse_catch_up(value: object) -> CatchUp:
    """A catch-up policy by name or member; else ``InvalidValue``."""
    try:
        return CatchUp(value)
    except ValueError:
        raise InvalidValue("must be 'latest', 'all' or 'none'") from None


def _one_of(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise InvalidValue("must be " + " or ".join(map(repr, choices)))
        return value

    return parse


def _text(pattern: re.Pattern[str], rule: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise InvalidValue(f"must be text of 1 to 128 characters {rule}")
        return value

    return parse


def _whole(least: int, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InvalidValue(f"must be a whole number from {least} to {most}")
        return value

    return parse


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidValue("must be True or False")
    return value


def _options(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidValue("must be a dict of keyword arguments for the Redis client")
    return MappingProxyType(dict(value))


def _codecs(value: object) -> Mapping[str, ScheduleCodec]:
    if not isinstance(value, Mapping):
        raise InvalidValue("must be a dict such as {'lunar': ScheduleCodec(Lunar, to_json, from_json)}")
    for kind, codec in value.items():
        problem = wrong_codec(kind, codec)
        if problem:
            raise InvalidValue(problem)
    return MappingProxyType(dict(value))


def _redis_url(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidValue("must be a URL such as 'redis://localhost:6379/0'")
    try:
        parse_address(value)
    except InvalidAddress as wrong:
        raise InvalidValue(str(wrong)) from None
    return value


_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "redis_url": _redis_url,
    "redis_options": _options,
    "key_prefix": _text(_KEY_PREFIX, "without braces, white space and control characters"),
    "config_version": _text(_TOKEN, "without white space, such as an image tag or a commit"),
    "heartbeat_interval": _duration(0.05, 3600),
    "lease_ttl": _duration(0.15, 86_400),
    "handover_delay": _duration(0, 3600),
    "delivery": _one_of("at_least_once", "at_most_once"),
    "catch_up": parse_catch_up,
    "catch_up_window": parse_window,
    "batch_size": _whole(1, 5000),
    "node_name": _text(_TOKEN, "without white space"),
    "metrics_port": _whole(1, 65_535),
    "metrics_address": _text(_TOKEN, "without white space, such as '0.0.0.0'"),
    "report_interval": _duration(1, 86_400),
    "shadow": _switch,
    "schedule_codecs": _codecs,
}


def _contradictions(settings: GivenSettings, values: Mapping[str, Any]) -> Iterator[str]:
    def of(name: str) -> tuple[str, timedelta]:
        return settings.find(_OURS + name)[0], values.get(name, defaults[name])

    defaults: dict[str, Any] = {field.name: field.default for field in fields(Config)}
    beat_name, beat = of("heartbeat_interval")
    lease_name, lease = of("lease_ttl")
    delay_name, delay = of("handover_delay")
    if lease < 3 * beat:
        yield (
            f"{lease_name} = {lease.total_seconds():g} s is less than three times {beat_name} = "
            f"{beat.total_seconds():g} s: one slow answer would cost a node its place; "
            f"use at least {3 * beat.total_seconds():g} s, or a shorter {beat_name}"
        )
    if delay >= lease:
        yield (
            f"{delay_name} = {delay.total_seconds():g} s is not shorter than {lease_name} = "
            f"{lease.total_seconds():g} s: the standby would come too late; use a shorter one"
        )


# --- the broker ---------------------------------------------------------------------------------------------


def _broker(app: Celery, settings: GivenSettings, values: dict[str, Any]) -> Iterator[str]:
    """Problems with the broker; takes the dispatch Redis from it where no URL was given."""
    if app.conf.task_always_eager:
        name = settings.find("task_always_eager")[0]
        yield f"{name} = True: beat would run the tasks itself instead of sending them; unset it for beat"
    given = settings.find(_OURS + "redis_url")[1]
    problem = None if given is not None else _take_over(app, settings, values)
    if problem:
        yield problem
    url, options = values.get("redis_url"), values.get("redis_options", {})
    if url and parse_address(url).deployment is Deployment.SENTINEL and not _master_name(url, options):
        where = settings.find(_OURS + "redis_options" if given else "broker_transport_options")[0]
        yield f"{where} lacks 'master_name': the name under which the Sentinels know the master"


def _take_over(app: Celery, settings: GivenSettings, values: dict[str, Any]) -> str | None:
    """Make the broker the dispatch Redis as well; what is wrong where that cannot be."""
    url_name = settings.find(_OURS + "redis_url")[0]
    broker_name = settings.find("broker_url")[0]
    shown = f"{broker_name} = {masked(str(app.conf.broker_write_url))!r}"
    cure = f"set {url_name} to the Redis that the nodes are to share"
    try:
        connection: Any = app.connection_for_write()
    except Exception as error:  # a transport that does not exist, or whose library does not
        return f"{shown}: {error}"
    if not is_redis(connection):
        return f"{url_name} is not set, and the broker is no Redis ({connection.transport_cls}): {cure}"
    if len(connection.alt) > 1 and connection.transport_cls != "sentinel":
        several = f"{broker_name} names {len(connection.alt)} Redis servers, and the nodes must share one"
        return f"{several}: {cure}, one server, Sentinels or a Cluster"
    try:
        url, options = redis_of(connection)
        values["redis_url"] = _redis_url(url)
        values["redis_options"] = MappingProxyType({**options, **values.get("redis_options", {})})
    except InvalidValue as wrong:
        return f"{shown}: {wrong}; or set {url_name}"
    return None


def _master_name(url: str, options: Mapping[str, Any]) -> object:
    return options.get("master_name") or parse_address(url).options.get("master_name")


# --- what may be shown --------------------------------------------------------------------------------------


def _shown(name: str, value: object) -> str:
    if name == "redis_options":
        return f"<{type(value).__name__}>"
    if name == "redis_url":
        return repr(masked(value)) if isinstance(value, str) else f"<{type(value).__name__}>"
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
