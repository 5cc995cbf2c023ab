"""The pipeline's numbers as the report reads them, and the headline that it makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octrobust.config import CLEAN, HARDENED, PAPERS, Params, middle
from octrobust.files import read_csv, read_json

# What the replay of the paper's notebooks found when we ran it, with its `provenance`: for pages
# of runs that have none of their own.
REPLAYED = Path(__file__).parent / "replayed.json"

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """Metrics files as they stand, and curves by model: a dict of strings an epoch.

    replay: this run's own, or the one of REPLAYED, which alone has a `provenance`.
    """

    evaluation: Numbers
    train: dict[str, Numbers]
    attack: dict[str, Numbers]
    battery: dict[str, Numbers]
    ingest: Numbers
    split: Numbers
    validation: Numbers
    curves: dict[str, list[dict[str, str]]]
    robustness: dict[str, list[dict[str, str]]]
    distortion_bins: list[dict[str, str]]
    reliability: list[dict[str, str]]
    seeds: dict[int, Numbers]
    replay: Numbers

    @property
    def models(self) -> tuple[str, ...]:
        """The train variants in the order of params.yaml, then the hardened models."""
        return tuple(self.train)

    @property
    def target(self) -> str:
        """The attacked model, attack.target."""
        name: str = self.evaluation["target"]
        return name

    @property
    def hardened(self) -> tuple[str, ...]:
        return tuple(name for name in self.models if name.startswith(HARDENED))

    def score(self, model: str, data: str) -> Numbers:
        """Scores of `model` on the test images: CLEAN, or as attacked on the model named."""
        found: Numbers = self.evaluation["models"][model][data]
        return found

    def attacked(self) -> tuple[str, ...]:
        """The models that an adversarial test set was made on."""
        return tuple(name for name in self.models if name in self.evaluation["distortion"])

    def main_sets(self, model: str) -> list[str]:
        """The test sets that say most of `model`: clean, attack.target's, and its own."""
        own = [model] if model in self.attacked() else []
        return list(dict.fromkeys([CLEAN, self.target, *own]))

    def distortion(self, model: str) -> Numbers:
        """Success rates and distances of the set made on `model`."""
        found: Numbers = self.evaluation["distortion"][model]
        return found

    def flags(self) -> list[Numbers]:
        """Those of every battery, then those that compare models."""
        found = [flag for numbers in self.battery.values() for flag in numbers["flags"]]
        return [*found, *self.evaluation["flags"]]


def read_results(project: Path, params: Params) -> Results:
    """Read what the stages before wrote under `project`.

    Raises:
        UserError: a file is missing or damaged.
    """
    metrics, plots = project / "metrics", project / "plots"
    models = params.models()
    replays = [metrics / "replay" / f"{name}.json" for name in params.replay]
    batteries = params.evaluate.battery.models
    return Results(
        evaluation=read_json(metrics / "evaluation.json"),
        train={name: read_json(metrics / "train" / f"{name}.json") for name in models},
        attack={name: read_json(metrics / "attack" / f"{name}.json") for name in ("train", "test")},
        battery={name: read_json(metrics / "battery" / f"{name}.json") for name in batteries},
        ingest=read_json(metrics / "ingest.json"),
        split=read_json(metrics / "split.json"),
        validation=read_json(metrics / "validation.json"),
        curves={name: read_csv(plots / "training" / f"{name}.csv") for name in models},
        robustness={name: read_csv(plots / "robustness" / f"{name}.csv") for name in batteries},
        distortion_bins=read_csv(plots / "distortion.csv"),
        reliability=read_csv(plots / "reliability.csv"),
        seeds={s: read_json(metrics / "seeds" / f"{s}.json") for s in params.evaluate.seeds},
        replay=read_json(replays[0] if replays else REPLAYED),
    )


def headline(results: Results, params: Params) -> dict[str, float | None]:
    """The flat numbers of metrics/summary.json.

    Accuracies and rates are fractions, times wall-clock seconds, distances L2 on pixels in
    [0, 1]; None where nothing succeeded.
    """
    variants, target = params.train.variants, results.target
    undefended = results.distortion(target)
    numbers: dict[str, float | None] = {
        **{f"accuracy_{name}": results.score(name, CLEAN)["accuracy"] for name in variants},
        "accuracy_attacked": results.score(target, target)["accuracy"],
    }
    for name in results.hardened:
        # The paper's own goes by the contract's plain name.
        key = f"accuracy_{HARDENED if name == PAPERS else name}"
        numbers[key] = results.score(name, target)["accuracy"]
        numbers[f"{key}_clean"] = results.score(name, CLEAN)["accuracy"]
        if name in results.attacked():
            numbers[f"{key}_adaptive"] = results.score(name, name)["accuracy"]
    for name, one in results.battery.items():
        for budget, worst in main_channels(one)["worst_case"]["l2"].items():
            numbers[f"robust_accuracy_l2_{budget}_{name}"] = worst["accuracy"]
    return {
        **numbers,
        **{f"train_seconds_{name}": one["train_seconds"] for name, one in results.train.items()},
        "attack_success_rate": undefended["success_rate"],
        "attack_success_rate_8bit": undefended["success_rate_8bit"],
        "median_l2_attacked": _median(undefended["l2"]),
        "median_l2_adaptive": _median(results.distortion(PAPERS)["l2"]),
        **{
            f"median_l2_ratio_{name}": one["ratio"]
            for name, one in results.evaluation["distortion_ratios"].items()
        },
        **{
            f"validation_robust_accuracy_{name}": value
            for name, value in results.evaluation["validation_robust"]["accuracy"].items()
        },
    }


def best_defence(results: Results, params: Params) -> tuple[str, float]:
    """The hardened model of highest accuracy on validation images under PGD at the middle L2
    budget, and that accuracy; of equals the one of higher clean validation accuracy. Controls do
    not count. Test images have no say, so that what is measured on them stays a measurement."""
    robust: dict[str, float] = results.evaluation["validation_robust"]["accuracy"]
    found = [name for name in results.hardened if name not in params.controls()]
    best = max(found, key=lambda name: (robust[name], results.train[name]["validation_accuracy"]))
    return best, robust[best]


def main_budget(params: Params) -> str:
    """The middle L2 budget of the battery, as it is written in the results."""
    return f"{middle(params.evaluate.battery.l2):g}"


def main_channels(battery: Numbers) -> Numbers:
    """A battery's numbers for the first of its evaluate.battery.channels."""
    found: Numbers = next(iter(battery["channels"].values()))
    return found


def _median(statistics: Numbers | None) -> float | None:
    return None if statistics is None else statistics["median"]
