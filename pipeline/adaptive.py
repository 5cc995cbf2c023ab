"""data/adversarial/adaptive/MODEL: the same attack on another model, as its own test."""

from pathlib import Path

from octrobust import config
from octrobust.launch.entry import run_stage
from octrobust.stages.attack import attack_split
from octrobust.tracking.stage import stage_run


def main(name: str) -> None:
    params = config.load()
    logged = {"attack": params.attack.model_dump(), "evaluate": params.evaluate.model_dump()}
    with stage_run(f"adaptive@{name}", params=logged) as run:
        run.metrics = Path(f"metrics/adaptive/{name}.json")
        out = Path("data/adversarial/adaptive") / name
        run.artifacts = [out / "records.csv", out / "manifest.json"]
        run.unfinished = attack_split(
            params,
            "test",
            params.evaluate.images_per_class,
            Path("data/arrays"),
            Path("models") / name,
            out,
            run.metrics,
        )


if __name__ == "__main__":
    run_stage(main)
