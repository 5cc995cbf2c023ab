"""reports/data_docs: Great Expectations over index and splits; a failure stops the pipeline."""

from pathlib import Path

from octrobust import config
from octrobust.data.expectations import validate
from octrobust.errors import one_line_errors
from octrobust.tracking.stage import stage_run


def main() -> None:
    params = config.load()
    with stage_run("validate", params={"split": params.split.model_dump()}) as run:
        run.metrics = Path("metrics/validation.json")
        validate(
            Path("data/raw/index.csv"),
            Path("data/splits"),
            params.data,
            params.split,
            Path("reports/data_docs"),
            run.metrics,
        )


if __name__ == "__main__":
    with one_line_errors():
        main()
