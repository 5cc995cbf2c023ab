"""metrics/replay/NAME.json: what the paper's notebooks ran, faults and all."""

import sys
from pathlib import Path

from octrobust import config
from octrobust.errors import one_line_errors
from octrobust.stages.replay import replay
from octrobust.tracking.stage import stage_run


def main(name: str) -> None:
    params = config.load()
    logged = {"replay": {key: one.model_dump() for key, one in params.replay.items()}}
    with stage_run(f"replay@{name}", params=logged) as run:
        run.metrics = Path(f"metrics/replay/{name}.json")
        replay(params, name, Path("data/arrays"), run.metrics)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1])
