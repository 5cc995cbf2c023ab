"""The pipeline's numbers as the report reads them, and the headline that it makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octrobust.config import Params
from octrobust.files import read_csv, read_json

HARDENED = "hardened"
STATIC, ADAPTIVE, CLEAN = "static", "adaptive", "clean"

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """Metrics files as they stand, and curves by model: a dict of strings an epoch."""

    evaluation: Numbers
    train: dict[str, Numbers]
    attack: dict[str, Numbers]
    ingest: Numbers
    split: Numbers
    validation: Numbers
    curves: dict[str, list[dict[str, str]]]
    distortion_bins: list[dict[str, str]]

    @property
    def models(self) -> tuple[str, ...]:
        """The train variants in the order of params.yaml, then the hardened model."""
        return tuple(self.train)

    def score(self, model: str, data: str) -> Numbers:
        """Scores of `model` on clean, static or adaptive test images."""
        found: Numbers = self.evaluation["models"][model][data]
        return found

    def scores(self, model: str) -> list[tuple[str, Numbers]]:
        """What `model` was measured on, with the scores: clean, static, adaptive where it was."""
        found = self.evaluation["models"][model]
        return [(data, found[data]) for data in (CLEAN, STATIC, ADAPTIVE) if data in found]

    def distortion(self, data: str) -> Numbers:
        """Success rates and distances of the static or the adaptive set."""
        found: Numbers = self.evaluation["distortion"][data]
        return found


def read_results(project: Path, params: Params) -> Results:
    """Read what the stages before wrote under `project`.

    Raises:
        UserError: a file is missing or damaged.
    """
    metrics, plots = project / "metrics", project / "plots"
    models = (*params.train.variants, HARDENED)
    return Results(
        evaluation=read_json(metrics / "evaluation.json"),
        train={name: read_json(metrics / "train" / f"{name}.json") for name in models},
        attack={name: read_json(metrics / "attack" / f"{name}.json") for name in ("train", "test")},
        ingest=read_json(metrics / "ingest.json"),
        split=read_json(metrics / "split.json"),
        validation=read_json(metrics / "validation.json"),
        curves={name: read_csv(plots / "training" / f"{name}.csv") for name in models},
        distortion_bins=read_csv(plots / "distortion.csv"),
    )


def headline(results: Results, params: Params) -> dict[str, float | None]:
    """The flat numbers of metrics/summary.json.

    Accuracies and rates are fractions, times wall-clock seconds, distances L2 on pixels in
    [0, 1]; None where nothing succeeded.
    """
    variants = params.train.variants
    static, adaptive = results.distortion(STATIC), results.distortion(ADAPTIVE)
    models = (*variants, HARDENED)
    return {
        **{f"accuracy_{name}": results.score(name, CLEAN)["accuracy"] for name in variants},
        "accuracy_attacked": results.score(params.attack.target, STATIC)["accuracy"],
        "accuracy_hardened": results.score(HARDENED, STATIC)["accuracy"],
        "accuracy_hardened_clean": results.score(HARDENED, CLEAN)["accuracy"],
        "accuracy_hardened_adaptive": results.score(HARDENED, ADAPTIVE)["accuracy"],
        **{f"train_seconds_{name}": results.train[name]["train_seconds"] for name in models},
        "attack_success_rate": static["success_rate"],
        "attack_success_rate_8bit": static["success_rate_8bit"],
        "median_l2_attacked": _median(static["l2"]),
        "median_l2_adaptive": _median(adaptive["l2"]),
    }


def _median(statistics: Numbers | None) -> float | None:
    return None if statistics is None else statistics["median"]
