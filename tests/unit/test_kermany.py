"""Kermany 2018: folders, archives and the download, and what is none of its scans."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from octrobust.data.index import IndexRow, read_index
from octrobust.data.ingest import ingest
from octrobust.errors import UserError
from tests.conftest import Refused, data_section
from tests.conftest import picture as scan

# One tree of the set: official folders that share patient 5, and a name with two images.
TREE = {
    "train/CNV/CNV-5-1.jpeg": scan(1),
    "train/CNV/CNV-5-2.jpeg": scan(2),
    "train/NORMAL/NORMAL-8-1.jpeg": scan(3),
    "train/DME/DME-9-1.jpeg": scan(4),
    "train/DRUSEN/DRUSEN-9-2.jpeg": b"not even an image",
    "test/CNV/CNV-5-1.jpeg": scan(5),
    "test/NORMAL/NORMAL-8-2.jpeg": scan(6),
    "val/NORMAL/NORMAL-11-1.jpeg": scan(7),
}
LITTER = {
    ".DS_Store": b"macOS",
    "OCT2017 /train/CNV/.DS_Store": b"macOS",
    "OCT2017 /train/CNV/._CNV-5-1.jpeg": b"macOS",
    "__MACOSX/OCT2017 /train/CNV/._CNV-5-2.jpeg": b"macOS",
    "__MACOSX/OCT2017 /train/NORMAL/NORMAL-8-1.jpeg": b"macOS",
}
KAGGLE = {
    **{f"OCT2017 /{name}": content for name, content in TREE.items()},
    **{f"oct2017/OCT2017 /{name}": content for name, content in TREE.items()},
    **LITTER,
}
MENDELEY = {**{f"OCT2017/{name}": content for name, content in TREE.items()}, **LITTER}
CHEST = {
    "CellData/chest_xray/train/NORMAL/NORMAL-1049278-0001.jpeg": scan(8),
    **{f"CellData/OCT/{name}": content for name, content in TREE.items()},
}
# "test" comes before "train", so it keeps the name.
EXPECTED = {
    "CNV/CNV-5-1.jpeg": scan(5),
    "CNV/CNV-5-1000001.jpeg": scan(1),
    "CNV/CNV-5-2.jpeg": scan(2),
    "NORMAL/NORMAL-11-1.jpeg": scan(7),
    "NORMAL/NORMAL-8-1.jpeg": scan(3),
    "NORMAL/NORMAL-8-2.jpeg": scan(6),
}


def make_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.mkdir("OCT2017 ")
        for name, content in files.items():
            out.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as out:
        folder = tarfile.TarInfo("./OCT2017/train")
        folder.type = tarfile.DIRTYPE
        out.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return path


class Stage:
    def __init__(self, folder: Path) -> None:
        self.out = folder / "data" / "raw"
        self.metrics = folder / "ingest.json"

    def run(self, **source: object) -> list[IndexRow]:
        data = data_section(**{"source": "kermany", **source})
        ingest(data, self.out, self.out.parent / "quarantine.csv", self.metrics)
        return read_index(self.out / "index.csv")

    def fails(self, **source: object) -> str:
        """The error's text; `out` must be as before, and no unfinished work left."""
        before = self.written()
        with pytest.raises(UserError) as error:
            self.run(**source)
        assert self.written() == before
        assert not list(self.out.parent.glob(".*"))
        return str(error.value)

    def written(self) -> dict[str, bytes]:
        files = (path for path in self.out.rglob("*") if path.is_file())
        return {path.relative_to(self.out).as_posix(): path.read_bytes() for path in files}

    def check(self, rows: list[IndexRow], duplicates: int) -> None:
        assert [row.path for row in rows] == list(EXPECTED)
        for path, content in EXPECTED.items():
            assert (self.out / path).read_bytes() == content
        assert {row.path: row.patient for row in rows}["CNV/CNV-5-1000001.jpeg"] == "5"
        numbers = json.loads(self.metrics.read_text())
        assert numbers["duplicates"] == duplicates
        assert numbers["classes"] == {
            "CNV": {"images": 3, "patients": 1},
            "NORMAL": {"images": 3, "patients": 2},
        }
        assert {path.name for path in self.out.iterdir()} == {"CNV", "NORMAL", "index.csv"}
        assert not list(self.out.parent.glob(".*"))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_kaggle_unpacked(tmp_path: Path, stage: Stage) -> None:
    root = make_folder(tmp_path / "kaggle", KAGGLE)
    before = sorted(root.rglob("*"))
    stage.check(stage.run(root=str(root)), duplicates=6)
    assert sorted(root.rglob("*")) == before
    stage.check(stage.run(root=str(root / "OCT2017 ")), duplicates=0)


def test_kaggle_zip(tmp_path: Path, stage: Stage) -> None:
    stage.check(stage.run(archive=str(make_zip(tmp_path / "a.zip", KAGGLE))), duplicates=6)


def test_mendeley_tar(tmp_path: Path, stage: Stage) -> None:
    archive = make_tar(tmp_path / "OCT2017.tar.gz", MENDELEY)
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest().upper()
    stage.check(stage.run(archive=str(archive), sha256=sha256), duplicates=0)


def test_chest_x_rays_are_no_normal_retinas(tmp_path: Path, stage: Stage) -> None:
    stage.check(stage.run(archive=str(make_zip(tmp_path / "a.zip", CHEST))), duplicates=0)
    stage.check(stage.run(root=str(make_folder(tmp_path / "root", CHEST))), duplicates=0)


def test_another_pair_of_classes(tmp_path: Path, stage: Stage) -> None:
    root = str(make_folder(tmp_path / "root", MENDELEY))
    rows = stage.run(root=root, classes=["NORMAL", "DME"])
    assert {row.label for row in rows} == {"NORMAL", "DME"}


def test_another_archive_than_the_one_meant(tmp_path: Path, stage: Stage) -> None:
    archive = make_tar(tmp_path / "a.tgz", MENDELEY)
    message = stage.fails(archive=str(archive), sha256="0" * 64)
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in message
    assert "is not a file" in stage.fails(archive=str(tmp_path / "none.zip"))


def test_a_class_without_images(tmp_path: Path, stage: Stage) -> None:
    files = {name: content for name, content in MENDELEY.items() if "CNV" not in name}
    root = make_folder(tmp_path / "root", files)
    assert f"no images of class CNV in {root}" in stage.fails(root=str(root))
    archive = make_tar(tmp_path / "a.tgz", files)
    assert f"{archive} has no folder CNV" in stage.fails(archive=str(archive))


@pytest.mark.parametrize("name", ["DME-5-1.jpeg", "CNV-5-1 (1).jpeg", "CNV-5-1.png"])
def test_a_foreign_name_in_a_class_is_an_error(tmp_path: Path, stage: Stage, name: str) -> None:
    root = make_folder(tmp_path / "root", {**TREE, f"train/CNV/{name}": scan(9)})
    assert f"'train/CNV/{name}'" in stage.fails(root=str(root))


def test_an_archive_is_refused_whole(tmp_path: Path, stage: Stage) -> None:
    archive = make_zip(tmp_path / "a.zip", {**KAGGLE, "../../evil.sh": b"evil"})
    assert "'../../evil.sh'" in stage.fails(archive=str(archive))


@pytest.mark.parametrize("how", ["cut", "flipped", "outside", "absolute", "no archive"])
def test_a_bad_archive_is_one_line_and_earlier_images_stay(
    how: str, tmp_path: Path, stage: Stage, refused: Refused
) -> None:
    stage.run(archive=str(make_zip(tmp_path / "good.zip", KAGGLE)))
    before = stage.written()
    names = {"outside": "OCT2017 /../../x.jpeg", "absolute": "/tmp/x.jpeg"}
    more = {names[how]: scan(9)} if how in names else {}
    bad = make_zip(tmp_path / "bad.zip", {**KAGGLE, **more})
    content = bytearray(bad.read_bytes())
    if how == "flipped":
        inside = zipfile.ZipFile(bad).getinfo("OCT2017 /train/CNV/CNV-5-1.jpeg")
        content[inside.header_offset + 100] ^= 1  # the header and the name are shorter
    if how in ("cut", "no archive"):
        content = content[: len(content) // 2] if how == "cut" else bytearray(b"not found")
    bad.write_bytes(content)
    assert names.get(how, str(bad)) in refused(lambda: stage.run(archive=str(bad)))
    assert stage.written() == before
    assert not list(stage.out.parent.glob(".*"))


def kagglehub(monkeypatch: pytest.MonkeyPatch, answer: Path | Exception) -> list[str]:
    """Stand in for the package; returns the data sets it is asked for."""
    asked: list[str] = []

    def dataset_download(handle: str) -> str:
        asked.append(handle)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    module = ModuleType("kagglehub")
    module.dataset_download = dataset_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    return asked


def test_fetched(tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_folder(tmp_path / ".cache" / "versions" / "2", KAGGLE)
    asked = kagglehub(monkeypatch, cache)
    stage.check(stage.run(), duplicates=6)
    assert asked == ["paultimothymooney/kermany2018"]


def test_no_network(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    kagglehub(monkeypatch, ConnectionError("name resolution failed"))
    message = stage.fails()
    assert "name resolution failed" in message
    assert "data.archive" in message


def test_no_kagglehub(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    message = stage.fails()
    assert ".[kaggle]" in message
    assert "data.root" in message
