"""metrics/seeds/SEED.json: attack.target and every defence once more, from another seed."""

from pathlib import Path

from octrobust import config
from octrobust.launch.entry import run_stage
from octrobust.stages.repeat import repeat
from octrobust.tracking.stage import stage_run


def main(seed: str) -> None:
    params = config.load()
    logged = {"seed": int(seed), "harden": params.harden.model_dump()}
    with stage_run(f"repeat@{seed}", params=logged) as run:
        run.metrics = Path(f"metrics/seeds/{seed}.json")
        run.unfinished = repeat(params, int(seed), Path("data/arrays"), run.metrics)


if __name__ == "__main__":
    run_stage(main)
