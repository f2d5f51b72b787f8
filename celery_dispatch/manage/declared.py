"""The files of ``apply`` and ``export``: entries by name, in YAML or JSON.

::

    entries:
      nightly-report:
        task: proj.report
        schedule: {kind: crontab, hour: 2, minute: 30}
        dispatch: {description: For the board}

A definition has the form of an item of ``beat_schedule``, its schedule as a document or a number of seconds.
YAML is read by the safe loader, which makes nothing but text, numbers, lists, objects, dates and times.
A key that is there twice is refused, for one of the two would be lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable, Mapping
from datetime import date, datetime
from typing import Any

import yaml

from celery_dispatch.manage.controls import ControlError
from celery_dispatch.schedules.written import FIELDS

__all__ = ["Definitions", "as_json", "as_yaml", "read_definitions", "read_together"]

Definitions = Mapping[str, Mapping[str, Any]]

_TOP = "entries"
_DEEPEST = 100  # lists and objects in one another
_CURE = f"Begin with '{_TOP}:' and give each entry as  name: {{task: …, schedule: …}}  below it."


_ODD_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")  # PyYAML writes them so that it reads something else


class _Loader(yaml.SafeLoader):
    """The safe loader, for which a key must not be there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", node.value[place][0].start_mark
                )
        return super().construct_mapping(node, deep=deep)


def read_definitions(text: str, *, source: str) -> dict[str, dict[str, Any]]:
    """The definitions in ``text``, as written; ``ControlError`` naming ``source`` if it is no such file."""
    try:
        return _read(text, source)
    except RecursionError:
        raise ControlError(
            f"{source} has lists or objects nested too deeply, or an alias that contains itself.",
            "Write flatter values there.",
        ) from None


def _is_flat(value: Any) -> bool:
    """Whether every Python can read how deep lists and objects are nested; an alias counts once a layer."""
    layer = {id(value): value}
    for _ in range(_DEEPEST):
        inner = (it for outer in layer.values() for it in _parts(outer))
        layer = {id(it): it for it in inner if isinstance(it, (Mapping, list))}
    return not layer


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def _read(text: str, source: str) -> dict[str, dict[str, Any]]:
    try:
        document = _parsed(text)
    except (yaml.YAMLError, ValueError, TypeError) as error:  # a date that is none, a key that is a list
        raise ControlError(
            f"{source} is neither YAML nor JSON: {' '.join(str(error).split())}.", "Correct it there."
        ) from None
    if not _is_flat(document):
        raise RecursionError
    if not isinstance(document, Mapping) or set(document) != {_TOP}:
        raise ControlError(f"{source} has not exactly the key {_TOP!r} at its top.", _CURE)
    entries = document[_TOP] or {}
    if not isinstance(entries, Mapping):
        raise ControlError(f"{source}: {_TOP} is a {type(entries).__name__}.", _CURE)
    return {_name(name, source): _definition(name, item, source) for name, item in entries.items()}


def read_together(texts: Iterable[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """The definitions of several files, each given with its name; a name must stand in one of them only."""
    found: dict[str, dict[str, Any]] = {}
    where: dict[str, str] = {}
    for source, text in texts:
        for name, definition in read_definitions(text, source=source).items():
            if name in found:
                raise ControlError(
                    f"{name!r} stands in {where[name]} and in {source}.", "Leave it in one of them."
                )
            found[name], where[name] = definition, source
    return found


def _parsed(text: str) -> Any:
    """As JSON, which YAML is not in every detail, or else as YAML."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  # a safe loader


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _name(name: Any, source: str) -> str:
    if not isinstance(name, str):
        raise ControlError(f"{source}: the name {name!r} is no text.", f"Put it in quotes: {str(name)!r}.")
    return name


def _definition(name: str, item: Any, source: str) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise ControlError(f"{source}: entry {name!r} is {item!r:.80}.", _CURE)
    return {str(key): _plain(value, name, source) for key, value in item.items()}


def _plain(value: Any, name: str, source: str) -> Any:
    """JSON's own types; dates and times, which YAML knows and JSON does not, as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, name, source) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, name, source) for item in value]
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise ControlError(
        f"{source}: entry {name!r} holds a {type(value).__name__}, which JSON cannot carry.",
        "Write it as text.",
    )


def as_yaml(definitions: Definitions) -> str:
    """A file that ``read_definitions`` reads back; names in order, so that two exports can be compared."""
    document = _document(definitions)
    readable = not _ODD_BREAKS.search(json.dumps(document, ensure_ascii=False))
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=readable, width=110)
    return text


def as_json(definitions: Definitions) -> str:
    return json.dumps(_document(definitions), indent=2, ensure_ascii=False) + "\n"


def _document(definitions: Definitions) -> dict[str, Any]:
    return {_TOP: {name: _ordered(definitions[name]) for name in sorted(definitions)}}


def _ordered(definition: Mapping[str, Any]) -> dict[str, Any]:
    """In the order in which people write it."""
    first = [key for key in FIELDS if key in definition]
    return {key: definition[key] for key in (*first, *(definition.keys() - set(first)))}
