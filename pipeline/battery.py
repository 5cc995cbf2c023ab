"""reports/battery/MODEL.csv: many attacks on one model, image by image."""

from pathlib import Path

from octrobust import config
from octrobust.launch.entry import run_stage
from octrobust.stages.battery import battery
from octrobust.tracking.stage import stage_run


def main(name: str) -> None:
    params = config.load()
    logged = {"attack": params.attack.model_dump(), "evaluate": params.evaluate.model_dump()}
    with stage_run(f"battery@{name}", params=logged) as run:
        run.metrics = Path(f"metrics/battery/{name}.json")
        records, curves = Path(f"reports/battery/{name}.csv"), Path(f"plots/robustness/{name}.csv")
        run.artifacts = [records, curves]
        run.unfinished = battery(
            params,
            Path("data/arrays"),
            Path("models") / name,
            records,
            curves,
            run.metrics,
        )


if __name__ == "__main__":
    run_stage(main)
