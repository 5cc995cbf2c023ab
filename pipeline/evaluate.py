"""metrics/evaluation.json, plots/: every model on clean and adversarial test images."""

from pathlib import Path

from octrobust import config
from octrobust.launch.entry import run_stage
from octrobust.stages.evaluate import PLOTS, evaluate
from octrobust.tracking.stage import stage_run


def main() -> None:
    params = config.load()
    logged = {"attack": params.attack.model_dump(), "evaluate": params.evaluate.model_dump()}
    with stage_run("evaluate", params=logged) as run:
        run.metrics = Path("metrics/evaluation.json")
        plots = Path("plots")
        run.artifacts = [plots / name for name in PLOTS]
        evaluate(
            params,
            Path("data/arrays"),
            Path("models"),
            Path("data/adversarial/test"),
            Path("data/adversarial/adaptive"),
            Path("reports/battery"),
            run.metrics,
            plots,
        )


if __name__ == "__main__":
    run_stage(main)
