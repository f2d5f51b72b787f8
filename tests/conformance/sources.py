"""Celery's own tests, from the source distribution of the Celery that is installed here.

pip fetches it, from whatever index it is configured with.  Nothing but the folder ``t`` and pytest's settings
is unpacked: the Celery under test is the installed one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

__all__ = ["SourcesMissing", "unpack_tests"]

_TIMEOUT = 300.0  # seconds; pip builds the metadata of what it downloads


class SourcesMissing(Exception):
    """There is no source distribution to be had; the message is what pip says."""


def unpack_tests(version: str, into: Path, *, cache: Path) -> None:
    """Put the tests of that Celery into the folder ``into``; its archive is kept in ``cache``.

    Raises ``SourcesMissing``.  An archive in the cache that cannot be read is fetched again.
    """
    archive = cache / f"celery-{version}.tar.gz"
    if archive.exists():
        try:
            return _unpack(archive, into)
        except (tarfile.TarError, EOFError, OSError):
            archive.unlink()
    _download(version, archive)
    return _unpack(archive, into)


def _download(version: str, archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as directory:
        options = ("--no-deps", "--no-binary", "celery", "--dest", directory, "--quiet")
        command = (sys.executable, "-m", "pip", "download", *options, f"celery=={version}")
        try:
            pip = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            raise SourcesMissing(f"pip download celery=={version} took over {_TIMEOUT:g} s") from None
        found = list(Path(directory).glob("*.tar.gz"))
        if pip.returncode or not found:
            said = pip.stderr.strip()[-1000:] or "nothing came"
            raise SourcesMissing(f"pip download celery=={version}: {said}")
        shutil.move(found[0], archive)


def _unpack(archive: Path, into: Path) -> None:
    """The files of the tests, without the folder that all of a source distribution is in."""
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            _, _, member.name = member.name.partition("/")
            if member.isfile() and (member.name.startswith("t/") or member.name == "pyproject.toml"):
                tar.extract(member, into, filter="data")
