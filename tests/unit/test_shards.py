"""Adversarial sets on disk: resumable, verified as stored, damage found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from octrobust.attack import ElasticNet, shards
from octrobust.attack.shards import AdversarialSet, Clean, craft, open_adversarial
from octrobust.errors import UserError
from octrobust.files import sha256_file
from tests.conftest import Refused

Trained = tuple[nn.Module, Tensor, Tensor]


def attack(model: nn.Module) -> ElasticNet:
    return ElasticNet(
        model,
        learning_rate=0.05,
        binary_search_steps=3,
        max_iter=15,
        initial_const=0.1,
        beta=0.01,
        batch_size=4,
    )


def clean(network: Trained, rows: NDArray[np.int64] | None = None) -> Clean:
    _, x, y = network
    targets = y.numpy().copy()
    targets[5] = 1 - targets[5]  # one the model gets wrong
    images = x.numpy()
    return Clean(lambda r: images[r], targets, np.arange(len(x)) if rows is None else rows)


def make(network: Trained, folder: Path, size: int = 7, **more: Any) -> AdversarialSet:
    settings: dict[str, Any] = {"channels": "grey", "made_by": {"seed": 1}, **more}
    return craft(
        attack(network[0]),
        settings.pop("clean", clean(network)),
        shard_size=size,
        unfinished=folder / "unfinished",
        out=folder / "out",
        **settings,
    )


def test_records_are_those_of_the_stored_images(small_network: Trained, tmp_path: Path) -> None:
    model, x, _ = small_network
    found = make(small_network, tmp_path)
    images = found.load(np.arange(len(found)))
    records = found.records
    with torch.no_grad():
        after = model(torch.from_numpy(images)).argmax(1).numpy()
    np.testing.assert_array_equal(records["prediction_after"], after)
    np.testing.assert_array_equal(records["already_misclassified"].nonzero()[0], [5])
    expected = (after != records["target"]) & ~records["already_misclassified"]
    np.testing.assert_array_equal(records["success"], expected)
    assert not records["success"][5]
    assert np.isnan(records["l2"][5])
    change = (images - x.numpy()).reshape(len(x), -1).astype(np.float64)
    good = records["success"]
    assert good.sum() == 23
    np.testing.assert_allclose(records["l2"][good], np.linalg.norm(change, axis=1)[good], rtol=1e-5)
    np.testing.assert_array_equal(records["l0"][good], (change != 0).sum(1)[good])
    with torch.no_grad():
        rounded = torch.from_numpy(np.round(images * 255) / np.float32(255))
        survives = model(rounded).argmax(1).numpy() != records["target"]
    np.testing.assert_array_equal(records["success_8bit"], good & survives)


def test_images_do_not_depend_on_the_shard_size(small_network: Trained, tmp_path: Path) -> None:
    one = make(small_network, tmp_path / "a", size=5)
    two = make(small_network, tmp_path / "b", size=24)
    assert len(one.manifest["shards"]) == 5
    order = np.array([23, 0, 7, 7, 12])
    np.testing.assert_array_equal(one.load(order), two.load(np.arange(24))[order])
    unpacked = one.unpack(tmp_path / "all.npy")
    np.testing.assert_array_equal(unpacked, two.shard(0))
    for name, values in one.records.items():
        np.testing.assert_array_equal(values, two.records[name], err_msg=name)


def test_a_killed_run_goes_on_at_the_next_shard_with_the_same_bytes(
    small_network: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(small_network, tmp_path / "whole")
    crafted: list[int] = []
    work = shards._attack

    def counted(*args: Any) -> dict[str, Any]:
        if len(crafted) == 2:
            raise KeyboardInterrupt
        crafted.append(int(args[2][0]))
        return work(*args)

    monkeypatch.setattr(shards, "_attack", counted)
    with pytest.raises(KeyboardInterrupt):
        make(small_network, tmp_path / "cut")
    assert not (tmp_path / "cut" / "out").exists()
    crafted.append(-1)  # let the rest through
    make(small_network, tmp_path / "cut")
    assert crafted == [0, 7, -1, 14, 21]
    whole, cut = tmp_path / "whole" / "out", tmp_path / "cut" / "out"
    names = sorted(p.name for p in whole.iterdir())
    assert names == sorted(p.name for p in cut.iterdir())
    for name in names:
        assert sha256_file(whole / name) == sha256_file(cut / name), name


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(bytes(data))


def swap(folder: Path) -> None:
    """Another shard, whole, under this one's name."""
    (folder / "shard-00001.npz").write_bytes((folder / "shard-00000.npz").read_bytes())


def swap_both(folder: Path) -> None:
    """With its note, so that the checksum is right."""
    swap(folder)
    note = folder / "shard-00001.json"
    if note.exists():
        note.write_bytes((folder / "shard-00000.json").read_bytes())


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit of the images": lambda f: flip(f / "shard-00001.npz", 2000),
    "a bit of a name": lambda f: flip(f / "shard-00001.npz", 31),
    "a bit of a date": lambda f: flip(f / "shard-00001.npz", 11),  # npz itself lets this pass
    "a bit of the last bytes": lambda f: flip(f / "shard-00001.npz", -3),
    "cut short": lambda f: os.truncate(f / "shard-00001.npz", 1000),
    "empty": lambda f: os.truncate(f / "shard-00001.npz", 0),
    "missing": lambda f: (f / "shard-00001.npz").unlink(),
    "a folder": lambda f: ((f / "shard-00001.npz").unlink(), (f / "shard-00001.npz").mkdir()),
    "bytes added": lambda f: (f / "shard-00001.npz").open("ab").write(b"x"),
    "another shard": swap,
    "another shard and its note": swap_both,
    "objects": lambda f: np.savez(f / "shard-00001.npz", x_adv=np.array([{}], dtype=object)),
}
NOTES = {"no note": None, "an empty note": "", "half a note": '{"sha2', "a number": "1.0"}


@pytest.fixture(scope="module")
def finished(small_network: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in out/, and what it was made from in unfinished/."""
    folder = tmp_path_factory.mktemp("set")
    make(small_network, folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", [*(name for name in DAMAGE if name != "a folder"), *NOTES])
def test_a_damaged_unfinished_shard_is_made_again(
    name: str, small_network: Trained, finished: Path, tmp_path: Path
) -> None:
    unfinished = tmp_path / "unfinished"
    shutil.copytree(finished / "unfinished", unfinished)
    if name in DAMAGE:
        DAMAGE[name](unfinished)
    elif NOTES[name] is None:
        (unfinished / "shard-00001.json").unlink()
    else:
        (unfinished / "shard-00001.json").write_text(NOTES[name] or "")
    others = unfinished / "shard-00002.npz"
    kept = others.stat().st_mtime_ns
    make(small_network, tmp_path)
    assert contents(tmp_path / "out") == contents(finished / "out")
    assert others.stat().st_mtime_ns == kept  # the good ones are not made again


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_shard_of_a_finished_set_is_one_clear_error(
    name: str, finished: Path, tmp_path: Path, refused: Refused
) -> None:
    shutil.copytree(finished / "out", tmp_path / "out")
    DAMAGE[name](tmp_path / "out")
    found = open_adversarial(tmp_path / "out")
    found.load([0, 14])  # the other shards are as they were
    assert "shard-00001.npz" in refused(lambda: found.load([0, 7]))
    assert "shard-00001.npz" in refused(lambda: found.unpack(tmp_path / "all.npy"))
    assert not list(tmp_path.glob("*all.npy*"))


def test_every_flipped_bit_of_a_stored_shard_is_found(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "out", tmp_path / "out")
    found, path = open_adversarial(tmp_path / "out"), tmp_path / "out" / "shard-00001.npz"
    whole = path.read_bytes()
    for at in range(0, len(whole), 61):
        flip(path, at)
        with pytest.raises(UserError, match="shard-00001"):
            found.shard(1)
        path.write_bytes(whole)
    found.shard(1)


TABLES: dict[str, tuple[str, str | None]] = {
    "no records": ("records.csv", None),
    "empty records": ("records.csv", ""),
    "other records": ("records.csv", "row,target\n1,0\n"),
    "no manifest": ("manifest.json", None),
    "an empty manifest": ("manifest.json", ""),
    "half a manifest": ("manifest.json", '{"shard_size": 7'),
    "a list": ("manifest.json", "[]"),
    "another manifest": ("manifest.json", "{}"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_table_of_a_finished_set(
    name: str, finished: Path, tmp_path: Path, refused: Refused
) -> None:
    shutil.copytree(finished / "out", tmp_path / "out")
    file, text = TABLES[name]
    (tmp_path / "out" / file).unlink()
    if text is not None:
        (tmp_path / "out" / file).write_text(text)
    assert file in refused(lambda: open_adversarial(tmp_path / "out"))


def test_a_record_changed_by_hand_is_found(
    finished: Path, tmp_path: Path, refused: Refused
) -> None:
    shutil.copytree(finished / "out", tmp_path / "out")
    path = tmp_path / "out" / "records.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3] + lines[4:]))
    assert "records.csv is not the file that was stored" in refused(
        lambda: open_adversarial(tmp_path / "out")
    )


def test_with_a_confidence_what_was_wrong_stays_as_it_is(
    small_network: Trained, tmp_path: Path
) -> None:
    """The engine pushes on where the clean image is wrong, but not by the confidence."""
    model, x, y = small_network
    targets = y.numpy().copy()
    targets[5] = 1 - targets[5]
    with torch.no_grad():
        by = float(model(x[[5]]).diff(dim=1).abs())
    sure = ElasticNet(
        model,
        learning_rate=0.05,
        binary_search_steps=3,
        max_iter=15,
        initial_const=1.0,
        confidence=by + 0.1,
    )
    pushed = sure.run(x[[5]], torch.from_numpy(targets[[5]]))
    assert pushed.already.all()
    assert pushed.success.all()
    images = x.numpy()
    found = craft(
        sure,
        Clean(lambda r: images[r], targets, np.arange(4, 8)),
        channels="grey",
        shard_size=4,
        unfinished=tmp_path / "unfinished",
        out=tmp_path / "out",
        made_by={},
    )
    np.testing.assert_array_equal(found.load([1]), images[[5]])
    assert found.records["already_misclassified"].tolist() == [False, True, False, False]


def test_rgb_gives_three_channels_of_their_own(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)).eval()
    images = torch.rand(6, 1, 8, 8).numpy()
    with torch.no_grad():
        targets = model(torch.from_numpy(images).expand(-1, 3, -1, -1)).argmax(1).numpy()
    found = craft(
        attack(model),
        Clean(lambda r: images[r], targets, np.array([1, 3, 4])),
        channels="rgb",
        shard_size=2,
        unfinished=tmp_path / "unfinished",
        out=tmp_path / "out",
        made_by={},
    )
    assert found.records["row"].tolist() == [1, 3, 4]
    assert found.records["success"].all()
    stored = open_adversarial(tmp_path / "out").load([0, 1, 2])
    assert stored.shape == (3, 3, 8, 8)
    assert (stored[:, 0] != stored[:, 1]).any()
