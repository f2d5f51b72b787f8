"""Every command that the documentation, an example file or a cure names exists, with its options."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from celery.bin.celery import celery

from celery_dispatch.manage.cli import dispatch

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "example_project" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
YAML_FILES = sorted(path for place in ("docs", "example_project") for path in (ROOT / place).rglob("*.y*ml"))
_NAMED = re.compile(r"celery -A (?:proj|<app>) dispatch((?: [\w<>…-]+)+)")
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`(celery [^`\n]+)`(?!`)")
_SHELL = {"sh", "bash", "console", "text"}
_END = re.compile(r"[|&;<>]|\d?>")  # a word of the shell after which the command is over


def _texts() -> Iterator[Path]:
    yield from PAGES
    yield from (ROOT / "celery_dispatch").rglob("*.py")


def _commands() -> list[tuple[str, str]]:
    """Each command as written, with the file that names it."""
    found = {
        (match[1].strip(), str(path.relative_to(ROOT)))
        for path in _texts()
        for match in _NAMED.finditer(re.sub(r'"\s*\n\s*f?"', "", path.read_text()))  # text over several lines
    }
    return sorted(found)


@pytest.mark.parametrize(("written", "where"), _commands(), ids=lambda value: value.replace(" ", "_"))
def test_documented_command_exists(written: str, where: str) -> None:
    command: click.Command = dispatch
    words = written.split()
    while isinstance(command, click.Group):
        assert words and words[0] in command.commands, f"{where}: no command {written!r}"
        command = command.commands[words.pop(0)]
    options = {name for param in command.params for name in param.opts}
    assert {word for word in words if word.startswith("-")} <= options, f"{where}: {written!r}"


def test_documentation_of_the_command_line_names_every_command() -> None:
    reference = (ROOT / "docs" / "reference" / "cli.md").read_text()
    for name, command in dispatch.commands.items():
        names = (
            [f"{name} {each}" for each in command.commands] if isinstance(command, click.Group) else [name]
        )
        for each in names:
            assert f"celery -A proj dispatch {each}" in reference


# --- what is to be copied -----------------------------------------------------------------------------------


def _blocks(languages: set[str]) -> list[tuple[str, str]]:
    """``page:line`` and the text of each block of the documentation in one of these languages."""
    return [
        (f"{page.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}", textwrap.dedent(match[3]))
        for page in PAGES
        for text in [page.read_text()]
        for match in _BLOCK.finditer(text)
        if match[2] in languages
    ]


def _yaml() -> list[tuple[str, str]]:
    """``where`` and the text of every block and every file in YAML."""
    files = [(str(path.relative_to(ROOT)), path.read_text()) for path in YAML_FILES]
    return [*_blocks({"yaml", "yml"}), *files]


class _Strict(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML's reader keeps the last one only."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"twice in one mapping: {keys}"
        return super().construct_mapping(node, deep)


def _documents(text: str) -> list[Any]:
    return list(yaml.load_all(text, _Strict))


def _leaves(value: Any) -> Iterator[list[str]]:
    """What may be a command line in a document: lists of words, and text."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list) and not any(isinstance(each, (dict, list)) for each in value):
        yield [str(word) for word in value]
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif isinstance(value, str) and value.startswith("celery "):
        yield shlex.split(value)


def _lines() -> Iterator[tuple[str, list[str]]]:
    """The words of every line that may call Celery, in pages, YAML and the Procfile."""
    for where, text in _yaml():
        for document in _documents(text):
            yield from ((where, words) for words in _leaves(document))
    for where, text in _blocks(_SHELL):
        for line in text.replace("\\\n", " ").splitlines():
            if "celery " in line:
                yield where, shlex.split(line, comments=True)
    for page in PAGES:
        for match in _SPAN.finditer(page.read_text()):
            yield str(page.relative_to(ROOT)), shlex.split(match[1])
    for line in (ROOT / "example_project" / "Procfile").read_text().splitlines():
        yield "Procfile", shlex.split(line)


def _called() -> list[tuple[str, str]]:
    """Each call of Celery with the place that names it, without what the shell does with its output."""
    found: set[tuple[str, str]] = set()
    for where, line in _lines():
        if "celery" in line:
            words = line[line.index("celery") + 1 :]
            end = next((i for i, word in enumerate(words) if _END.match(word)), len(words))
            found.add((where, shlex.join(word for word in words[:end] if word != "…")))
    return sorted(found)


def _parse(words: list[str]) -> None:
    """Go through ``celery WORDS`` as click does, down to the last command; runs nothing."""
    command: click.Command = celery
    while True:
        context = click.Context(command, info_name=command.name)
        _, rest, _ = command.make_parser(context).parse_args(words)
        if not isinstance(command, click.Group) or not rest:
            return
        found = command.get_command(context, rest[0])
        assert found is not None, f"no command {rest[0]!r} in {command.name!r}"
        command, words = found, rest[1:]


@pytest.mark.parametrize(("where", "text"), _yaml(), ids=lambda value: value if len(value) < 60 else "")
def test_yaml_can_be_read(where: str, text: str) -> None:
    documents = _documents(text)
    assert documents and all(isinstance(document, (dict, list)) for document in documents)


@pytest.mark.parametrize(("where", "written"), _called())
def test_command_that_is_to_be_copied_is_understood(where: str, written: str) -> None:
    _parse(shlex.split(written))


def test_places_that_start_processes_are_all_looked_at() -> None:
    """Guards the tests above against finding nothing."""
    assert {where.partition(":")[0] for where, _ in _called()} >= {
        "README.md",
        "Procfile",
        "docs/how-to/kubernetes.md",
        "docs/how-to/what-to-do-when.md",
        "docs/tutorial.md",
        "example_project/README.md",
        "example_project/compose.yaml",
        "example_project/kubernetes/beat.yaml",
        "example_project/kubernetes/workers.yaml",
    }
    assert ("docs/how-to/kubernetes.md", "-A proj dispatch health --live") in {
        (where.partition(":")[0], written) for where, written in _called()
    }


def test_what_does_not_exist_is_not_understood() -> None:
    _parse(["-A", "proj", "dispatch", "health", "--live"])
    for written in ("-A proj dispatch health --alive", "-A proj worker --queue x", "-A proj beat --lease 3"):
        with pytest.raises(click.UsageError):
            _parse(written.split())
    with pytest.raises(AssertionError, match="no command 'healthz'"):
        _parse(["-A", "proj", "dispatch", "healthz"])
