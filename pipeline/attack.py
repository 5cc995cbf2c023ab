"""data/adversarial/SPLIT: the Elastic-Net attack on attack.target."""

from pathlib import Path

from octrobust import config
from octrobust.launch.entry import run_stage
from octrobust.stages.attack import attack_split
from octrobust.tracking.stage import stage_run


def main(split: str) -> None:
    params = config.load()
    with stage_run(f"attack@{split}", params={"attack": params.attack.model_dump()}) as run:
        run.metrics = Path(f"metrics/attack/{split}.json")
        out = Path("data/adversarial") / split
        run.artifacts = [out / "records.csv", out / "manifest.json"]
        model = Path("models") / params.attack.target
        per_class = getattr(params.attack.images_per_class, split)
        arrays = Path("data/arrays")
        run.unfinished = attack_split(params, split, per_class, arrays, model, out, run.metrics)


if __name__ == "__main__":
    run_stage(main)
