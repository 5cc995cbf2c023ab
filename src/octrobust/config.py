"""params.yaml as typed sections. An unknown key or a value out of range names itself."""

from __future__ import annotations

import importlib
import pkgutil
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from octrobust.errors import UserError
from octrobust.files import read_yaml

T = TypeVar("T")

LARGEST = 2**31 - 1  # torch's and NumPy's seeds and sizes hold no larger ones everywhere


def _distinct(values: list[T]) -> list[T]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("distinct", "Each must be another")
    return values


def _files(folder: str) -> list[str]:
    """The names of the files of this package's `folder`: what has one can be chosen."""
    there = pkgutil.iter_modules([str(Path(__file__).parent / folder)])
    return sorted(one.name for one in there)


def _one_of(names: list[str]) -> AfterValidator:
    """Like `Literal`, of names that are found out."""

    def check(name: str) -> str:
        if name not in names:
            there = ", ".join(names)
            raise PydanticCustomError("no_such_file", "Should be one of: {there}", {"there": there})
        return name

    return AfterValidator(check)


def _listed(names: list[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": names})


SOURCES, METHODS = _files("data/sources"), _files("training/defences")

Positive = Annotated[int, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[int, Field(ge=0, le=LARGEST)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BatchSize = Annotated[int, Field(ge=2, le=LARGEST)]  # BatchNorm cannot be trained on one image
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Where = Annotated[str, Field(pattern=r"^[^\x00]+$")]  # a path
Distinct = Annotated[list[T], AfterValidator(_distinct)]
Several = Annotated[list[T], Field(min_length=1), AfterValidator(_distinct)]

SPLITS = ("train", "validation", "test", "extra")
MOST_AT_ONCE = 1024  # threads or processes: more is a slip of the finger
# Inception-ResNet-V1's strides leave nothing of an image smaller than this.
SMALLEST_IMAGE = 75


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Phantom(Section):
    """Embedded synthetic data; see `octrobust.data.phantom`."""

    patients_per_class: Positive
    images_per_patient: Positive
    seed: NonNegative


class Data(Section):
    source: Annotated[str, _one_of(SOURCES), _listed(SOURCES)]
    root: Where | None
    archive: Where | None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None
    classes: tuple[Name, Name]
    image_size: Annotated[int, Field(ge=SMALLEST_IMAGE, le=1024)]
    max_quarantined: NonNegative
    phantom: Phantom

    @model_validator(mode="before")
    @classmethod
    def _classes_from_yaml(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("classes"), list):
            values = {**values, "classes": tuple(values["classes"])}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Data:
        if self.classes[0].casefold() == self.classes[1].casefold():
            raise ValueError("classes: the two classes must differ, and not in case alone")
        if self.source == "folder" and not self.root:
            raise ValueError("root: source 'folder' needs data.root, a directory of CLASS/ folders")
        if self.archive and self.source != "kermany":
            raise ValueError("archive: only source 'kermany' reads an archive")
        if self.archive and self.root:
            raise ValueError("archive: give data.root or data.archive, not both")
        return self


class Split(Section):
    """Images per class in every split."""

    by: Literal["patient", "image"]
    seed: NonNegative
    train: Positive
    validation: Positive
    test: Positive
    extra: NonNegative

    def counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in SPLITS}


class Model(Section):
    weights: Where  # vggface2, casia-webface, none, or a path
    standardisation: Literal["none", "facenet"]
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Augmentation(Section):
    """Random resized crop (area as a fraction of the image), horizontal flip, rotation (degrees
    at most) and change of brightness and contrast (by a factor from 1 - contrast to 1 + contrast
    each)."""

    crop_scale_min: Annotated[float, Field(gt=0, le=1)]
    flip: Fraction
    rotation: Annotated[float, Field(ge=0, le=180)]
    contrast: Annotated[float, Field(ge=0, lt=1)]


class Fit(Section):
    """What the one fit loop needs; see `octrobust.training.fit`."""

    optimizer: Literal["sgd", "adamw"]
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegativeFloat
    schedule: Literal["constant", "cosine"]
    batch_size: BatchSize
    epochs: Positive
    precision: Literal["auto", "fp32", "bf16"]
    seed: NonNegative
    augmentation: Augmentation


class Variant(Section):
    freeze_through: Name | None


class Train(Fit):
    variants: Annotated[dict[Name, Variant], Field(min_length=1)]

    def fit(self) -> Fit:
        return Fit.model_validate(self.model_dump(exclude={"variants"}))


class ImagesPerClass(Section):
    train: Positive | None
    test: Positive | None


class Shortcuts(Section):
    """What changes the published algorithm's result; see `octrobust.attack.speed`."""

    solver: Literal["fista", "projection"]
    screen: Literal["every", "predicted"]
    patience: Positive | None
    first_const: Literal["given", "linear"]
    warm_start: bool

    @model_validator(mode="after")
    def _no_idle_option(self) -> Shortcuts:
        of_fista = (self.screen, self.first_const, self.warm_start)
        if self.solver == "projection" and of_fista != ("every", "given", False):
            raise ValueError(
                "solver: projection has no screen, first_const or warm_start, which are fista's; "
                "leave them at every, given and false"
            )
        return self


class Attack(Section):
    """Elastic-Net attack (Chen et al. 2018); names as in the paper."""

    target: Name
    learning_rate: PositiveFloat
    binary_search_steps: Positive
    max_iter: Positive
    beta: NonNegativeFloat
    initial_const: PositiveFloat
    confidence: NonNegativeFloat
    decision_rule: Literal["EN", "L1", "L2"]
    channels: Literal["grey", "rgb"]
    precision: Literal["auto", "fp32", "tf32", "bf16"]
    shortcuts: Shortcuts
    images_per_class: ImagesPerClass


class Inner(Section):
    """Adversarial examples made afresh in training; see `octrobust.training.objectives`."""

    norm: Literal["L2", "Linf"]
    budget: PositiveFloat
    steps: Positive
    ramp: Fraction
    weight: PositiveFloat | None
    validation_budget: PositiveFloat
    validation_steps: Positive


def _start(where: str) -> str:
    """Like a pattern, but a misspelt word is told what there is."""
    if where not in STARTS and (Path(where).suffix not in WEIGHT_FILES or "\0" in where):
        there = f"{', '.join(STARTS)} or a file ({', '.join(WEIGHT_FILES)})"
        raise PydanticCustomError("no_such_start", "Should be {there}", {"there": there})
    return where


STARTS, WEIGHT_FILES = ("attacked", "fresh"), (".safetensors", ".pt", ".pth")
_START = r"^(attacked|fresh|\w+\.(safetensors|pt|pth))$"  # some of them, for the schema
Start = Annotated[
    str, AfterValidator(_start), WithJsonSchema({"type": "string", "pattern": _START})
]

HARDENED = "hardened"  # what the names of hardened models begin with
PAPERS = f"{HARDENED}_static"  # the one that the paper's way gives
CLEAN, BATTERY = "clean", "battery"  # stand beside the models' names in results
TAKEN = (CLEAN, BATTERY, "attacked")  # the last in the summary


class Defence(Section):
    """One way to harden. A method is a file of `octrobust.training.defences`; epochs and
    learning_rate replace those of `harden`; for `starts_from` see `octrobust.stages.harden`, for
    `patience` and `average` `octrobust.training.fit`, for `threshold`
    `octrobust.training.threshold`."""

    method: Annotated[str, _one_of(METHODS), _listed(METHODS)]
    learns_from: Literal["data/adversarial/train", "data/arrays/train.npy"]
    starts_from: Start
    epochs: Positive | None
    learning_rate: PositiveFloat | None
    patience: Positive | None
    average: Annotated[float, Field(gt=0, lt=1)] | None
    threshold: Literal["learnt", "moved"]
    inner: Inner | None

    def first_weights(self, common: str) -> str | None:
        """Of a network of its own: `common` (``model.weights``) or the file that `starts_from`
        names. None: it goes on from the attacked model."""
        known = {"attacked": None, "fresh": common}
        return known.get(self.starts_from, self.starts_from)

    @model_validator(mode="after")
    def _consistent(self) -> Defence:
        needs = importlib.import_module(f"octrobust.training.defences.{self.method}").NEEDS
        online = "inner" in needs
        if online != (self.inner is not None):
            raise ValueError(f"inner: method {self.method} {'needs it' if online else 'has none'}")
        if not online and self.threshold == "moved":
            raise ValueError("threshold: moved needs a method that attacks images afresh")
        weighs = "inner.weight" in needs
        if self.inner and weighs != (self.inner.weight is not None):
            raise ValueError(
                f"inner.weight: method {self.method} {'needs it' if weighs else 'has none'}"
            )
        images = "data/arrays/train.npy" if online else "data/adversarial/train"
        if self.learns_from != images:
            raise ValueError(f"learns_from: method {self.method} learns from {images}")
        return self


class Harden(Fit):
    """Adversarial training: the fit loop, in every variant's way."""

    variants: Annotated[dict[Name, Defence], Field(min_length=1)]

    def fit(self, variant: str) -> Fit:
        """The fit loop's settings for this variant, its own in place of the common ones."""
        own = self.variants[variant]
        common = self.model_dump(exclude={"variants"})
        replaced = {"epochs": own.epochs, "learning_rate": own.learning_rate}
        return Fit.model_validate({**common, **{k: v for k, v in replaced.items() if v}})

    @model_validator(mode="after")
    def _has_the_papers(self) -> Harden:
        if "static" not in self.variants or self.variants["static"].method != "static":
            raise ValueError("variants.static: the paper's own way, method static, must be there")
        return self


def middle(budgets: Sequence[float]) -> float:
    """The budget that models are judged by; of an even number the larger of the two."""
    return sorted(budgets)[len(budgets) // 2]


class AttackSizes(Section):
    """How hard the battery tries; see `octrobust.attack.suite`. A count of 0: not run."""

    l2: Several[PositiveFloat]
    linf: Several[PositiveFloat]
    steps: Annotated[int, Field(ge=2, le=LARGEST)]
    restarts: NonNegative
    square_queries: NonNegative
    hop_skip_jump_rounds: NonNegative
    noise_draws: NonNegative
    seed: NonNegative


class Battery(AttackSizes):
    """Of which models, on which images."""

    models: Several[Name]
    images_per_class: Positive | None
    channels: Several[Literal["grey", "rgb"]]


class Evaluate(Section):
    adaptive: Several[Name]
    images_per_class: Positive | None
    seeds: Distinct[NonNegative]
    confidence_level: Annotated[float, Field(gt=0.5, lt=1)]
    corruption_severities: Distinct[Annotated[int, Field(ge=1, le=5)]]
    battery: Battery


class CarliniWagner(Section):
    """The notebooks' attack; see `octrobust.attack.carlini_wagner`."""

    learning_rate: PositiveFloat
    binary_search_steps: Positive
    max_iter: Positive
    initial_const: PositiveFloat


class Replay(Section):
    """What the paper's notebooks ran; see `octrobust.stages.replay`."""

    standardisation: Literal["none", "facenet"]
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]
    batch_size: BatchSize
    epochs_before_attack: PositiveFloat
    epochs_of_hardening: PositiveFloat
    share_of_validation: Annotated[float, Field(gt=0, le=1)]
    train_images_per_class: Positive | None
    seed: NonNegative
    attack: CarliniWagner


class Slurm(Section):
    """What launcher submitit asks for; see `octrobust.launch.slurm`."""

    cluster: Literal["slurm", "local"]
    partition: Annotated[str, Field(pattern=r"^[^\s\x00]+$")] | None
    minutes: Positive
    memory_gb: Positive | None


class Compute(Section):
    """How, never what: nothing here may change a result beyond a device's rounding."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]{1,2})?)$")]
    threads: Annotated[int, Field(gt=0, le=MOST_AT_ONCE)] | None
    workers: Annotated[int, Field(ge=0, le=MOST_AT_ONCE)]
    predict_batch_size: Positive
    attack_batch_size: Positive | None
    shard_size: Positive
    launcher: Literal["none", "torchrun", "submitit"]
    processes: Annotated[int, Field(gt=0, le=MOST_AT_ONCE)]
    nodes: Annotated[int, Field(gt=0, le=MOST_AT_ONCE)]
    rendezvous: Annotated[str, Field(pattern=r"^[^\s:]+:\d{1,5}$")] | None
    restarts: Annotated[int, Field(ge=0, le=MOST_AT_ONCE)]
    slurm: Slurm

    @model_validator(mode="after")
    def _consistent(self) -> Compute:
        if self.launcher == "none" and self.processes * self.nodes > 1:
            raise ValueError("processes: launcher none has one, on one node; set launcher torchrun")
        if self.launcher == "torchrun" and (self.nodes > 1) != (self.rendezvous is not None):
            raise ValueError("rendezvous: HOST:PORT of the first machine, if there are several")
        if self.processes > 1 and ":" in self.device:
            raise ValueError("device: several processes take a CUDA device each; set it to cuda")
        return self


class Params(Section):
    data: Data
    split: Split
    model: Model
    train: Train
    attack: Attack
    harden: Harden
    evaluate: Evaluate
    replay: dict[Literal["notebooks"], Replay]
    compute: Compute

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        for name in self.train.variants:
            if name.startswith(HARDENED):
                raise ValueError(f"train.variants.{name}: {HARDENED}... is for hardened models")
            if name in TAKEN:
                raise ValueError(f"train.variants.{name}: this name is taken, choose another")
        if self.attack.target not in self.train.variants:
            known = ", ".join(self.train.variants)
            raise ValueError(f"attack.target: '{self.attack.target}' is none of: {known}")
        for key, names in (
            ("evaluate.adaptive", self.evaluate.adaptive),
            ("evaluate.battery.models", self.evaluate.battery.models),
        ):
            for name in names:
                if name not in self.models():
                    known = ", ".join(self.models())
                    raise ValueError(f"{key}: '{name}' is none of: {known}")
        if self.attack.target in self.evaluate.adaptive:
            raise ValueError(
                f"evaluate.adaptive: the set made on attack.target, {self.attack.target}, is there "
                "already: name the other models only"
            )
        if PAPERS not in self.evaluate.adaptive:
            raise ValueError(f"evaluate.adaptive: {PAPERS} must be there, the headline needs it")
        return self

    def models(self) -> tuple[str, ...]:
        """All models by the names of their folders: train variants, then hardened ones."""
        return (*self.train.variants, *self.hardened())

    def hardened(self) -> dict[str, Defence]:
        """The hardened models by the names of their folders."""
        return {f"{HARDENED}_{name}": way for name, way in self.harden.variants.items()}

    def controls(self) -> list[str]:
        """The hardened models that learnt no adversarial image."""
        return [name for name, way in self.hardened().items() if way.method == "duplicates"]


def _short(value: object) -> str:
    shortened = reprlib.Repr()
    shortened.maxstring = shortened.maxother = 60
    try:
        return shortened.repr(value)
    except ValueError:  # Python prints no number of more than 4300 digits
        return "a number too long to show"


def _describe(item: ErrorDetails) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "value_error":  # ours, and begins with a key
        return f"{where}{'.' if where else ''}{item['ctx']['error']}"
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown parameter"
    if item["type"] == "missing":
        return f"{where}: missing"
    return f"{where or 'all of it'}: {item['msg']} (got {_short(item['input'])})"


def parse(values: object, source: str = "parameters") -> Params:
    """Check `values` (as read from YAML) against the schema.

    Raises:
        UserError: with every offending key by its dotted name.
    """
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(map(_describe, error.errors(include_url=False)))
        raise UserError(f"{source}: {problems}") from None


def load(path: Path | str = "params.yaml") -> Params:
    """Read and check a parameter file."""
    return parse(read_yaml(Path(path)), str(path))
