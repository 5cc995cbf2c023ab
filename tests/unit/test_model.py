"""The network's numbers, freezing, weights from files, and round trips to disk."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from octrobust.config import Model
from octrobust.errors import UserError
from octrobust.model.build import (
    OCTClassifier,
    build,
    calibrate_batch_norm,
    count_parameters,
    freeze_through,
)
from octrobust.model.predict import probabilities
from octrobust.model.store import WEIGHTS, load_model, save_model

NONE = Model(weights="none", standardisation="none", dropout=0.6)


@pytest.fixture(scope="module")
def model() -> OCTClassifier:
    return build(NONE, seed=1)


@pytest.mark.parametrize(
    ("last", "frozen"),
    [(None, 0), ("repeat_1", 1_002_752), ("mixed_6a", 2_712_832), ("repeat_2", 9_613_312)],
)
def test_parameters_are_the_papers(last: str | None, frozen: int) -> None:
    counts = count_parameters(build(NONE, last))
    assert counts == {
        "parameters": 23_483_650,
        "trainable": 23_483_650 - frozen,
        "frozen": frozen,
    }


def test_unknown_child_is_refused(model: OCTClassifier) -> None:
    with pytest.raises(UserError, match="repeat_9"):
        freeze_through(model, "repeat_9")


def test_frozen_batch_norm_stays_in_eval_mode() -> None:
    frozen = build(NONE, "repeat_1").train()
    assert not any(m.training for m in frozen.network.get_submodule("repeat_1").modules())
    assert not frozen.network.get_submodule("conv2d_1a").training
    assert frozen.network.get_submodule("mixed_6a").training


def test_grey_and_its_three_copies_are_the_same_image(model: OCTClassifier) -> None:
    x = torch.rand(2, 1, 80, 80)
    with torch.no_grad():
        torch.testing.assert_close(model(x), model(x.expand(-1, 3, -1, -1)), rtol=0, atol=0)


def test_standardisation_happens_inside_once(model: OCTClassifier) -> None:
    x = torch.rand(2, 1, 80, 80)
    inside = build(Model(weights="none", standardisation="facenet", dropout=0.6), seed=1)
    with torch.no_grad():
        torch.testing.assert_close(inside(x), model((x * 255 - 127.5) / 128))


def test_same_seed_same_network() -> None:
    one, two, other = build(NONE, seed=4), build(NONE, seed=4), build(NONE, seed=5)
    key = "logits.weight"
    assert torch.equal(one.network.state_dict()[key], two.network.state_dict()[key])
    assert not torch.equal(one.network.state_dict()[key], other.network.state_dict()[key])


def test_calibration_makes_a_random_network_see_differences() -> None:
    network = build(NONE, seed=1)
    x = torch.rand(8, 1, 80, 80)

    def spread() -> float:
        return float(probabilities(network, x)[:, 1].std())

    before = spread()
    calibrate_batch_norm(network, lambda: [x])
    assert not network.training
    assert spread() > 10 * before


def test_model_round_trip_gives_the_same_bytes_and_outputs(tmp_path: Path) -> None:
    network = build(NONE, "repeat_1", seed=2)
    save_model(tmp_path / "a", network, {"stage": "test"})
    save_model(tmp_path / "b", network, {"stage": "test"})
    for name in (WEIGHTS, "model.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    loaded = load_model(tmp_path / "a")
    assert loaded.frozen == network.frozen
    x = torch.rand(2, 1, 80, 80)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), network(x))


def test_weights_from_a_local_file_keep_the_own_last_layer(
    tmp_path: Path, model: OCTClassifier
) -> None:
    donor = build(NONE, seed=9).network.state_dict()
    donor["logits.weight"], donor["logits.bias"] = torch.zeros(8631, 512), torch.zeros(8631)
    torch.save(donor, tmp_path / "face.pt")
    save_file(donor, tmp_path / "face.safetensors")
    for name in ("face.pt", "face.safetensors"):
        network = build(Model(weights=str(tmp_path / name), standardisation="none", dropout=0.6))
        state = network.network.state_dict()
        assert torch.equal(state["conv2d_1a.conv.weight"], donor["conv2d_1a.conv.weight"])
        assert state["logits.weight"].shape == (2, 512)


def test_facenets_own_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real download code, with the file already where it would have been put."""
    from facenet_pytorch import InceptionResnetV1

    face = InceptionResnetV1(classify=True, num_classes=8631).state_dict()
    cache = tmp_path / "checkpoints"
    cache.mkdir()
    torch.save(face, cache / "20180402-114759-vggface2.pt")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    network = build(Model(weights="vggface2", standardisation="none", dropout=0.6)).network
    assert torch.equal(network.state_dict()["last_linear.weight"], face["last_linear.weight"])


def test_offline_download_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    # urllib reads the proxies once and keeps them: not from before, and not for later tests.
    monkeypatch.setattr(urllib.request, "_opener", None)
    with pytest.raises(UserError, match="could not be downloaded"):
        build(Model(weights="vggface2", standardisation="none", dropout=0.6))
