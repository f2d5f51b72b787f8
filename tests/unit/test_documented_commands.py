"""Every ``celery dispatch`` command that the documentation or a cure names exists, with its options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from celery_dispatch.manage.cli import dispatch

ROOT = Path(__file__).parents[2]
_NAMED = re.compile(r"celery -A (?:proj|<app>) dispatch((?: [\w<>…-]+)+)")


def _texts() -> Iterator[Path]:
    yield ROOT / "README.md"
    yield from (ROOT / "docs").rglob("*.md")
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
