"""Files and folders take their place whole, and what a killed process left goes with the next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from octrobust.files import PARTIAL, atomic_folder, atomic_path, write_text


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_folder_is_replaced_as_a_whole_or_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with atomic_folder(out) as folder:
        (folder / "old").write_text("1")
    with pytest.raises(ZeroDivisionError), atomic_folder(out) as folder:
        (folder / "new").write_text(str(1 / 0))
    assert [path.name for path in out.iterdir()] == ["old"]
    with atomic_folder(out) as folder:
        (folder / "new").write_text("2")
    assert [path.name for path in out.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("1")

    def full(*_: object) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"), atomic_folder(out):
        monkeypatch.setattr(Path, "replace", full)
    assert [path.name for path in out.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [out]


def test_what_a_kill_left_goes_and_what_is_being_written_stays(tmp_path: Path, dead: int) -> None:
    left = [tmp_path / f"{PARTIAL}out.{dead}.x", tmp_path / f"{PARTIAL}out.{dead}.y.former"]
    others = [tmp_path / f"{PARTIAL}out.{os.getpid()}.z", tmp_path / f"{PARTIAL}out2.{dead}.x"]
    for path in (*left, *others):
        path.mkdir()
        (path / "part").write_text("")
    with atomic_folder(tmp_path / "out"):
        pass
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "out"])


def test_so_with_files(tmp_path: Path, dead: int) -> None:
    (tmp_path / f"{PARTIAL}a.json.{dead}.x.json").write_text("{")
    write_text(tmp_path / "a.json", "{}")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a.json") as temporary:
        temporary.write_text(str(1 / 0))
    assert (tmp_path / "a.json").read_text() == "{}"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]
