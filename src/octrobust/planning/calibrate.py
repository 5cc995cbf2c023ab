"""A short calibration: what one image of every kind of pass takes on this machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from octrobust.attack.projection import project
from octrobust.attack.search_model import SearchModel
from octrobust.attack.speed import Speed, Spent
from octrobust.config import Params
from octrobust.data import phantom
from octrobust.data.arrays import Batch, decode, stored_side, to_grey
from octrobust.data.look_alikes import perceptual_hash
from octrobust.distributed.share import Share
from octrobust.evaluation.corruptions import CORRUPTIONS, corrupt
from octrobust.files import sha256_file
from octrobust.model.build import OCTClassifier, build
from octrobust.model.device import select_device
from octrobust.model.predict import batch_of, evaluating, float32, logits
from octrobust.planning.work import Pass
from octrobust.training.datasets import Augmented, GreyPixels, Source
from octrobust.training.fit import fit
from octrobust.training.objectives import Clean, Outputs

SCANS = 6  # drawn, checked and decoded
STEPS = 6  # of training; the first is not counted
REPEATS = 3  # of everything else
# From a step this long on, a frozen configuration is estimated by its arithmetic, not run.
LONG_STEP = 1.0


@dataclass
class Rates:
    """Seconds on this machine.

    Attributes:
        passes: an image, by what `key` says of the pass; fold: a folding.
        handled: an image, by work.Handling.
        epoch: the end of a fit's epoch, its checkpoint.
        memory: bytes of this process, torch loaded and nothing of ours.
    """

    passes: dict[str, float] = field(default_factory=dict)
    handled: dict[str, float] = field(default_factory=dict)
    epoch: float = 0.0
    memory: int = 0


def key(one: Pass) -> str:
    """What the time of a pass depends on."""
    if one.kind == "train":
        return f"train {one.precision} {one.batch} {one.optimizer} {one.frozen}"
    return one.kind if one.kind in ("forward", "through_art") else f"{one.kind} {one.precision}"


def calibrate(params: Params, passes: list[Pass]) -> Rates:
    """Measure what `passes` need, at the size, precision and batch of the parameters."""
    rates = Rates(memory=psutil.Process().memory_info().rss)
    device = select_device(params.compute)
    kinds = {key(one) for one in passes}
    with tqdm(total=2 + len(kinds), desc="calibration", leave=False, disable=None) as bar:
        with tempfile.TemporaryDirectory() as folder:
            pixels = _scans(params, Path(folder), rates)
        bar.update()
        x = torch.from_numpy(_views(pixels, params.data.image_size, batch_of(device))).to(device)
        _networks(params, x, passes, rates)
        bar.update(1 + sum(not kind.startswith("train") for kind in kinds))
        _training(params, pixels, passes, device, rates, bar)
    return rates


def _scans(params: Params, folder: Path, rates: Rates) -> NDArray[np.uint8]:
    """Draw, check and decode some phantom scans; (SCANS, R, R) uint8."""
    side = stored_side(params.data.image_size)
    labels = [phantom.LABELS[number % 2] for number in range(SCANS)]
    paths = [folder / f"{number}.jpeg" for number in range(SCANS)]

    def draw(number: int) -> None:
        image = Image.fromarray(phantom.scan(labels[number], 1001 + number, 1, seed=3))
        image.save(paths[number], format="JPEG", quality=phantom.JPEG_QUALITY)

    def check(number: int) -> None:
        sha256_file(paths[number])
        with Image.open(paths[number]) as image:
            perceptual_hash(to_grey(image))

    rates.handled["draw"] = _each(draw)
    rates.handled["check"] = _each(check)
    rates.handled["decode"] = _each(lambda number: decode(paths[number], side))
    return np.stack([decode(path, side) for path in paths])


def _each(work: Callable[[int], object]) -> float:
    """Seconds a scan; the first, which loads what is needed, is done twice."""
    work(0)
    started = time.perf_counter()
    for number in range(SCANS):
        work(number)
    return (time.perf_counter() - started) / SCANS


def _views(pixels: NDArray[np.uint8], size: int, count: int) -> NDArray[np.float32]:
    """(count, 1, S, S) float32 in [0, 1], the scans in turn, each a little brighter."""
    start = round((pixels.shape[1] - size) / 2)
    inside = slice(start, start + size)
    crops = pixels[np.arange(count) % len(pixels), None, inside, inside].astype(np.float32) / 255
    return np.clip(crops + np.linspace(0, 0.1, count, dtype=np.float32)[:, None, None, None], 0, 1)


def _networks(params: Params, x: Tensor, passes: list[Pass], rates: Rates) -> None:
    """Passes through a network that is asked, not trained."""
    model = _model(params, None, x.device)
    if params.attack.channels == "rgb":
        x = x.expand(-1, 3, -1, -1).contiguous()
    y = torch.arange(len(x), device=x.device) % 2
    with torch.inference_mode(), float32():
        rates.passes["forward"] = _best(lambda: logits(model, x), x.device) / len(x)
    wanted = {one.kind for one in passes}
    if "through_art" in wanted:
        with float32():
            taken = _best(lambda: _all_gradients(model, x, y), x.device)
        rates.passes["through_art"] = taken / len(x)
    for precision in {one.precision for one in passes if one.kind in ("gradient", "screen")}:
        _search(params, model, x, y, precision, rates)
    if "corrupt" not in rates.handled:
        some = x.cpu()
        taken = _best(lambda: [corrupt(some, kind, 1) for kind in CORRUPTIONS], x.device)
        rates.handled["corrupt"] = taken / len(x) / len(CORRUPTIONS)


def _all_gradients(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """As ART asks: of the image and, since it backs up a loss, of every parameter."""
    at = x.clone().requires_grad_(True)
    cross_entropy(model(at), y).backward()  # type: ignore[no-untyped-call]


def _search(
    params: Params, model: OCTClassifier, x: Tensor, y: Tensor, precision: str, rates: Rates
) -> None:
    """The search's questions to its copy of the network; with a gradient comes what the solver
    makes of it."""
    speed = Speed(precision=precision)

    def view() -> SearchModel:
        return SearchModel(model, x.shape[1], x.device, targeted=False, speed=speed, spent=Spent())

    rates.passes[f"fold {precision}"] = _best(view, x.device)
    with evaluating(model), torch.no_grad():
        asked = view()
        rates.passes[f"screen {precision}"] = _best(lambda: asked.margin(x, y), x.device) / len(x)
        taken = _best(lambda: asked.margin_and_gradient(x, y), x.device)
        if params.attack.shortcuts.solver == "projection":
            gradient, needed = torch.rand_like(x), torch.ones(len(x), device=x.device)
            taken += _best(lambda: project(gradient, x, needed, params.attack.beta), x.device)
    rates.passes[f"gradient {precision}"] = taken / len(x)


def _training(
    params: Params,
    pixels: NDArray[np.uint8],
    passes: list[Pass],
    device: torch.device,
    rates: Rates,
    bar: tqdm[Any],
) -> None:
    """One short fit for every distinct configuration; validation of the first."""
    size, longest = params.data.image_size, 0.0
    trained = {key(one): one for one in passes if one.kind == "train"}
    for name, one in sorted(trained.items(), key=lambda item: item[1].frozen is not None):
        whole = f"train {one.precision} {one.batch} {one.optimizer} None"
        if longest > LONG_STEP and one.frozen and whole in rates.passes:
            share = one.flops(size) / Pass("train", one.images, one.batch).flops(size)
            rates.passes[name] = rates.passes[whole] * share
        else:
            run = _ShortFit(params, pixels, one, device)
            rates.passes[name] = run.step / one.batch
            longest = max(longest, run.step)
            rates.passes.setdefault(f"validate {one.precision}", run.validation)
            rates.epoch = rates.epoch or run.epoch
            rates.handled.setdefault("augment", run.augment)
        bar.update()


class _ShortFit(Clean):
    """A fit of a few steps that notes when each of them began.

    Attributes:
        step: seconds of one; validation, augment: of an image; epoch: of what follows validation.
    """

    def __init__(
        self, params: Params, pixels: NDArray[np.uint8], one: Pass, device: torch.device
    ) -> None:
        self.stamps: list[float] = []
        self.checked: list[float] = []
        settings = params.train.fit().model_copy(
            update={
                "batch_size": one.batch,
                "precision": one.precision,
                "optimizer": one.optimizer,
                "epochs": 1,
            }
        )
        rows = np.arange(STEPS * one.batch) % len(pixels)
        data = Augmented(
            [Source(GreyPixels(pixels[rows]), np.arange(len(rows)) % 2)],
            params.data.image_size,
            settings.augmentation,
            seed=1,
        )
        self.augment = _best(lambda: [data[0, row] for row in range(8)], torch.device("cpu")) / 8
        batch = params.compute.predict_batch_size
        views = _views(pixels, params.data.image_size, batch)
        with tempfile.TemporaryDirectory() as folder, _silence():
            fit(
                _model(params, one.frozen, device),
                data,
                _Timed(views, self.checked),
                settings,
                checkpoint=Path(folder) / "checkpoint.pt",
                objective=self,
                workers=params.compute.workers,
                label="calibration",
            )
        ended = time.perf_counter()
        self.step = median(np.diff(self.stamps)[1:].tolist())
        self.validation = (self.checked[-1] - self.checked[-2]) / batch
        self.epoch = ended - self.checked[-1]

    def loss(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        done: float,
        outputs: Outputs | None = None,
        share: Share | None = None,
    ) -> tuple[Tensor, Tensor]:
        self.stamps.append(time.perf_counter())
        return super().loss(model, x, y, done, outputs, share)


@dataclass(frozen=True)
class _Timed:
    """The same batch twice, the first of which loads what is needed; notes when each is due."""

    views: NDArray[np.float32]
    stamps: list[float]

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(len(self)):
            self.stamps.append(time.perf_counter())
            yield self.views, np.arange(len(self.views)) % 2
        self.stamps.append(time.perf_counter())


@contextmanager
def _silence() -> Iterator[None]:
    """A fit's bar and lines are of no interest here."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield


def _model(params: Params, frozen: str | None, device: torch.device) -> OCTClassifier:
    settings = params.model.model_copy(update={"weights": "none"})
    model: OCTClassifier = build(settings, frozen, seed=1).to(
        device,
        memory_format=torch.channels_last,  # type: ignore[call-overload]
    )
    return model


def _best(work: Callable[[], object], device: torch.device) -> float:
    """Shortest of some runs after a first one."""
    work()
    return min(_timed(work, device) for _ in range(REPEATS))


def _timed(work: Callable[[], object], device: torch.device) -> float:
    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    started = now()
    work()
    return now() - started
