"""data/splits: which image is train, validation, test or extra."""

from pathlib import Path

from octrobust import config
from octrobust.data.split import split
from octrobust.errors import one_line_errors
from octrobust.tracking.stage import stage_run


def main() -> None:
    params = config.load()
    with stage_run("split", params={"split": params.split.model_dump()}) as run:
        run.metrics = Path("metrics/split.json")
        split(
            Path("data/raw/index.csv"),
            params.split,
            params.data.classes,
            Path("data/splits"),
            run.metrics,
        )


if __name__ == "__main__":
    with one_line_errors():
        main()
