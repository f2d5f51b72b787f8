"""What comes out of a source distribution, and what does not."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.conformance import sources
from tests.conformance.sources import SourcesMissing, unpack_tests

GOOD = {
    "celery-1.0/t/unit/test_beat.py": b"tests",
    "celery-1.0/pyproject.toml": b"settings",
    "celery-1.0/celery/beat.py": b"not the installed one",
    "celery-1.0/setup.py": b"code",
}


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions that were fetched, from an index that has a good archive of each."""
    fetched: list[str] = []
    good = archive(tmp_path / "good.tar.gz", GOOD)

    def download(version: str, into: Path) -> None:
        fetched.append(version)
        shutil.copy(good, into)

    monkeypatch.setattr(sources, "_download", download)
    return fetched


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_only_tests_and_their_settings_are_unpacked(tmp_path: Path, cache: Path, index: list[str]) -> None:
    unpack_tests("1.0", tmp_path / "into", cache=cache)
    assert files_in(tmp_path / "into") == {"t/unit/test_beat.py", "pyproject.toml"}


def test_an_archive_is_fetched_once(tmp_path: Path, cache: Path, index: list[str]) -> None:
    for into in ("first", "second"):
        unpack_tests("1.0", tmp_path / into, cache=cache)
    assert index == ["1.0"]
    assert files_in(tmp_path / "first") == files_in(tmp_path / "second")


@pytest.mark.parametrize("content", [b"", b"no archive", None], ids=["empty", "text", "cut off"])
def test_a_damaged_archive_in_the_cache_is_fetched_again(
    tmp_path: Path, cache: Path, index: list[str], content: bytes | None
) -> None:
    damaged = cache / "celery-1.0.tar.gz"
    damaged.write_bytes((tmp_path / "good.tar.gz").read_bytes()[:-40] if content is None else content)
    unpack_tests("1.0", tmp_path / "into", cache=cache)
    assert index == ["1.0"]
    assert files_in(tmp_path / "into") == {"t/unit/test_beat.py", "pyproject.toml"}


def test_nothing_is_written_outside_the_folder(tmp_path: Path, cache: Path, index: list[str]) -> None:
    archive(cache / "celery-1.0.tar.gz", {"celery-1.0/t/../../outside.py": b"evil"})
    unpack_tests("1.0", tmp_path / "into", cache=cache)
    assert not (tmp_path / "outside.py").exists()
    assert index == ["1.0"], "such an archive is not used"


def test_what_no_index_has_is_said_in_pips_words(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # no network, no waiting
    with pytest.raises(SourcesMissing, match=r"celery==0\.0\.0\.dev1"):
        unpack_tests("0.0.0.dev1", tmp_path / "into", cache=cache)
    assert files_in(cache) == set()
