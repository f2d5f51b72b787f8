"""Short hashes of what an entry is and of a whole config, equal in every process that runs the same code.

Everything is first brought into a canonical form of JSON: mappings and sets are sorted, tuples are lists,
functions and classes go by module and name, other objects by class and state.  No address, no ``hash()`` and
no order of a dict or set gets in.  An object whose state cannot be told (a lock, a socket, half the program)
goes by its class alone, so a change within it is not seen; ``dispatch_config_version`` is for that.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Set
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.beat import BeatLazyFunc
from celery.schedules import BaseSchedule, crontab, schedule, solar
from kombu.abstract import Object as KombuObject

from celery_dispatch.celery_bridge.kinds.own import OwnSchedule
from celery_dispatch.errors import EntryError

if TYPE_CHECKING:
    from celery_dispatch.config import Config

__all__ = ["definition_of", "facet_of", "fingerprint_of", "routing_settings", "schedule_facet"]

_LENGTH = 16
_DEFINITION = 15  # hex characters; one more would take 16 bytes of memory more, up to Python 3.11
_FACET = 8  # hex characters; tells two values apart, and nothing rests on it
_MOST_VALUES = 1_000_000  # in the arguments of one entry
_MOST_STATE = 2_000  # in an object that JSON has no word for
_ROUTING = (
    "task_routes",
    "task_queues",
    "task_queue_max_priority",
    "task_create_missing_queues",
    "task_create_missing_queue_type",
    "task_create_missing_queue_exchange_type",
    "task_default_queue",
    "task_default_queue_type",
    "task_default_exchange",
    "task_default_exchange_type",
    "task_default_routing_key",
    "task_default_delivery_mode",
    "task_default_priority",
    "task_serializer",
    "task_compression",
    "task_protocol",
    "timezone",
    "enable_utc",
    "beat_cron_starting_deadline",
)
_TRANSPORT = (
    "priority_steps",
    "sep",
    "queue_order_strategy",
    "global_keyprefix",
    "fanout_prefix",
    "fanout_patterns",
)
_NO_STATE = ("_app", "app", "tz", "utc_enabled", "nowfun", "now", "cal", "ephem")


def definition_of(
    *,
    task: str,
    schedule: Any,
    args: Any,
    kwargs: Any,
    options: Any,
    dispatch: Any,
    zone: tzinfo,
) -> str:
    """15 hex characters for all that decides when and what an entry sends.

    ``schedule`` is Celery's schedule object, ``dispatch`` what the entry asks of this package, ``zone`` the
    app's time zone, which matters to everything but plain intervals.  Raises ``EntryError`` for a value
    that contains itself.
    """
    when = _when(schedule, zone)
    return _digest(_text([task, when, args or (), kwargs or {}, options or {}, dispatch]))[:_DEFINITION]


def fingerprint_of(definitions: Mapping[str, str], app: Celery, config: Config) -> str:
    """``dispatch_config_version`` if set, else a hash of all entries and of the settings that route them.

    ``definitions`` maps each name to its definition, those that cannot be scheduled to an empty one.
    """
    if config.config_version is not None:
        return config.config_version
    routing, transport = _routing(app)
    return _digest(
        _text(
            [
                sorted(definitions.items()),
                routing,
                transport,
                [config.catch_up.value, config.catch_up_window],
            ]
        )
    )


def routing_settings(app: Celery, config: Config) -> Mapping[str, object]:
    """The settings that go into a fingerprint, by the names that Celery knows them by."""
    routing, transport = _routing(app)
    return {
        **routing,
        **{f"broker_transport_options[{name!r}]": value for name, value in transport.items()},
        "dispatch_catch_up": config.catch_up.value,
        "dispatch_catch_up_window": config.catch_up_window,
        "dispatch_config_version": config.config_version,
    }


def facet_of(value: object) -> str:
    """8 hex characters for one value, equal in every process; raises ``EntryError`` if it contains itself."""
    return _digest(_text(value))[:_FACET]


def schedule_facet(schedule: Any, zone: tzinfo) -> str:
    """``facet_of`` a schedule of Celery's, as it is due in ``zone``."""
    return facet_of(_when(schedule, zone))


def _routing(app: Celery) -> tuple[dict[str, object], dict[str, object]]:
    """What routes the messages: settings, and options of the broker's transport."""
    conf: Any = app.conf
    given = conf.broker_transport_options or {}
    routing = {name: getattr(conf, name, None) for name in _ROUTING}
    queues = routing["task_queues"]
    if queues is not None and not isinstance(queues, Mapping):
        routing["task_queues"] = sorted(map(_text, queues))
    return routing, {name: given[name] for name in _TRANSPORT if name in given}


def _when(schedule: Any, zone: tzinfo) -> list[object]:
    """A schedule in canonical form, and the zone where it matters."""
    plain = type(schedule) is _INTERVAL and not schedule.relative
    return [_schedule(schedule, _Budget(_MOST_STATE)), None if plain else _zone(zone)]


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=_LENGTH // 2).hexdigest()


def _text(value: object) -> str:
    """``value`` as canonical JSON text."""
    try:
        return _fast(value)
    except (TypeError, ValueError, RecursionError):  # keys that are no text, or a cycle
        pass
    try:
        return _fast(_canonical(value, _Budget(_MOST_VALUES)))
    except (_Exhausted, RecursionError):
        raise EntryError("the arguments or options contain themselves, or are too deep to be sent") from None


# --- the canonical form -------------------------------------------------------------------------------------


class _Exhausted(Exception):
    """A value is larger than its budget, most likely because it contains itself."""


class _Budget:
    """How many more values may be looked at."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


def _canonical(value: object, budget: _Budget) -> object:
    """``value`` made of lists, text-keyed dicts and JSON's scalars only."""
    budget.left -= 1
    if budget.left < 0:
        raise _Exhausted
    if isinstance(value, Enum):
        return _special(value, budget)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return _mapping(value, budget)
    if isinstance(value, (list, tuple)):
        return [_canonical(item, budget) for item in value]
    return _special(value, budget)


def _mapping(value: Mapping[Any, Any], budget: _Budget) -> object:
    if all(isinstance(key, str) for key in value):
        return {key: _canonical(item, budget) for key, item in value.items()}
    pairs = [(_fast(_canonical(key, budget)), _canonical(item, budget)) for key, item in value.items()]
    return ["mapping", sorted(pairs, key=lambda pair: pair[0])]


def _special(value: Any, budget: _Budget | None = None) -> object:
    """What JSON has no word for, as a list that begins with its kind."""
    budget = budget or _Budget(_MOST_STATE)
    if isinstance(value, Enum):
        return ["enum", _name(type(value)), value.name]
    if isinstance(value, timedelta):
        return ["timedelta", value // timedelta(microseconds=1)]
    if isinstance(value, (datetime, date, time)):
        return [type(value).__name__, value.isoformat()]
    if isinstance(value, tzinfo):
        return ["zone", _zone(value)]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, Set):
        return ["set", sorted(_fast(_canonical(item, budget)) for item in value)]
    if isinstance(value, (list, tuple, Mapping)):
        return _canonical(value, budget)
    return _called(value, budget) or _object(value, budget)


def _called(value: Any, budget: _Budget) -> list[object] | None:
    """Functions, classes and what binds arguments to them."""
    if isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        return ["named", _name(value)]
    if isinstance(value, MethodType):
        return ["method", _canonical(value.__self__, budget), _name(value.__func__)]
    if isinstance(value, functools.partial):
        return ["partial", _canonical([value.func, value.args, value.keywords], budget)]
    if isinstance(value, BeatLazyFunc):
        lazy: Any = value
        return ["lazy", _canonical([lazy._func, lazy._func_params], budget)]
    return None


def _object(value: Any, budget: _Budget) -> list[object]:
    name = _name(type(value))
    if isinstance(value, Celery):
        return ["app", str(value.main)]
    if isinstance(value, BaseSchedule):
        return _schedule(value, budget)
    if isinstance(value, KombuObject):
        entity: Any = value
        return ["entity", name, {key: _canonical(getattr(entity, key), budget) for key, _ in entity.attrs}]
    try:
        reducer = copyreg.dispatch_table.get(type(value))
        reduced: Any = reducer(value) if reducer else value.__reduce_ex__(2)
        if isinstance(reduced, str):
            return ["object", name, reduced]
        made, *state = reduced
        state = [list(part) if hasattr(part, "__next__") else part for part in state[:4]]
        return ["object", name, _canonical([made, *state], budget)]
    except Exception:  # it cannot be taken apart (locks, sockets, generators), or has too many parts
        return ["object", name]


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}:{getattr(value, '__qualname__', type(value).__qualname__)}"


# --- schedules and zones ------------------------------------------------------------------------------------

_INTERVAL = schedule


def _schedule(s: Any, budget: _Budget) -> list[object]:
    """When a schedule is due, by the fields that decide it and not by how they were written."""
    kind = type(s)
    nowfun = getattr(s, "nowfun", None)
    own = _canonical(nowfun, budget) if nowfun is not None else None
    if kind is schedule:
        return ["every", _canonical(s.run_every, budget), bool(s.relative), own]
    if isinstance(s, OwnSchedule) and kind.is_due is OwnSchedule.is_due:
        return [s.kind, _canonical(s.document(), budget)]
    if kind is crontab:
        fields = (s.minute, s.hour, s.day_of_week, s.day_of_month, s.month_of_year)
        return ["crontab", [sorted(numbers) for numbers in fields], own]
    if kind is solar:
        return ["solar", s.event, float(s.lat), float(s.lon), own]
    if isinstance(s, BaseSchedule):
        state = {name: value for name, value in vars(s).items() if name not in _NO_STATE}
        return ["schedule", _name(kind), _canonical(state, budget), own]
    return _object(s, budget)


def _zone(zone: tzinfo) -> object:
    """The name of a zone, or its offsets where it has none (``/etc/localtime`` as a plain file)."""
    key = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if key:
        return str(key)
    instants: Iterable[datetime] = (
        datetime(year, month, 1, tzinfo=timezone.utc) for year in (2000, 2024) for month in range(1, 13)
    )
    return [str(instant.astimezone(zone).utcoffset()) for instant in instants]


_fast = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_special).encode
