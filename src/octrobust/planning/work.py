"""What every stage does for given parameters: images, passes through the network, memory, disk.

Arithmetic over `Params` alone. Where a number depends on the data (how many passes an attack needs
until it has settled, how many images are left at a larger budget), a typical one stands in TYPICAL.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from octrobust.config import Attack, Defence, Fit, Params
from octrobust.planning import network

CLASSES = 2
MIB = 2**20
# Kinds of images handled outside the network.
Handling = Literal["draw", "check", "decode", "augment", "corrupt"]
# What a stage's process has to load before it works.
Needs = Literal["files", "validation", "torch", "art", "report"]
Kind = Literal["train", "validate", "gradient", "fold", "screen", "forward", "through_art"]
BATCH = 16  # what a network that is asked sees at once, see octrobust.model.predict
BATCH_NORM_IMAGES = 256  # of octrobust.stages.train.CALIBRATION_IMAGES


@dataclass(frozen=True)
class Typical:
    """What only a run can tell, as seen; benchmarks/results and the demo's metrics/attack.

    Attributes:
        projection: gradients, screens and verdicts an image by the solver projection.
        longest: gradients of the slowest image of a shard: at the end, batches are padded for it.
        rule_l1: how many times as long the solver projection takes by the rule L1.
        screened: screens for every gradient by fista, where every iterate is asked about, and where
            predicted ones are.
        verdicts: verdicts an image by fista.
        skipped: share of a fista search's gradients that are not computed, see
            `octrobust.attack.speed.Speed.reuse_first_gradient`.
        left: share of images that an attack at a smaller budget left for the next one.
        jpeg_bytes: of a scan's file.
        compressed: what a compressed shard takes, as a share of its float32 pixels.
    """

    projection: tuple[float, float, float] = (18.0, 0.2, 5.0)
    longest: float = 65.0
    rule_l1: float = 1.7
    screened: tuple[float, float] = (1.0, 0.15)
    verdicts: float = 9.0
    skipped: float = 0.13
    left: float = 0.7
    jpeg_bytes: int = 45_000
    compressed: float = 0.6


TYPICAL = Typical()


@dataclass(frozen=True)
class Pass:
    """Images that go through the network in one way.

    Attributes:
        kind: train: a step of an optimiser; validate: forward in a fit; gradient, screen: forward
            and backward, or forward alone, of the folded copy, a search's or that which ART's
            attacks work on; forward: of the network itself in float32; through_art: forward and
            backward of it, as ART asks; fold: no image, but one folding of the network.
        images: counted once for every time they pass; of a search, what batches are filled up
            with as well.
        batch: at once.
        precision: as in the parameters.
        frozen: train: what is frozen, see `octrobust.model.build.freeze_through`.
        optimizer: train.
    """

    kind: Kind
    images: float
    batch: int
    precision: str = "fp32"
    frozen: str | None = None
    optimizer: str = ""

    def flops(self, size: int) -> float:
        """Of the network as built; the folded copy computes a little less."""
        if self.kind == "fold":
            return 0.0
        if self.kind == "train":
            each = network.training_flops(size, self.frozen)
        elif self.kind in ("gradient", "through_art"):
            each = network.gradient_flops(size)
        else:
            each = network.forward_flops(size)
        return self.images * each


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: as DVC has it.
        images: that it works on.
        passes: through the network.
        handled: images by what else is done to them.
        epochs: of fits, each with a checkpoint.
        rows: of tables written and checked.
        memory: bytes beside what a process with torch has: weights, activations, arrays.
        disk: bytes that stay.
        needs: what its process loads.
    """

    name: str
    images: int
    passes: tuple[Pass, ...] = ()
    handled: dict[Handling, int] = field(default_factory=dict)
    epochs: int = 0
    rows: int = 0
    memory: int = 0
    disk: int = 0
    needs: Needs = "torch"

    def flops(self, size: int) -> float:
        return sum(one.flops(size) for one in self.passes)


def stages(params: Params) -> list[Stage]:
    """Every stage of dvc.yaml in the order in which it runs."""
    from octrobust.planning import measuring

    attacks = [attack_stage(params, f"attack@{split}", split) for split in ("train", "test")]
    return [
        *_data_stages(params),
        *(train_stage(params, name) for name in params.train.variants),
        *attacks,
        *(harden_stage(params, name) for name in params.harden.variants),
        *(adaptive_stage(params, name) for name in params.evaluate.adaptive),
        *measuring.stages(params),
    ]


def split_images(params: Params) -> dict[str, int]:
    """Images of every split, both classes."""
    return {name: CLASSES * count for name, count in params.split.counts().items()}


def raw_images(params: Params) -> int:
    """Drawn by the phantom; of another source at least what the splits take."""
    if params.data.source == "phantom":
        size = params.data.phantom
        return CLASSES * size.patients_per_class * size.images_per_patient
    return sum(split_images(params).values())


def attacked_images(params: Params, split: str) -> int:
    """Of train or test, as `attack.images_per_class` has it."""
    return some_of(params, split, getattr(params.attack.images_per_class, split))


def some_of(params: Params, split: str, per_class: int | None) -> int:
    """Images of a split where so many of each class are taken; None: all."""
    available = params.split.counts()[split]
    return CLASSES * min(per_class or available, available)


def channels(params: Params) -> int:
    return 1 if params.attack.channels == "grey" else 3


def float_bytes(params: Params, depth: int) -> int:
    """Of one image in float32 with so many channels."""
    return 4 * depth * params.data.image_size**2


def _data_stages(params: Params) -> Iterator[Stage]:
    raw, used = raw_images(params), sum(split_images(params).values())
    drawn: dict[Handling, int] = {"draw": raw} if params.data.source == "phantom" else {}
    stored = used * round(params.data.image_size * 256 / 224) ** 2
    yield Stage(
        "ingest",
        raw,
        handled={**drawn, "check": raw},
        rows=raw,
        disk=raw * TYPICAL.jpeg_bytes,
        needs="files",
    )
    yield Stage("split", raw, rows=raw + used, needs="files")
    yield Stage("validate", used, rows=raw + used, needs="validation")
    yield Stage(
        "prepare",
        used,
        handled={"decode": used},
        rows=used,
        memory=params.data.image_size**2,
        disk=stored,
        needs="files",
    )


def train_stage(params: Params, variant: str) -> Stage:
    frozen = params.train.variants[variant].freeze_through
    images = split_images(params)["train"]
    settings = params.train.fit()
    return Stage(
        f"train@{variant}",
        images,
        passes=(
            *_start(params, params.model.weights),
            *fit_passes(params, settings, images, frozen),
        ),
        handled={"augment": _steps(images, settings) * settings.batch_size},
        epochs=settings.epochs,
        memory=_fit_memory(params, settings, frozen),
        disk=network.model_bytes(),
    )


def harden_stage(params: Params, variant: str) -> Stage:
    way, settings = params.harden.variants[variant], params.harden.fit(variant)
    splits = split_images(params)
    images = splits["train"] + splits["extra"]
    if way.inner is None:
        images += attacked_images(params, "train")
    weights = way.first_weights(params.model.weights)
    frozen = None if weights else params.train.variants[params.attack.target].freeze_through
    passes = [*_start(params, weights), *fit_passes(params, settings, images, frozen)]
    if way.inner:
        passes += _attacked_passes(params, way, settings, images)
    average = network.model_bytes() if way.average else 0
    return Stage(
        f"harden@{variant}",
        images,
        passes=tuple(passes),
        handled={"augment": _steps(images, settings) * settings.batch_size},
        epochs=settings.epochs,
        memory=_fit_memory(params, settings, frozen) + average,
        disk=network.model_bytes(),
    )


def _start(params: Params, weights: str | None) -> tuple[Pass, ...]:
    """BatchNorm's first statistics, where the weights are random."""
    if weights != "none":
        return ()
    return (Pass("forward", min(BATCH_NORM_IMAGES, split_images(params)["train"]), 64),)


def _steps(images: int, settings: Fit) -> int:
    """Of a whole fit; the last incomplete batch of an epoch is dropped."""
    return images // settings.batch_size * settings.epochs


def fit_passes(params: Params, settings: Fit, images: int, frozen: str | None) -> list[Pass]:
    """A fit's training images, and its validation after every epoch."""
    validation = split_images(params)["validation"] * settings.epochs
    size, batch = settings.batch_size, params.compute.predict_batch_size
    trained = _steps(images, settings) * size
    return [
        Pass("train", trained, size, settings.precision, frozen, settings.optimizer),
        Pass("validate", validation, batch, settings.precision),
    ]


def _attacked_passes(params: Params, way: Defence, settings: Fit, images: int) -> Iterator[Pass]:
    """What attacking the model in every step, every epoch's validation images, and those that place
    the line between the classes, adds."""
    assert way.inner is not None
    trained, batch = _steps(images, settings) * settings.batch_size, settings.batch_size
    validation = split_images(params)["validation"]
    challenged = validation * settings.epochs
    if way.threshold == "moved":
        challenged += validation + images
    inner, precision = way.inner, settings.precision
    at_once = params.compute.predict_batch_size
    yield Pass("fold", _steps(images, settings) + challenged / at_once, 1, precision)
    yield Pass("gradient", trained * inner.steps, batch, precision)
    yield Pass("gradient", challenged * inner.validation_steps, batch, precision)
    yield Pass("validate", challenged, at_once, precision)
    if way.method == "trades":  # on the clean images as well
        yield Pass("train", trained, batch, precision, None, settings.optimizer)


def _fit_memory(params: Params, settings: Fit, frozen: str | None) -> int:
    """Weights, their best copy, gradients and the optimiser's state; and what a batch leaves for
    the way back: of every convolution its output before and after BatchNorm and relu."""
    from octrobust.model.device import select_device, use_bf16

    states = {"adamw": 2, "sgd": 1}[settings.optimizer]
    trained = 4 * network.parameters(frozen) * (1 + states)
    width = 2 if use_bf16(settings.precision, select_device(params.compute)) else 4
    activations = 2 * network.values(params.data.image_size, frozen) * width * settings.batch_size
    return 2 * network.model_bytes() + trained + activations


def attack_stage(params: Params, name: str, split: str) -> Stage:
    return _attack(params, name, attacked_images(params, split))


def adaptive_stage(params: Params, model: str) -> Stage:
    images = some_of(params, "test", params.evaluate.images_per_class)
    return _attack(params, f"adaptive@{model}", images)


def _attack(params: Params, name: str, images: int) -> Stage:
    pixels = float_bytes(params, channels(params))
    return Stage(
        name,
        images,
        # Predicted before, after, and after rounding to 8 bits.
        passes=(
            Pass("fold", -(-images // params.compute.shard_size), 1, params.attack.precision),
            *search_passes(params.attack, images, params.compute.shard_size),
            Pass("forward", 3 * images, BATCH),
        ),
        rows=images,
        memory=attack_memory(params, min(images, params.compute.shard_size)),
        disk=int(images * pixels * TYPICAL.compressed),
    )


def search_passes(attack: Attack, images: int, shard: int) -> Iterator[Pass]:
    """Of the Elastic-Net attack on so many images, `shard` at a time."""
    budget, filled = attack.binary_search_steps * attack.max_iter, 0.0
    if attack.shortcuts.solver == "projection":
        longer = TYPICAL.rule_l1 if attack.decision_rule == "L1" else 1.0
        gradients, screens, verdicts = TYPICAL.projection
        gradients = min(gradients * longer, budget)
        slowest = min(TYPICAL.longest * longer, budget)
        filled = -(-images // shard) * BATCH * (slowest - gradients)
    else:
        gradients, verdicts = budget * (1 - TYPICAL.skipped), TYPICAL.verdicts
        every, predicted = TYPICAL.screened
        screens = gradients * (every if attack.shortcuts.screen == "every" else predicted)
    yield Pass("gradient", images * gradients + filled, BATCH, attack.precision)
    yield Pass("screen", images * screens, BATCH, attack.precision)
    yield Pass("forward", images * verdicts, BATCH)


def attack_memory(params: Params, images: int) -> int:
    """The network and its folded copy, a batch's outputs, and the images with their best."""
    batch = max(params.compute.attack_batch_size or 0, BATCH)  # never fewer, see Speed.fill
    outputs = 4 * network.values(params.data.image_size) * batch
    return 2 * network.model_bytes() + outputs + 4 * images * float_bytes(params, channels(params))
