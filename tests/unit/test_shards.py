"""Adversarial sets on disk: resumable, verified as stored, damage found."""

from __future__ import annotations

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


def test_a_damaged_unfinished_shard_is_made_again(small_network: Trained, tmp_path: Path) -> None:
    make(small_network, tmp_path / "whole")
    unfinished = tmp_path / "cut" / "unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "shard-00001.npz").write_bytes(b"PK\x03\x04 half a shard")
    (unfinished / "shard-00001.json").write_text("1.0")
    make(small_network, tmp_path / "cut")
    for path in (tmp_path / "whole" / "out").iterdir():
        assert sha256_file(path) == sha256_file(tmp_path / "cut" / "out" / path.name)


def test_a_damaged_stored_shard_is_one_clear_error(small_network: Trained, tmp_path: Path) -> None:
    found = make(small_network, tmp_path)
    path = tmp_path / "out" / "shard-00002.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="shard-00002"):
        found.shard(2)


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
