"""Programs and libraries that tests need beside Python packages; what it means that one is missing."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

__all__ = ["is_ci", "missing", "program"]


def is_ci() -> bool:
    """Whether CI runs the tests: nothing may be missing there."""
    return os.environ.get("CI") == "true"


def program(name: str, *, package: str) -> str:
    """The path of a program; without it the test is skipped, or fails where CI runs it.

    ``package`` is the Debian package that has it.
    """
    return shutil.which(name) or missing(name, package=package)


def missing(name: str, *, package: str) -> NoReturn:
    """Skip the test for want of ``name``, or fail it where CI runs it."""
    if is_ci():
        pytest.fail(f"{name} is not installed, and CI skips nothing: apt-get install {package}")
    pytest.skip(f"{name} is not installed")
