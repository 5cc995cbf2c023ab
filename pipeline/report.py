"""reports/index.html, reports/cards, metrics/summary.json and the summary run in MLflow."""

from pathlib import Path

from octrobust import config
from octrobust.errors import one_line_errors
from octrobust.report.page import build
from octrobust.tracking.provenance import revision
from octrobust.tracking.stage import stage_run


def main() -> None:
    params = config.load()
    with stage_run("report", params=params.model_dump()) as run:
        run.kind = "summary"
        run.metrics = Path("metrics/summary.json")
        page, figures = Path("reports/index.html"), Path("reports/figures")
        cards = Path("reports/cards")
        run.artifacts = [page, figures, cards]
        build(Path(), params, page, run.metrics, figures, cards, revision(Path()))


if __name__ == "__main__":
    with one_line_errors():
        main()
