"""`make pictures`: the pictures of README and docs, from a finished run.

Without an argument of this checkout's own run, else of the checkout that is named. Needs Chromium.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from matplotlib.ticker import PercentFormatter
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from octrobust import config
from octrobust.attack.shards import open_adversarial
from octrobust.data.arrays import open_split
from octrobust.files import read_json, read_yaml, write_json
from octrobust.report.examples import median_example
from octrobust.report.style import Look, render
from scripts.blocks import SHOWN

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "images"
WIDTH = 1280
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# What `make ui` prints, without its address.
HEADLINE = "#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=headline"


def main() -> None:
    run = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT).resolve()
    attacked = run / "reports" / "figures" / "figure2.png"
    if not attacked.exists():
        sys.exit(f"error: {run} has no finished run: `make repro` first")
    OUT.mkdir(exist_ok=True)
    _store("result", _stacked(attacked.read_bytes(), _curves(run)), 200)
    with _browser() as browser:
        report = (run / "reports" / "index.html").as_uri()
        _store("report", _page(browser, report, (WIDTH, 900), wait=1), 150)
        with _mlflow(run) as address:
            runs = _page(browser, f"{address}/{HEADLINE}", (1600, 640), wait=12)
            _store("mlflow", runs, 150)
    write_json(SHOWN, _numbers(run))


def _numbers(run: Path) -> dict[str, Any]:
    """What the pictures show: the headline, and whether the scan above is misread as a file too."""
    params = config.load(run / "params.yaml")
    images = open_split(run / "data" / "arrays", "test", params.data.image_size)
    found = open_adversarial(run / "data" / "adversarial" / "test")
    example = median_example(found, images, params.data.classes, 0)
    return {
        "example_survives_rounding": bool(example and example.survives_rounding),
        "summary": timeless(read_json(run / "metrics" / "summary.json")),
    }


def timeless(summary: dict[str, Any]) -> dict[str, Any]:
    """The headline without what the clock says."""
    return {name: value for name, value in summary.items() if "seconds" not in name}


def _curves(run: Path) -> bytes:
    """Robust accuracy within the L2 budgets of the battery, with its intervals."""
    paths = sorted((run / "metrics" / "battery").glob("*.json"))
    records = {path.stem: read_json(path) for path in paths}
    drawn = read_yaml(run / "params.yaml")["data"]["source"] == "phantom"

    def draw(figure: Any, look: Look) -> None:
        axes = figure.subplots()
        for number, (model, record) in enumerate(records.items()):
            part = next(iter(record["channels"].values()))
            points = {0.0: part["clean"]}
            points |= {float(budget): one for budget, one in part["worst_case"]["l2"].items()}
            left = [one["accuracy"] for one in points.values()]
            low, high = ([one[end] for one in points.values()] for end in ("low", "high"))
            at = [budget + 0.008 * (number - 1) for budget in points]  # intervals side by side
            spread = np.abs(np.array([low, high]) - left)
            axes.errorbar(
                at,
                left,
                yerr=spread,
                label=model,
                color=look.series[number % len(look.series)],
                marker="os^Dv"[number % 5],
                capsize=3,
            )
        axes.set(xlabel="L2 budget, pixels from 0 to 1", ylabel="robust accuracy", ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        images, level = record["images"], record["confidence_level"]
        axes.set_title(
            f"Worst of the battery, each attack made on the model itself (adaptive): {images} "
            f"{'synthetic ' if drawn else ''}images, intervals at {level:.0%}"
        )
        axes.legend()

    return render(draw, (10, 3.2), Look())


def _stacked(*pictures: bytes) -> Image.Image:
    """One under the other, at one width."""
    figures = [Image.open(io.BytesIO(one)).convert("RGB") for one in pictures]
    width = min(figure.width for figure in figures)
    scaled = [one.resize((width, round(one.height * width / one.width))) for one in figures]
    whole = Image.new("RGB", (width, sum(one.height for one in scaled)), "white")
    top = 0
    for one in scaled:
        whole.paste(one, (0, top))
        top += one.height
    return whole


def _store(name: str, image: Image.Image, most: int) -> None:
    """As PNG of at most so many KiB: of fewer colours, then smaller, until it is."""
    for width in range(min(image.width, WIDTH), 300, -80):
        small = image.convert("RGB").resize((width, round(image.height * width / image.width)))
        for colours in (256, 64):
            written = io.BytesIO()
            small.quantize(colours).save(written, "PNG", optimize=True)
            if written.tell() <= most * 1024:
                (OUT / f"{name}.png").write_bytes(written.getvalue())
                print(f"docs/images/{name}.png: {written.tell() // 1024} KiB, {small.size}")
                return
    sys.exit(f"error: {name} cannot be made small enough")


def chromium() -> str | None:
    """The system's; playwright's own would have to be downloaded."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def _browser() -> Iterator[Browser]:
    found = chromium()
    if found is None:
        sys.exit("error: chromium is not installed")
    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=sandbox)
        yield browser
        browser.close()


def _page(browser: Browser, address: str, size: tuple[int, int], wait: int) -> Image.Image:
    """What a window of this size shows after so many seconds."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.goto(address)
    page.wait_for_timeout(1000 * wait)
    for panel in page.get_by_role("button", name="Close").all():  # MLflow's assistant, its hints
        panel.click()
    page.wait_for_timeout(500)
    return Image.open(io.BytesIO(page.screenshot()))


@contextmanager
def _mlflow(run: Path) -> Iterator[str]:
    """MLflow's page over a copy of the run's store, which looking at would change."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        shutil.copy(run / "mlflow.db", folder)
        command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        server = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _answers(address)
            yield address
        finally:
            os.killpg(server.pid, 15)
            server.wait()


def _answers(address: str) -> None:
    for _ in range(600):
        try:
            with urlopen(address, timeout=30):  # noqa: S310 - loopback
                return
        except OSError:
            time.sleep(1)
    sys.exit("error: `mlflow ui` does not answer")


if __name__ == "__main__":
    main()
