"""models/hardened: adversarial training of the attacked model."""

from pathlib import Path

from octrobust import config
from octrobust.errors import one_line_errors
from octrobust.stages.harden import harden
from octrobust.tracking.stage import stage_run


def main() -> None:
    params = config.load()
    with stage_run("harden", params={"harden": params.harden.model_dump()}) as run:
        run.metrics = Path("metrics/train/hardened.json")
        run.curves = [Path("plots/training/hardened.csv")]
        model = Path("models/hardened")
        run.artifacts = [model / "model.json"]
        run.unfinished = harden(
            params,
            Path("data/arrays"),
            Path("data/adversarial/train"),
            Path("models") / params.attack.target,
            model,
            run.curves[0],
            run.metrics,
        )


if __name__ == "__main__":
    with one_line_errors():
        main()
