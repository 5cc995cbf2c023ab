"""metrics/seeds/SEED.json: attack.target and every defence once more, from another seed."""

import sys
from pathlib import Path

from octrobust import config
from octrobust.errors import one_line_errors
from octrobust.stages.repeat import repeat
from octrobust.tracking.stage import stage_run


def main(seed: str) -> None:
    params = config.load()
    logged = {"seed": int(seed), "harden": params.harden.model_dump()}
    with stage_run(f"repeat@{seed}", params=logged) as run:
        run.metrics = Path(f"metrics/seeds/{seed}.json")
        run.unfinished = repeat(params, int(seed), Path("data/arrays"), run.metrics)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1])
