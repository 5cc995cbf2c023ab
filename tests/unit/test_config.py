"""params.yaml and the presets: one schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from octrobust import config
from octrobust.files import read_yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_parameter_file_is_whole(path: Path) -> None:
    loaded = read_yaml(path)
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
