"""The implementations side by side: each one's own call, with the same parameters.

Peers are imported where they are called. They stand in a folder of their own, `PEERS`, behind
everything of the project's environment.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from octrobust.attack import ElasticNet
from octrobust.attack.speed import Shortcuts, Speed
from octrobust.errors import UserError
from octrobust.files import project_home

PEERS = project_home() / ".octrobust" / "scratch" / "benchmarks" / "peers"  # `make bench` fills it
Options = dict[str, Any]


@dataclass(frozen=True)
class Parameters:
    """The attack's, by ART's names; untargeted, elastic-net rule, confidence 0."""

    learning_rate: float = 0.5
    binary_search_steps: int = 9
    max_iter: int = 25
    beta: float = 0.001
    initial_const: float = 0.001


@dataclass(frozen=True)
class Implementation:
    """One row of the tables.

    Attributes:
        options: the library's own switches; for ours `speed` and `shortcuts`.
        parameters: what takes the place of the common ones.
        cost: forward passes that an iteration of one image is worth, roughly; for estimates.
        tf32: whether torch may use TF32 on CUDA, where its default (None) is not meant.
        channels_last: the network is handed over in that layout, which is not torch's default.
    """

    name: str
    library: str
    options: Options = field(default_factory=dict)
    cost: float = 4.0
    parameters: Options = field(default_factory=dict)
    tf32: bool | None = None
    channels_last: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


PEER_ROWS = (
    Implementation("ART, batch 1 (as shipped)", "art", {"batch": 1}, cost=20.0),
    Implementation("ART, batch N", "art", {}, cost=12.0),
    Implementation("foolbox", "foolbox", {"abort_early": False}),
    Implementation("foolbox, early abort", "foolbox", {"abort_early": True}, cost=1.5),
    Implementation("torchattacks", "torchattacks", {"abort_early": False}),
    Implementation("torchattacks, early abort", "torchattacks", {"abort_early": True}, cost=1.5),
    Implementation("advertorch", "advertorch", {"abort_early": False}),
    Implementation("advertorch, early abort", "advertorch", {"abort_early": True}, cost=1.5),
    # What a peer gains where its user knows of the layout.
    Implementation(
        "foolbox, channels-last network", "foolbox", {"abort_early": False}, channels_last=True
    ),
    Implementation(
        "advertorch, channels-last network",
        "advertorch",
        {"abort_early": False},
        channels_last=True,
    ),
)
OURS, OURS_SHORT, OURS_FP32 = "octrobust", "octrobust, shortcuts", "octrobust, fp32"
PROJECTION = "octrobust, projection solver"
# The result-changing options of FISTA in the row `octrobust, shortcuts`: not patience, which at
# learning rate 0.5 costs successes, nor a warm start, which wants a smaller one.
SHORTCUT_ROW = {"screen": "predicted", "first_const": "linear"}
# The peer that found the smallest distances, at parameters that reach them sooner.
TUNED_PEER = Implementation(
    "advertorch, learning rate 0.1, 5 steps",
    "advertorch",
    {"abort_early": False},
    parameters={"learning_rate": 0.1, "binary_search_steps": 5},
)
OUR_ROWS = (OURS, OURS_FP32, OURS_SHORT, PROJECTION)
SPEED_FLAGS = ("reuse_first_gradient", "defer_verdicts", "refill")


def shortcuts(max_iter: int) -> Options:
    """Each result-changing option of ours that keeps FISTA, switched on."""
    return {
        "screen": "predicted",
        "patience": max(3, max_iter // 4),
        "first_const": "linear",
        "warm_start": True,
    }


def our_rows(precision: str, cuda: bool) -> tuple[Implementation, ...]:
    """Ours with all speed-ups, with shortcuts too, by projections; the first in fp32 as well, and
    on CUDA at each precision."""
    speed = {"precision": precision}
    short = {"speed": speed, "shortcuts": SHORTCUT_ROW}
    rows = [
        Implementation(OURS, "octrobust", {"speed": speed}, cost=2.0),
        Implementation(OURS_SHORT, "octrobust", short, cost=1.2),
        projection_row(precision),
    ]
    return (*rows, *precision_rows()[: None if cuda else 1])


def projection_row(precision: str, **parameters: int) -> Implementation:
    """Ours by projections. The common budget is an upper bound: it ends when it has settled."""
    options = {"speed": {"precision": precision}, "shortcuts": {"solver": "projection"}}
    return Implementation(PROJECTION, "octrobust", options, parameters=parameters, cost=0.6)


def quality_rows(precision: str) -> tuple[Implementation, ...]:
    """Ours for time to quality: projections in one step, so that a budget is their number."""
    fista = pick(our_rows(precision, cuda=False), [OURS, OURS_SHORT, OURS_FP32])
    return (*fista, projection_row(precision, binary_search_steps=1))


def precision_rows() -> tuple[Implementation, ...]:
    """Ours at each precision, fp32 first; on CUDA torch's own default lets peers use TF32."""

    def row(name: str, precision: str) -> Implementation:
        options = {"speed": {"precision": precision}}
        return Implementation(name, "octrobust", options, cost=2.0, tf32=False)

    return (
        row(OURS_FP32, "fp32"),
        row("octrobust, TF32", "tf32"),
        row("octrobust, bf16", "bf16"),
    )


def ablation_rows(max_iter: int, precision: str, bf16: bool) -> tuple[Implementation, ...]:
    """Ours as it is, without one speed-up at a time, with one shortcut at a time."""
    base = {"precision": precision}

    def row(name: str, speed: Options, short: Options | None = None) -> Implementation:
        options = {"speed": base | speed, "shortcuts": short or {}}
        return Implementation(name, "octrobust", options, cost=2.0)

    every = shortcuts(max_iter)
    precisions = ("fp32", "bf16") if bf16 else ("fp32",)
    return (
        row(OURS, {}),
        *(row(f"{name} search", {"precision": name}) for name in precisions),
        # Without folding, `auto` is fp32: each is to be set beside the search of its precision.
        *(row(f"without fold, {name}", {"precision": name, "fold": False}) for name in precisions),
        *(row(f"without {flag}", {flag: False}) for flag in SPEED_FLAGS),
        *(row(f"with {name}={value}", {}, {name: value}) for name, value in every.items()),
        row("with all of these", {}, every),
        row("with solver=projection", {}, {"solver": "projection"}),
    )


def pick(rows: tuple[Implementation, ...], names: list[str]) -> tuple[Implementation, ...]:
    """The rows of these names, all where none is named."""
    unknown = sorted(set(names) - {row.name for row in rows})
    if unknown:
        known = "; ".join(row.name for row in rows)
        raise UserError(f"no implementation {'; '.join(unknown)} here; there are: {known}")
    return tuple(row for row in rows if not names or row.name in names)


# Crafting: images (N, C, S, S) float32 in [0, 1] and classes (N,) to adversarial images.
Craft = Callable[[Tensor, Tensor], Tensor]


def crafter(
    library: str, model: nn.Module, parameters: Parameters, options: Options, batch: int
) -> Craft:
    """The implementation as a function; `batch` images at a time."""
    build = {
        "art": _art,
        "foolbox": _foolbox,
        "torchattacks": _torchattacks,
        "advertorch": _advertorch,
    }[library]
    with peers():
        return build(model, parameters, batch, **options)


@contextmanager
def peers() -> Iterator[None]:
    """Peers can be imported; one that is not there is one line."""
    if str(PEERS) not in sys.path:
        sys.path.append(str(PEERS))
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: run `make bench`, it does that") from None


def our_attack(
    model: nn.Module, parameters: Parameters, options: Options, batch: int
) -> ElasticNet:
    """`octrobust.attack.ElasticNet` with `options` for its speed and shortcuts."""
    return ElasticNet(
        model,
        **asdict(parameters),
        batch_size=batch,
        speed=Speed(**options.get("speed", {})),
        shortcuts=Shortcuts(**options.get("shortcuts", {})),
    )


def _in_batches(attack: Craft, batch: int) -> Craft:
    def craft(x: Tensor, y: Tensor) -> Tensor:
        parts = zip(x.split(batch), y.split(batch), strict=True)
        return torch.cat([attack(images, labels) for images, labels in parts])

    return craft


def _art(model: nn.Module, parameters: Parameters, default: int, batch: int | None = None) -> Craft:
    from art.attacks.evasion import ElasticNet as ARTElasticNet
    from art.estimators.classification import PyTorchClassifier

    def craft(x: Tensor, y: Tensor) -> Tensor:
        classifier = PyTorchClassifier(
            model,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=2,
            clip_values=(0.0, 1.0),
            device_type="gpu" if x.is_cuda else "cpu",
        )
        attack = ARTElasticNet(
            classifier, batch_size=batch or default, verbose=False, **asdict(parameters)
        )
        return torch.from_numpy(attack.generate(x.cpu().numpy(), y.cpu().numpy())).to(x.device)

    return craft


def _foolbox(model: nn.Module, parameters: Parameters, batch: int, abort_early: bool) -> Craft:
    import foolbox

    device = next(model.parameters()).device
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=device)
    attack = foolbox.attacks.EADAttack(
        binary_search_steps=parameters.binary_search_steps,
        steps=parameters.max_iter,
        initial_stepsize=parameters.learning_rate,
        confidence=0.0,
        initial_const=parameters.initial_const,
        regularization=parameters.beta,
        decision_rule="EN",
        abort_early=abort_early,
    )
    # `run` rather than the call, which would ask the network once more about the result.
    return _in_batches(
        lambda x, y: attack.run(wrapped, x, foolbox.criteria.Misclassification(y)), batch
    )


def _torchattacks(model: nn.Module, parameters: Parameters, batch: int, abort_early: bool) -> Craft:
    import torchattacks

    attack = torchattacks.EADEN(
        model,
        kappa=0,
        lr=parameters.learning_rate,
        binary_search_steps=parameters.binary_search_steps,
        max_iterations=parameters.max_iter,  # under 10, early abort divides by zero
        abort_early=abort_early,
        initial_const=parameters.initial_const,
        beta=parameters.beta,
    )
    return _in_batches(attack, batch)


def _advertorch(model: nn.Module, parameters: Parameters, batch: int, abort_early: bool) -> Craft:
    attack = _elastic_net_of_advertorch()(
        model,
        num_classes=2,
        confidence=0,
        learning_rate=parameters.learning_rate,
        binary_search_steps=parameters.binary_search_steps,
        max_iterations=parameters.max_iter,
        abort_early=abort_early,
        initial_const=parameters.initial_const,
        beta=parameters.beta,
        decision_rule="EN",
    )
    return _in_batches(attack.perturb, batch)


def _elastic_net_of_advertorch() -> Any:
    """advertorch's class with the two calls mended that torch no longer has, and nothing else.

    Its package imports `zero_gradients`, for another attack, from where torch 1.9 took it away;
    its attack calls `add_(number, tensor)`, which is `add_(tensor, alpha=number)` now.
    """
    gradcheck = sys.modules["torch.autograd.gradcheck"]
    gradcheck.zero_gradients = None  # type: ignore[attr-defined]
    from advertorch.attacks import ead

    removed, now = "add_(-lr, yy_k.grad.data)", "add_(yy_k.grad.data, alpha=-lr)"
    source = inspect.getsource(ead)
    if removed not in source:
        raise UserError("advertorch: not the release that the benchmark knows how to mend (0.2.3)")
    exec(compile(source.replace(removed, now), Path(ead.__file__).name, "exec"), ead.__dict__)
    return ead.ElasticNetL1Attack
