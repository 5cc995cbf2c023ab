"""models/hardened_VARIANT: a model hardened in one way."""

from pathlib import Path

from octrobust import config
from octrobust.launch.entry import run_stage
from octrobust.stages.harden import harden
from octrobust.tracking.stage import stage_run


def main(variant: str) -> None:
    params = config.load()
    with stage_run(f"harden@{variant}", params={"harden": params.harden.model_dump()}) as run:
        model = Path("models") / f"{config.HARDENED}_{variant}"
        run.metrics = Path(f"metrics/train/{model.name}.json")
        run.curves = [Path(f"plots/training/{model.name}.csv")]
        run.artifacts = [model / "model.json"]
        run.unfinished = harden(
            params,
            variant,
            Path("data/arrays"),
            Path("data/adversarial/train"),
            Path("models") / params.attack.target,
            model,
            run.curves[0],
            run.metrics,
        )


if __name__ == "__main__":
    run_stage(main)
