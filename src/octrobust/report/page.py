"""reports/index.html: one file, readable offline, that shows what the pipeline found."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
import yaml

import octrobust
from octrobust.attack.shards import open_adversarial
from octrobust.config import Params
from octrobust.data.arrays import open_split
from octrobust.files import write_json, write_text
from octrobust.report import paper, protocols, robustness, tables
from octrobust.report.cards import write_cards
from octrobust.report.examples import Example, median_example
from octrobust.report.figures import all_figures, write_figures
from octrobust.report.results import Results, headline, read_results
from octrobust.report.wording import duration, percent

TEMPLATES = Path(__file__).parent / "templates"
PACKAGES = ("torch", "torchvision", "facenet-pytorch", "numpy", "scikit-learn", "dvc", "mlflow")


def build(
    project: Path,
    params: Params,
    out: Path,
    summary: Path,
    figures: Path,
    cards: Path,
    provenance: Mapping[str, str] | None = None,
) -> None:
    """Write the headline numbers, figures, model cards and page, from the files under `project`.

    Args:
        out: the page, one HTML file that loads nothing.
        summary: flat JSON of the headline numbers, see `octrobust.report.results.headline`.
        figures: folder for PNG files, replaced as a whole.
        cards: folder for a JSON and a Markdown file a model, replaced as a whole.
        provenance: further lines for the page, as name to text (git revision, date).

    Raises:
        UserError: a file that an earlier stage writes is missing or damaged.
    """
    results = read_results(project, params)
    drawn = all_figures(results, params, _examples(project, params))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent)
    docs = project / "reports" / "data_docs" / "index.html"
    page = environment.get_template("page.html").render(
        params=params,
        results=results,
        figures=drawn,
        tables=_tables(results, params),
        tiles=tables.tiles(results, params),
        facts=list(tables.facts(results)),
        statement=data_statement(results, params),
        paper=paper,
        docs=Path(os.path.relpath(docs, out.parent)).as_posix() if docs.exists() else None,
        settings=_settings(params),
        provenance=_provenance(results, provenance or {}),
    )
    statement = data_statement(results, params)
    write_cards(cards, project, results, params, statement, provenance or {})
    write_json(summary, headline(results, params))
    write_figures(figures, drawn)
    write_text(out, page)


def data_statement(results: Results, params: Params) -> str:
    """One or two sentences: what these results can and cannot speak about."""
    test = results.split.get("test", {}).get("images", "?")
    images = results.ingest.get("images", "?")
    if params.data.source == "phantom":
        return (
            "The images are synthetic, drawn from a seed by the built-in phantom. The numbers "
            "show that the pipeline works; they say nothing about patients or about the paper's "
            "data."
        )
    if params.data.source != "kermany":
        return (
            f"The images are the user's own. The results hold for these "
            f"{images} images only ({test} of them for testing); another clinic, scanner or "
            "selection may give quite different ones."
        )
    return (
        f"The images are from the public Kermany 2018 set (OCT2017): {images} were read, {test} "
        "are for testing. One source of images: the results say little about other scanners, "
        "clinics or patients."
    )


def _examples(project: Path, params: Params) -> tuple[Example | None, Example | None]:
    images = open_split(project / "data" / "arrays", "test", params.data.image_size)
    found = open_adversarial(project / "data" / "adversarial" / "test")
    classes = params.data.classes
    return median_example(found, images, classes, 0), median_example(found, images, classes, 1)


def _tables(results: Results, params: Params) -> dict[str, tables.Table]:
    optional = {
        "replay": protocols.replay_table(results),
        "seeds": protocols.seed_table(results, params),
    }
    return {
        "clean": tables.clean_table(results, params),
        "robust": tables.robust_table(results, params),
        "distortion": tables.distortion_table(results, params),
        "models": tables.model_table(results),
        "worst": robustness.worst_table(results, params),
        "ratios": robustness.ratio_table(results, params),
        "matrix": robustness.matrix_table(results),
        "tests": robustness.tests_table(results),
        "battery": robustness.battery_table(results, params),
        "corruptions": robustness.corruption_table(results),
        "realism": robustness.realism_table(results),
        "flags": robustness.flag_table(results, raised=True),
        "unraised": robustness.flag_table(results, raised=False),
        "attack": tables.attack_settings(results, params),
        "data": tables.data_table(results),
        **{name: one for name, one in optional.items() if one},
    }


def _settings(params: Params) -> str:
    """Every parameter that determines a result, as YAML."""
    values: dict[str, Any] = params.model_dump(mode="json", exclude={"compute"})
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _provenance(results: Results, given: Mapping[str, str]) -> list[tuple[str, str]]:
    times = [
        *((f"training {name}", one["train_seconds"]) for name, one in results.train.items()),
        *((f"attack on {name}", one.get("seconds")) for name, one in results.attack.items()),
    ]
    spent = ", ".join(f"{what} {duration(s)}" for what, s in times if s is not None)
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return [
        *given.items(),
        ("Times", spent),
        ("octrobust", octrobust.__version__),
        ("Python", platform.python_version()),
        ("Packages", versions),
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
