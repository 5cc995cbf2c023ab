"""data/raw: the images and their index."""

from pathlib import Path

from octrobust import config
from octrobust.data.ingest import ingest
from octrobust.errors import one_line_errors
from octrobust.tracking.stage import stage_run


def main() -> None:
    params = config.load()
    with stage_run("ingest", params={"data": params.data.model_dump()}) as run:
        run.metrics = Path("metrics/ingest.json")
        quarantine = Path("reports/quarantine.csv")
        run.artifacts = [quarantine]
        ingest(params.data, Path("data/raw"), quarantine, run.metrics, params.compute.workers)


if __name__ == "__main__":
    with one_line_errors():
        main()
