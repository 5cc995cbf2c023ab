"""params.yaml and the presets: one schema; a mistake names itself."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from octrobust import config
from octrobust.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]


def values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    return loaded


def put(tree: dict[str, Any], dotted: str, value: object) -> dict[str, Any]:
    tree = copy.deepcopy(tree)
    *path, last = dotted.split(".")
    node = tree
    for key in path:
        node = node[key]
    node[last] = value
    return tree


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_parameter_file_is_whole(path: Path) -> None:
    loaded = yaml.safe_load(path.read_text())
    if path.name == "sample.yaml":
        assert loaded["data"]["root"] is None  # the user's own
        loaded["data"]["root"] = "somewhere"
    config.parse(loaded, path.name)


def test_paper_preset_has_the_papers_numbers() -> None:
    paper = config.load(ROOT / "presets" / "paper.yaml")
    assert paper.split.counts() == {
        "train": 7500,
        "validation": 500,
        "test": 2000,
        "extra": 7500,  # 15,000 + 15,000: the 30,000 originals of hardening
    }
    assert (paper.data.source, paper.data.image_size) == ("kermany", 224)
    assert paper.model.weights == "vggface2"
    assert paper.model.standardisation == "none"
    frozen = {name: variant.freeze_through for name, variant in paper.train.variants.items()}
    assert frozen == {"config_1": None, "config_2": "repeat_1", "config_3": "repeat_2"}
    attack = paper.attack
    assert (attack.learning_rate, attack.binary_search_steps, attack.max_iter) == (0.5, 9, 100)
    assert (attack.beta, attack.initial_const, attack.decision_rule) == (0.001, 0.001, "EN")
    assert attack.channels == "rgb"
    assert attack.images_per_class == config.ImagesPerClass(train=None, test=None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.source", "kaggle"),
        ("data.image_size", 64),
        ("data.classes", ["CNV", "CNV"]),
        ("data.classes", ["CNV", "../NORMAL"]),
        ("data.classes", ["CNV", "DME", "NORMAL"]),
        ("data.sha256", "abc"),
        ("data.archive", "set.zip"),
        ("data.max_quarantined", -1),
        ("split.by", "eye"),
        ("split.train", 0),
        ("split.train", 2.5),
        ("model.dropout", 1.0),
        ("train.epochs", 0),
        ("train.learning_rate", 0.0),
        ("train.learning_rate", float("nan")),
        ("train.learning_rate", "fast"),
        ("train.batch_size", 1),
        ("train.augmentation.flip", 1.5),
        ("train.variants", {}),
        ("attack.beta", -0.001),
        ("attack.max_iter", "100"),
        ("attack.decision_rule", "Linf"),
        ("attack.channels", "gray"),
        ("attack.target", "config_9"),
        ("evaluate.confidence_level", 95),
        ("compute.device", "gpu"),
        ("compute.shard_size", 0),
        ("compute.launcher", "mpi"),
        ("compute.processes", 2),
        ("compute.rendezvous", "host"),
        ("compute.slurm.minutes", 0),
        ("attack.bta", 0.1),
        ("atack", {}),
    ],
)
def test_a_bad_value_is_one_line_that_names_it(key: str, value: object) -> None:
    with pytest.raises(UserError) as caught:
        config.parse(put(values(), key, value), "params.yaml")
    message = str(caught.value)
    assert key in message
    assert "\n" not in message


def test_a_missing_key_is_named() -> None:
    broken = values()
    del broken["attack"]["beta"]
    with pytest.raises(UserError, match=r"attack\.beta: missing"):
        config.parse(broken)


def test_folder_source_needs_a_root() -> None:
    with pytest.raises(UserError, match=r"data\.root"):
        config.parse(put(values(), "data.source", "folder"))


def test_numbers_as_yaml_1_1_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text()
    assert "beta: 0.001" in text
    path.write_text(text.replace("beta: 0.001", "beta: 1e-3"))
    assert config.load(path).attack.beta == 0.001


def test_not_yaml_is_said(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("data: [")
    with pytest.raises(UserError, match="not valid YAML"):
        config.load(path)
