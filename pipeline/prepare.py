"""data/arrays: every image decoded once."""

from pathlib import Path

from octrobust import config
from octrobust.data.arrays import prepare
from octrobust.errors import one_line_errors
from octrobust.tracking.stage import stage_run


def main() -> None:
    params = config.load()
    with stage_run("prepare", params={"data": params.data.model_dump()}) as run:
        run.metrics = Path("metrics/prepare.json")
        prepare(
            Path("data/raw"),
            Path("data/splits"),
            params.data,
            Path("data/arrays"),
            run.metrics,
            params.compute.threads,
        )


if __name__ == "__main__":
    with one_line_errors():
        main()
