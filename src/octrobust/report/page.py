"""reports/index.html: one file, readable offline, that shows what the pipeline found."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from octrobust.attack.shards import open_adversarial
from octrobust.config import Params
from octrobust.data.arrays import open_split
from octrobust.files import write_json, write_text
from octrobust.report import attacked, data, leakage, paper, protocols, robustness, tables
from octrobust.report.cards import write_cards
from octrobust.report.examples import extremes, median_example
from octrobust.report.figures import all_figures, write_figures
from octrobust.report.pictures import compare
from octrobust.report.provenance import origins, settings
from octrobust.report.results import Results, headline, read_results
from octrobust.report.verdict import marks, verdict
from octrobust.report.wording import percent

TEMPLATES = Path(__file__).parent / "templates"
GALLERY = 3  # successes at each end


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
    images = open_split(project / "data" / "arrays", "test", params.data.image_size)
    found = open_adversarial(project / "data" / "adversarial" / "test")
    classes = params.data.classes
    examples = (
        median_example(found, images, classes, 0),
        median_example(found, images, classes, 1),
    )
    least, most = extremes(found, images, classes, GALLERY)
    drawn = all_figures(results, params, examples, (least, most))
    statement = data.data_statement(results, params)
    docs = project / "reports" / "data_docs" / "index.html"
    page = _render(
        params=params,
        results=results,
        figures=drawn,
        papers=[compare(one) if one else None for one in examples],
        least=[compare(one) for one in least],
        most=[compare(one) for one in most],
        tables=_tables(results, params),
        heat=robustness.heat_map(results),
        verdict=verdict(results, params),
        marks=marks(results, params),
        facts=list(data.facts(results)),
        statement=statement,
        stamp=data.stamp(params),
        paper=paper,
        audit=leakage.audit_table(project, params),
        docs=Path(os.path.relpath(docs, out.parent)).as_posix() if docs.exists() else None,
        settings=settings(params),
        provenance=origins(project, results, provenance or {}),
    )
    write_cards(cards, project, results, params, statement, provenance or {})
    write_json(summary, headline(results, params))
    write_figures(figures, drawn)
    write_text(out, page)


def _render(**values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent)
    # The one script that the page's policy lets run, by its hash.
    script = (TEMPLATES / "slider.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template("page.html").render(
        script=Markup(script),  # noqa: S704 - our own file, and no other text may go unescaped
        script_hash=f"sha256-{digest}",
        **values,
    )


def _tables(results: Results, params: Params) -> dict[str, tables.Table]:
    seeds = protocols.seed_table(results, params)
    return {
        "headline": tables.headline_table(results, params),
        "training": tables.training_table(results),
        "models": tables.model_table(results),
        "distortion": attacked.distortion_table(results, params),
        "attack": attacked.attack_settings(results, params),
        "worst": robustness.worst_table(results, params),
        "ratios": robustness.ratio_table(results, params),
        "tests": robustness.tests_table(results, params),
        "battery": robustness.battery_table(results, params),
        "corruptions": robustness.corruption_table(results),
        "realism": robustness.realism_table(results),
        "flags": robustness.flag_table(results, raised=True),
        "unraised": robustness.flag_table(results, raised=False),
        "data": data.data_table(results),
        "replay": protocols.replay_table(results),
        **({"seeds": seeds} if seeds else {}),
    }
