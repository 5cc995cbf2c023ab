"""Fixtures that several test files use."""

from __future__ import annotations

import io
import re
import signal
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from octrobust import config
from octrobust.attack.search_model import SearchModel
from octrobust.errors import one_line_errors
from tests import made_up

# The same examples in every run, and no store of failed ones.
hypothesis.settings.register_profile(
    "fixed", derandomize=True, database=None, deadline=None, max_examples=25
)
hypothesis.settings.load_profile("fixed")
# Tests run small networks: threads would cost more than they bring.
torch.set_num_threads(1)

# In the background of a script it is ignored, and so would be by every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def params() -> config.Params:
    """The committed demo's parameters."""
    return config.load(ROOT / "params.yaml")


def data_section(**changes: object) -> config.Data:
    """A whole `data` section, the phantom at its smallest but for `changes`."""
    values: dict[str, object] = {
        "source": "phantom",
        "root": None,
        "archive": None,
        "sha256": None,
        "classes": ["NORMAL", "CNV"],
        "image_size": 80,
        "max_quarantined": 0,
        "phantom": {"patients_per_class": 1, "images_per_patient": 1, "seed": 1},
    }
    return config.Data.model_validate({**values, **changes})


def picture(
    shade: int, kind: str = "JPEG", mode: str = "L", size: tuple[int, int] = (12, 9)
) -> bytes:
    """An image file: a slope, so that it is no constant, another one for every shade."""
    width, height = size
    slope = np.linspace(0, 60, width)[None] + np.linspace(0, 30, height)[:, None]
    values = np.uint8(slope + shade)
    image = Image.fromarray(values.astype(np.uint16) * 257 if mode == "I;16" else values)
    out = io.BytesIO()
    (image if mode == "I;16" else image.convert(mode)).save(out, kind)
    return out.getvalue()


Refused = Callable[[Callable[[], object]], str]


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Refused:
    """Call something as a stage does; it must end with exit code 2 and one line, returned."""

    def run(call: Callable[[], object]) -> str:
        handler = signal.getsignal(signal.SIGTERM)
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as ended, one_line_errors():
                call()
        finally:
            signal.signal(signal.SIGTERM, handler)
        assert ended.value.code == 2
        return one_error(capfd.readouterr().err)

    return run


def one_error(stderr: str) -> str:
    """The error in what a stage wrote: its last line, and the only one beside progress bars."""
    bar = re.compile(r"\[[\d:]+[<,]")
    lines = [line for line in stderr.splitlines() if line.strip() and not bar.search(line)]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def blobs(count: int, side: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """An easy two-class set: a bright square left (0) or right (1) of the middle, with noise.

    Returns (N, 1, side, side) float32 in [0, 1] and (N,) int64.
    """
    rng = np.random.default_rng(seed)
    targets = np.arange(count, dtype=np.int64) % 2
    images = rng.uniform(0.2, 0.5, (count, 1, side, side)).astype(np.float32)
    quarter = side // 4
    for image, target in zip(images, targets, strict=True):
        left = quarter // 2 + target * 2 * quarter
        image[0, quarter : 3 * quarter, left : left + quarter] += 0.4
    return images, targets


def learn(network: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
    """Train on all of x and y at once; leaves the network in eval mode."""
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    network.eval()


@pytest.fixture(scope="session")
def small_network() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A small convolutional network trained to the end on `blobs`, and 24 images it gets right."""
    torch.manual_seed(0)
    images, targets = blobs(256, 16, seed=0)
    x, y = torch.from_numpy(images), torch.from_numpy(targets)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(256, 2),
    )
    learn(network, x, y, steps=60)
    held_out, labels = blobs(24, 16, seed=1)
    x, y = torch.from_numpy(held_out), torch.from_numpy(labels)
    with torch.no_grad():
        assert (network(x).argmax(1) == y).all()
    return network, x, y


@pytest.fixture(scope="session")
def small(params: config.Params) -> config.Params:
    """The demo's parameters, for the made-up results of `whole`."""
    data = params.data.model_copy(update={"image_size": made_up.SIDE, "source": "phantom"})
    return params.model_copy(update={"data": data})


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, small: config.Params) -> tuple[Path, str]:
    """A project where every attack succeeded, and its report: its figures take seconds."""
    project = made_up.make_project(tmp_path_factory.mktemp("whole"), [True] * made_up.IMAGES)
    docs = project / "reports/data_docs/index.html"
    docs.parent.mkdir(parents=True)
    docs.write_text("")
    return project, made_up.run(project, small, provenance={"Git revision": "abc<i>123"})


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures without their seconds of drawing."""
    monkeypatch.setattr("octrobust.report.figures.render", lambda *_, **__: b"PNG")


def see(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
    """The search sees margins changed so."""
    asked, looked = SearchModel.margin_and_gradient, SearchModel.margin

    def both(self: SearchModel, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        margins, gradient = asked(self, x, y)
        return change(margins), gradient

    monkeypatch.setattr(SearchModel, "margin_and_gradient", both)
    monkeypatch.setattr(SearchModel, "margin", lambda self, x, y: change(looked(self, x, y)))
