"""Bad tables, arrays, weights and models on disk: one line each, and nothing is written or run."""

from __future__ import annotations

import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from octrobust import config
from octrobust.data.arrays import open_split, prepare
from octrobust.data.index import COLUMNS, IndexRow, read_index, write_index
from octrobust.data.split import split
from octrobust.files import sha256_file, write_json
from octrobust.model.store import load_model
from octrobust.model.weights import load_weights
from tests.conftest import Refused, data_section, picture

DATA = data_section()
SETTINGS = config.Split(by="patient", seed=1, train=2, validation=1, test=1, extra=0)
SHA = "ab" * 32


def good_rows(patients: int = 4) -> list[IndexRow]:
    """One image a patient and class."""
    return [
        IndexRow(f"{label}/{label}-{n}{c}-1.jpeg", label, f"{n}{c}", "1", SHA, 12, 9, "L")
        for c, label in enumerate(DATA.classes)
        for n in range(patients)
    ]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


HEADER = ",".join(COLUMNS)
LINE = f"CNV/a.png,CNV,1,1,{SHA},9,9,L,\n"
INDEXES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is another table"),
    "blank lines": (b"\n\n", "is another table"),
    "columns alone": (f"{HEADER}\n".encode(), "too few images"),
    "no columns": (LINE.encode(), "is another table"),
    "other columns": (b"path,label\nCNV/a.png,CNV\n", "is another table"),
    "columns in another order": (
        f"{','.join(reversed(COLUMNS))}\n{LINE}".encode(),
        "is another table",
    ),
    "saved by Excel": (f"{HEADER}\n{LINE}".replace(",", ";").encode(), "is another table"),
    "a byte order mark": (f"\ufeff{HEADER}\n{LINE}".encode(), "is another table"),
    "UTF-16": (f"{HEADER}\n{LINE}".encode("utf-16"), "is not a table"),
    "bytes": (b"\xff\xfe\x00p", "is not a table"),
    "a cell too few": (f"{HEADER}\nCNV/a.png,CNV,1,1,{SHA},9,9,L\n".encode(), "row 1"),
    "a cell too many": (f"{HEADER}\n{LINE}{LINE.strip()},more\n".encode(), "row 2"),
    "an open quote": (f'{HEADER}\n"{LINE}'.encode(), "is not a table"),
    "a field of a megabyte": (f"{HEADER}\n{'x' * (1 << 20)},{LINE}".encode(), "is not a table"),
    "words for numbers": (f"{HEADER}\n{LINE}".replace(",9,9,", ",wide,9,").encode(), "wide"),
    "no numbers": (f"{HEADER}\n{LINE}".replace(",9,9,", ",,,").encode(), "is not an index"),
    "a path that climbs": (f"{HEADER}\n../../{LINE}".encode(), "outside data/raw"),
    "an absolute path": (f"{HEADER}\n/etc/{LINE}".encode(), "outside data/raw"),
    "a NUL in a path": (f"{HEADER}\nCNV\0{LINE}".encode(), "is not"),
    "classes in lower case": (f"{HEADER}\n{LINE}".replace("CNV", "cnv").encode(), "too few images"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good index and split, as `tmp_path` has them from an earlier run."""
    write_index(tmp_path / "index.csv", good_rows())
    run_split(tmp_path)
    return tmp_path


def run_split(folder: Path, settings: config.Split = SETTINGS) -> None:
    index, out, metrics = (folder / name for name in ("index.csv", "splits", "split.json"))
    split(index, settings, DATA.classes, out, metrics)


@pytest.mark.parametrize("name", INDEXES)
def test_a_bad_index(name: str, folder: Path, refused: Refused) -> None:
    content, expected = INDEXES[name]
    (folder / "index.csv").write_bytes(content)
    before = contents(folder)
    assert expected in refused(lambda: run_split(folder))
    assert contents(folder) == before


def test_an_index_that_is_not_there_or_is_a_folder(folder: Path, refused: Refused) -> None:
    (folder / "index.csv").unlink()
    assert "does not exist" in refused(lambda: run_split(folder))
    (folder / "index.csv").mkdir()
    assert "Is a directory" in refused(lambda: run_split(folder))


ROWS: dict[str, tuple[list[IndexRow], str]] = {
    "one class only": ([row for row in good_rows() if row.label == "CNV"], "NORMAL 0 images"),
    "one patient only": (good_rows(1) * 4, "too few patients"),
    "one patient of two classes": (
        [IndexRow(row.path, row.label, "7", "1", SHA, 9, 9, "L") for row in good_rows()],
        "too few patients",
    ),
    "another class": (
        [IndexRow(row.path, "DME", row.patient, "1", SHA, 9, 9, "L") for row in good_rows()],
        "NORMAL 0 images",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_an_index_that_cannot_be_split(name: str, folder: Path, refused: Refused) -> None:
    rows, expected = ROWS[name]
    write_index(folder / "index.csv", rows)
    before = contents(folder)
    assert expected in refused(lambda: run_split(folder))
    assert contents(folder) == before


def run_prepare(folder: Path) -> None:
    raw, splits, out = (folder / name for name in ("raw", "splits", "arrays"))
    prepare(raw, splits, DATA, out, folder / "prepare.json")


@pytest.fixture
def prepared(folder: Path) -> Path:
    for number, row in enumerate(good_rows()):
        path = folder / "raw" / row.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number, size=(100, 90)))
    run_prepare(folder)
    return folder


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def first_image(folder: Path) -> Path:
    return folder / "raw" / read_index(folder / "splits" / "test.csv")[0].path


SPLITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no split": (lambda f: (f / "splits/test.csv").unlink(), "does not exist"),
    "an empty split": (lambda f: (f / "splits/test.csv").write_text(""), "another table"),
    "another label": (lambda f: edit(f / "splits/test.csv", ",CNV,", ",DME,"), "labelled 'DME'"),
    "a path outside": (lambda f: edit(f / "splits/test.csv", "CNV/", "../raw/CNV/"), "outside"),
    "no image": (lambda f: first_image(f).unlink(), "does not exist"),
    "an empty image": (lambda f: first_image(f).write_bytes(b""), "cannot be read as an image"),
    "half an image": (lambda f: first_image(f).write_bytes(picture(1)[:300]), "cannot be read"),
    "a folder for an image": (
        lambda f: (first_image(f).rename(f / "old"), first_image(f).mkdir()),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("name", SPLITS)
def test_bad_input_to_prepare(name: str, prepared: Path, refused: Refused) -> None:
    damage, expected = SPLITS[name]
    damage(prepared)
    before = contents(prepared)
    assert expected in refused(lambda: run_prepare(prepared))
    assert contents(prepared) == before


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


ARRAYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no array": (lambda f: (f / "test.npy").unlink(), "does not exist"),
    "an empty array": (lambda f: cut(f / "test.npy", 0), "is damaged"),
    "half a header": (lambda f: cut(f / "test.npy", 50), "is damaged"),
    "half an array": (lambda f: cut(f / "test.npy", 9000), "is damaged"),
    "text": (lambda f: (f / "test.npy").write_text("pixels"), "is damaged"),
    "a pickle": (
        lambda f: np.save(f / "test.npy", np.array([{}] * 2, dtype=object), allow_pickle=True),
        "is damaged",
    ),
    "floats": (lambda f: np.save(f / "test.npy", np.zeros((2, 91, 91))), "need uint8 (2, 91, 91)"),
    "another split": (lambda f: shutil.copy(f / "train.npy", f / "test.npy"), "need uint8"),
    "a folder": (
        lambda f: ((f / "test.npy").unlink(), (f / "test.npy").mkdir()),
        "is damaged",
    ),
    "no table": (lambda f: (f / "test.csv").unlink(), "does not exist"),
    "an empty table": (lambda f: cut(f / "test.csv", 0), "another table"),
    "half a table": (lambda f: cut(f / "test.csv", 60), "test.csv is damaged"),
    "a class that is none": (
        lambda f: edit(f / "test.csv", ",CNV,31,1", ",CNV,31,2"),
        "targets must be 0 or 1",
    ),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_bad_arrays(name: str, prepared: Path, refused: Refused) -> None:
    damage, expected = ARRAYS[name]
    row = read_index(prepared / "splits" / "test.csv")[0]
    edit(prepared / "arrays" / "test.csv", row.patient, "31")
    damage(prepared / "arrays")
    assert expected in refused(lambda: open_split(prepared / "arrays", "test", DATA.image_size))


class Payload:
    """What a pickle would run: it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


def hostile(path: Path, **options: object) -> None:
    torch.save({"logits.weight": Payload(path.with_name("written"))}, path, **options)


def good_state() -> dict[str, torch.Tensor]:
    return {"logits.weight": torch.zeros(2, 3), "logits.bias": torch.zeros(2)}


def quantized() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8)


def whole_file(path: Path) -> None:
    torch.save(good_state(), path)


def of_length(path: Path, length: int) -> None:
    path.write_bytes(struct.pack("<Q", length) + b"{}")


WEIGHTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.pt": (lambda p: None, "is no file and none of"),
    "folder.pt": (lambda p: p.mkdir(), "is no file and none of"),
    "loop.pt": (lambda p: p.symlink_to(p.name), "is no file and none of"),
    "empty.pt": (lambda p: p.write_bytes(b""), "is damaged"),
    "empty.safetensors": (lambda p: p.write_bytes(b""), "is damaged"),
    "text.pt": (lambda p: p.write_text("weights"), "is damaged"),
    "text.safetensors": (lambda p: p.write_text("weights"), "is damaged"),
    "half.pt": (lambda p: (whole_file(p), cut(p, p.stat().st_size // 2)), "is damaged"),
    "half.safetensors": (
        lambda p: (save_file(good_state(), p), cut(p, p.stat().st_size - 4)),
        "is damaged",
    ),
    "a header of exabytes.safetensors": (lambda p: of_length(p, 1 << 60), "is damaged"),
    "a header too short.safetensors": (lambda p: of_length(p, 1), "is damaged"),
    "payload.pt": (hostile, "nothing in it was run"),
    "payload.safetensors": (hostile, "is damaged"),
    "payload of old.pth": (
        lambda p: hostile(p, _use_new_zipfile_serialization=False),
        "nothing in it was run",
    ),
    "plain pickle.pt": (
        lambda p: p.write_bytes(pickle.dumps(Payload(p.with_name("written")))),
        "nothing in it was run",
    ),
    "a network.pt": (lambda p: torch.save(nn.Linear(3, 2), p), "nothing in it was run"),
    "a list.pt": (lambda p: torch.save([torch.zeros(2)], p), "is not a state dict"),
    "a tensor.pt": (lambda p: torch.save(torch.zeros(2), p), "is not a state dict"),
    "numbers.pt": (lambda p: torch.save({"logits.bias": 1.0}, p), "is not a state dict"),
    "numbered.pt": (lambda p: torch.save({0: torch.zeros(2)}, p), "is not a state dict"),
    "a checkpoint.pt": (lambda p: torch.save({"model": good_state()}, p), "is not a state dict"),
    "nothing.pt": (lambda p: torch.save({}, p), "does not fit"),
    "another network.pt": (lambda p: torch.save({"a": torch.zeros(2)}, p), "does not fit"),
    "another shape.safetensors": (
        lambda p: save_file({**good_state(), "conv.weight": torch.zeros(7)}, p),
        "does not fit",
    ),
    "sparse.pt": (
        lambda p: torch.save({**good_state(), "logits.bias": torch.zeros(2).to_sparse()}, p),
        "logits.bias is sparse",
    ),
    "meta.pt": (
        lambda p: torch.save({**good_state(), "logits.bias": torch.zeros(2, device="meta")}, p),
        "logits.bias is sparse, quantized or without values",
    ),
    "quantized.pt": (
        lambda p: torch.save({**good_state(), "logits.bias": quantized()}, p),
        "logits.bias is sparse, quantized",
    ),
    "not a number.pt": (
        lambda p: torch.save({**good_state(), "logits.bias": torch.tensor([0, torch.nan])}, p),
        "NaN or infinity in logits.bias",
    ),
    "infinite.safetensors": (
        lambda p: save_file({**good_state(), "logits.bias": torch.tensor([0, torch.inf])}, p),
        "NaN or infinity in logits.bias",
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_bad_weight_file(name: str, tmp_path: Path, refused: Refused) -> None:
    damage, expected = WEIGHTS[name]
    path = tmp_path / name
    damage(path)
    network = nn.ModuleDict({"logits": nn.Linear(3, 2), "conv": nn.Linear(3, 2)})
    message = refused(lambda: load_weights(network, str(path)))
    assert message.startswith("model.weights: ")
    assert expected in message
    assert {found.name for found in tmp_path.iterdir()} <= {name}  # no payload has run


def test_weights_at_a_path_with_spaces_and_other_scripts(tmp_path: Path) -> None:
    path = tmp_path / "été 網膜 50 %.pt"
    torch.save({"logits.weight": torch.ones(2, 3), "logits.bias": torch.ones(2)}, path)
    network = nn.ModuleDict({"logits": nn.Linear(3, 2)})
    load_weights(network, str(path))
    assert network.state_dict()["logits.weight"].eq(1).all()


def card(folder: Path, **changes: object) -> None:
    values = {"standardisation": "none", "dropout": 0.6, "freeze_through": None}
    values |= {"weights_sha256": sha256_file(folder / "model.safetensors"), **changes}
    write_json(folder / "model.json", values)


MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no card": (lambda f: (f / "model.json").unlink(), "model.json does not exist"),
    "an empty card": (lambda f: cut(f / "model.json", 0), "is not valid JSON"),
    "half a card": (lambda f: cut(f / "model.json", 40), "is not valid JSON"),
    "brackets": (lambda f: (f / "model.json").write_text("[" * 100_000), "is not valid JSON"),
    "bytes for a card": (lambda f: (f / "model.json").write_bytes(b"\xff"), "is not valid JSON"),
    "a list for a card": (lambda f: (f / "model.json").write_text("[]"), "is no model's card"),
    "another card": (lambda f: (f / "model.json").write_text("{}"), "is no model's card"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "cannot be read"),
    "half the weights": (lambda f: cut(f / "model.safetensors", 40), "by its sha256"),
    "another model's weights": (
        lambda f: save_file({"a": torch.ones(3)}, f / "model.safetensors"),
        "by its sha256",
    ),
    "another network noted as it is": (
        lambda f: (save_file({"a": torch.ones(3)}, f / "model.safetensors"), card(f)),
        "of another network",
    ),
    "a pickle noted as it is": (
        lambda f: (hostile(f / "model.safetensors"), card(f)),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_bad_model(name: str, tmp_path: Path, refused: Refused) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "model.safetensors")
    card(tmp_path)
    damage, expected = MODELS[name]
    damage(tmp_path)
    assert expected in refused(lambda: load_model(tmp_path))
    assert not (tmp_path / "written").exists()
