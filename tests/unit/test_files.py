"""Files and folders take their place whole, and what a killed process left goes with the next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from octrobust.files import atomic_folder, atomic_path, write_text


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


KILLED = """
import os, signal, sys
from pathlib import Path
from octrobust.files import atomic_folder, atomic_path
with atomic_folder(Path("out")) as folder, atomic_path(Path("a.json")) as file:
    (folder / "part").write_text("")
    file.write_text("{")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_kill_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False)
    assert done.returncode == -9
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_folder(tmp_path / "out2"), atomic_path(tmp_path / "a.json2"):
        assert len(list(tmp_path.iterdir())) == 4  # of other names
    with atomic_folder(tmp_path / "out") as first, atomic_folder(tmp_path / "out"):
        assert first.exists()
    write_text(tmp_path / "a.json", "{}")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out2", "a.json", "a.json2"}


def test_a_file_takes_its_place_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "{}")
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a.json") as temporary:
        temporary.write_text(str(1 / 0))
    assert (tmp_path / "a.json").read_text() == "{}"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]


def test_a_link_to_a_folder_stays_one_and_a_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "new").write_text("")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "new").exists()
    (tmp_path / "mine").write_text("")
    with pytest.raises(NotADirectoryError), atomic_folder(tmp_path / "mine"):
        raise AssertionError("the work was begun")
