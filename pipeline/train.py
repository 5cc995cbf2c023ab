"""models/VARIANT: one freeze configuration, trained on clean images."""

import sys
from pathlib import Path

from octrobust import config
from octrobust.errors import one_line_errors
from octrobust.stages.train import train
from octrobust.tracking.stage import stage_run


def main(variant: str) -> None:
    params = config.load()
    logged = {"model": params.model.model_dump(), "train": params.train.model_dump()}
    with stage_run(f"train@{variant}", params=logged) as run:
        run.metrics = Path(f"metrics/train/{variant}.json")
        run.curves = [Path(f"plots/training/{variant}.csv")]
        model = Path("models") / variant
        run.artifacts = [model / "model.json"]
        run.unfinished = train(
            params, variant, Path("data/arrays"), model, run.curves[0], run.metrics
        )


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1])
