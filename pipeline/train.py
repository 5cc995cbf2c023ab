"""models/VARIANT: one freeze configuration, trained on clean images."""

from pathlib import Path

from octrobust import config
from octrobust.launch.entry import run_stage
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
    run_stage(main)
