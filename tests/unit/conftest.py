"""The page that several test files look at: built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from octrobust import config
from tests.unit.made_up import IMAGES, SIDE, make_project, run


@pytest.fixture(scope="session")
def small(params: config.Params) -> config.Params:
    data = params.data.model_copy(update={"image_size": SIDE, "source": "phantom"})
    return params.model_copy(update={"data": data})


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, small: config.Params) -> tuple[Path, str]:
    """A project where everything succeeded, and its page."""
    project = make_project(tmp_path_factory.mktemp("whole"), [True] * IMAGES)
    docs = project / "reports/data_docs/index.html"
    docs.parent.mkdir(parents=True)
    docs.write_text("")
    return project, run(project, small, provenance={"Git revision": "abc<i>123"})


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures without their seconds of drawing."""
    monkeypatch.setattr("octrobust.report.figures.render", lambda *_: b"PNG")
