"""Data Docs: Great Expectations' own tables of results, in pages that need no network.

The pages of Great Expectations load their styles and scripts from several hosts, so offline they
are bare and their front page is empty; ours are plain HTML around the same rendered sections.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView

from octrobust.files import atomic_folder

if TYPE_CHECKING:
    from octrobust.data.expectations import Checked

TEMPLATES = Path(__file__).parent / "templates"


def write(docs: Path, checked: Sequence[Checked]) -> None:
    """Write ``index.html`` and a page a suite, ``NAME.html``, to the folder `docs`, whole."""
    view = DefaultJinjaPageView(custom_views_directory=str(TEMPLATES))
    renderer = ValidationResultsPageRenderer()
    with atomic_folder(docs) as folder:
        page = view.env.get_template("data_docs_index.html").render(checked=checked)
        (folder / "index.html").write_text(page, encoding="utf-8")
        for one in checked:
            document = renderer.render(one.result)
            page = view.render(document, "data_docs_suite.html", one=one)
            (folder / f"{one.name}.html").write_text(page, encoding="utf-8")
