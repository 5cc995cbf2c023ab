"""The notebooks' faults stay in their cage: they step only where they say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from octrobust import config
from octrobust.stages.replay import _Notebook
from octrobust.training.datasets import Source
from tests.conftest import ROOT, blobs

SIDE = 75


@pytest.fixture(scope="module")
def published() -> config.Params:
    return config.load(ROOT / "presets" / "published.yaml")


def notebook(published: config.Params) -> _Notebook:
    quick = {"binary_search_steps": 1, "max_iter": 2}
    settings = published.replay["notebooks"]
    attack = settings.attack.model_copy(update=quick)
    settings = settings.model_copy(update={"attack": attack, "batch_size": 4})
    return _Notebook(published, settings, torch.device("cpu"))


def images() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = blobs(8, SIDE, seed=1)
    return torch.from_numpy(x), torch.from_numpy(y)


def weights(run: _Notebook) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def test_only_the_stepping_measurement_changes_the_model(published: config.Params) -> None:
    run = notebook(published)
    before = weights(run)
    fixed = run.measure(images(), stepping=False, label="test")
    assert all(value.equal(before[name]) for name, value in weights(run).items())
    assert fixed == run.measure(images(), stepping=False, label="test")
    run.measure(images(), stepping=True, label="test")
    assert any(not value.equal(before[name]) for name, value in weights(run).items())


def test_half_an_epoch_is_half_of_the_steps(
    published: config.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = notebook(published)
    x, y = images()
    seen = []
    monkeypatch.setattr(run, "_step", lambda x, y: seen.append(len(y)) or torch.zeros(len(y), 2))
    source = Source(lambda position: x[position].numpy(), np.asarray(y))
    run.train([source], 0.5, "test")
    assert seen == [4]
    run.train([source], 1.5, "test")
    assert seen == [4, 4, 4, 4]


@pytest.mark.parametrize("path", ["params.yaml", "presets/paper.yaml", "presets/sample.yaml"])
def test_no_other_parameters_reach_it(path: str) -> None:
    import yaml

    values = yaml.safe_load((Path(ROOT) / path).read_text())
    assert values["replay"] == {}
