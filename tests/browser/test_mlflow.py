"""MLflow's page as a newcomer meets it: the headline table, a run, a comparison, the registry."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from octrobust import tracking
from octrobust.tracking.columns import DEFENDED, SHORT
from octrobust.tracking.records import Candidate
from scripts.pictures import HEADLINE
from tests.conftest import ROOT
from tests.servers import mlflow_server

BETAS = (0.0001, 0.001, 0.01)
ARRAYS = {"path": "data/arrays", "md5": "0a1b2c3d4e5f60718293a4b5c6d7e8f9.dir"}
WAIT = 60_000  # ms; MLflow's page is large, and machines are slow


@dataclass(frozen=True)
class Shown:
    """A server on loopback, its experiment, and the runs of three experiments by beta."""

    address: str
    experiment: str
    runs: list[str]


@pytest.fixture(scope="module")
def shown(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    from mlflow.tracking import MlflowClient

    project = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        patch.chdir(project)
        for number, beta in enumerate(BETAS):
            run_experiment(beta, number)
        store = f"sqlite:///{project / 'mlflow.db'}"
        client = MlflowClient(store)
        experiment = client.get_experiment_by_name("octrobust").experiment_id
        found = client.search_runs([experiment], "tags.`octrobust.kind` = 'summary'")
        server, port = mlflow_server(project, store, str(project / "mlruns"))
        server.start()
        try:
            runs = [run.info.run_id for run in found]
            yield Shown(f"http://127.0.0.1:{port}", experiment, runs)
        finally:
            server.kill()


def run_experiment(beta: float, number: int) -> None:
    """A stage and a summary, with a defence to register, in the current folder's store."""
    attack = {"beta": beta, "learning_rate": 0.05}
    params = {"data": {"source": "phantom", "image_size": 80}, "attack": attack}
    files = {
        "dvc.yaml": "stages: {}\n",
        "dvc.lock": yaml.safe_dump({"stages": {"prepare": {"outs": [ARRAYS]}}}),
        "params.yaml": yaml.safe_dump(params),
        "metrics/attack/test.json": json.dumps({"images": 2, "l2": {"median": beta + 0.2}}),
        "metrics/summary.json": json.dumps(
            dict.fromkeys([*SHORT, "robust_accuracy_l2_1_hardened_online"], 0.5 + number / 10)
        ),
        "models/hardened_online/model.json": json.dumps({"weights_sha256": str(number) * 64}),
        "reports/cards/experiment.md": "**The verdict.** Not for clinical use.",
        "reports/cards/hardened_online.md": "# The card\n\nNot for clinical use.",
        "reports/cards/best.json": Candidate(
            name="hardened_online",
            weights_sha256=str(number) * 64,
            image_size=80,
            classes=("NORMAL", "CNV"),
            robust_accuracy=0.5 + number / 10,
            measured="in one way",
        ).model_dump_json(),
    }
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    now = time.time()
    tracking.record(
        "attack@test",
        params={"attack": attack},
        metrics=Path("metrics/attack/test.json"),
        started=now - 2,
        finished=now - 1,
    )
    tracking.record(
        "report",
        params=params,
        metrics=Path("metrics/summary.json"),
        artifacts=[Path("reports/cards")],
        started=now - 1,
        finished=now,
        kind="summary",
    )
    assert tracking.flush().error is None


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 1400})
    context.set_default_timeout(WAIT)
    expect.set_options(timeout=WAIT)
    yield context.new_page()
    context.close()


def test_the_address_of_make_ui_has_the_headline_and_folds_the_stages(
    page: Page, shown: Shown
) -> None:
    (printed,) = re.findall(r"MLflow: (http://\S+?)(/#\S+)\"", (ROOT / "Makefile").read_text())
    assert printed[1] == f"/{HEADLINE}"
    page.goto(shown.address + printed[1])
    for beta in BETAS:
        expect(page.get_by_role("link", name=f"beta={beta:g} ").first).to_be_visible()
    for column in (*SHORT.values(), DEFENDED, "6 L2"):
        head = page.get_by_text(column, exact=True).first
        expect(head).to_be_attached()
        assert head.evaluate("one => one.scrollWidth <= one.offsetWidth"), f"{column} is cut"
    expect(page.get_by_text("attack@test", exact=True)).to_have_count(0)


def test_a_run_says_what_it_found_and_on_which_data(page: Page, shown: Shown) -> None:
    page.goto(f"{shown.address}/#/experiments/{shown.experiment}/runs/{shown.runs[0]}")
    expect(page.get_by_text("The verdict.").first).to_be_visible()
    expect(page.get_by_text("Not for clinical use.").first).to_be_visible()
    expect(page.get_by_text("octrobust", exact=True).first).to_be_visible()
    expect(page.get_by_text("attack@test").first).to_be_visible()  # under child runs
    # MLflow lists what a run read, and opens a panel on it.
    page.get_by_text("phantom arrays").first.click()
    panel = page.get_by_role("dialog")
    expect(panel.get_by_text(ARRAYS["md5"].removesuffix(".dir")).first).to_be_visible()


def test_a_sweep_is_compared_by_what_differs(page: Page, shown: Shown) -> None:
    runs, experiments = quote(json.dumps(shown.runs)), quote(json.dumps([shown.experiment]))
    page.goto(f"{shown.address}/#/compare-runs?runs={runs}&experiments={experiments}")
    expect(page.get_by_text("Parallel Coordinates Plot").first).to_be_visible()
    # Axes of the plot itself, apart from each other; the table below it has the same names.
    axes = page.locator(".parcoords .axis-title")
    beta = axes.filter(has_text="attack.beta")
    expect(beta).to_be_visible()
    expect(axes).not_to_have_count(1)
    places = sorted(one["x"] for one in (each.bounding_box() for each in axes.all()) if one)
    assert all(after - before > 40 for before, after in pairwise(places))
    ends = page.locator(".parcoords .axis", has=page.locator(".tick")).first
    expect(ends).to_be_visible()
    for value in BETAS:
        expect(page.get_by_role("cell", name=f"{value:g}", exact=True).first).to_be_attached()


def test_the_registry_has_the_best_with_its_card_and_what_it_takes(
    page: Page, shown: Shown
) -> None:
    page.goto(f"{shown.address}/#/models/octrobust/versions/3")
    expect(page.get_by_text("The card").first).to_be_visible()
    expect(page.get_by_text("Not for clinical use.").first).to_be_visible()
    expect(page.get_by_text("best").first).to_be_visible()
    page.get_by_text("Inputs").first.click()
    expect(page.get_by_text("image").first).to_be_visible()
