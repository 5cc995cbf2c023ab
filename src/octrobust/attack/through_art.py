"""Attacks of other hands, run through ART (the Adversarial Robustness Toolbox).

Each function takes the network (N, C, H, W) float32 in [0, 1] to logits (N, 2) and gives a
function of images and true classes. ART works on the network's folded copy in float32, where there
is one and it gives the same answers at the images; and again on the network itself where the two do
not agree on what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from octrobust.attack.search_model import margin
from octrobust.config import AttackSizes
from octrobust.model.fold import FoldedInceptionResnet, can_fold
from octrobust.model.predict import evaluating, float32, logits

# Images (N, C, H, W) float32 in [0, 1] and true classes (N,) int64 to candidates (N, C, H, W).
Candidates = Callable[[Tensor, Tensor], Tensor]


def apgd(model: nn.Module, norm: str, budget: float, sizes: AttackSizes) -> Candidates:
    """Auto-PGD (Croce and Hein 2020) on the cross-entropy; its other loss, the difference of
    logits ratio, is not defined for two classes.

    The cross-entropy of a network that is sure has hardly a gradient, and ART adds 1e-7 to its
    norm: the logits are divided by the median margin at the clean images, which changes no answer.
    ART's returns its last iterate where it has no success, not the best.
    """

    def build(classifier: Any) -> Any:
        from art.attacks.evasion import AutoProjectedGradientDescent

        return AutoProjectedGradientDescent(
            classifier,
            norm=2 if norm == "l2" else np.inf,
            eps=budget,
            eps_step=2 * budget,  # their first step
            max_iter=sizes.steps,
            nb_random_init=1 + sizes.restarts,
            loss_type="cross_entropy",
            verbose=False,
        )

    def run(x: Tensor, y: Tensor) -> Tensor:
        with evaluating(model), torch.no_grad(), float32():
            scale = float(margin(logits(model, x).float(), y, False).abs().median().clamp(min=1.0))
        return _through_art(model, build, sizes.seed, scale=scale)(x, y)

    return run


def square(model: nn.Module, budget: float, sizes: AttackSizes) -> Candidates:
    """Square Attack (Andriushchenko et al. 2020): scores alone. L-infinity only: ART's L2 form (to
    1.20) divides its update by the window's norm where the paper multiplies, and ends in NaN."""

    def build(classifier: Any) -> Any:
        from art.attacks.evasion import SquareAttack

        return SquareAttack(
            classifier,
            norm=np.inf,
            eps=budget,
            max_iter=sizes.square_queries,
            verbose=False,
        )

    return _through_art(model, build, sizes.seed)


def deep_fool(model: nn.Module, sizes: AttackSizes) -> Candidates:
    """DeepFool (Moosavi-Dezfooli et al. 2016): the smallest L2 change, to first order."""

    def build(classifier: Any) -> Any:
        from art.attacks.evasion import DeepFool

        return DeepFool(
            classifier, max_iter=sizes.steps, nb_grads=2, batch_size=16, epsilon=0.02, verbose=False
        )

    return _through_art(model, build, sizes.seed)


def hop_skip_jump(model: nn.Module, sizes: AttackSizes) -> Candidates:
    """HopSkipJump (Chen et al. 2020): the smallest L2 change, from labels alone. It starts at the
    nearest of the images that the network gives another class: ART's own start, random noise,
    cannot be seeded. Where there is none, the image stays as it is."""

    def build(classifier: Any) -> Any:
        from art.attacks.evasion import HopSkipJump

        return HopSkipJump(
            classifier,
            norm=2,
            max_iter=sizes.hop_skip_jump_rounds,
            max_eval=400,
            init_eval=50,
            verbose=False,
        )

    def run(x: Tensor, y: Tensor) -> Tensor:
        with evaluating(model), float32():
            said = _classes(model, x)
        apart = torch.cdist(x.flatten(1), x.flatten(1))
        nearest, start = apart.masked_fill(said[:, None] == said, torch.inf).min(1)
        there = torch.nonzero(torch.isfinite(nearest)).flatten()
        found = x.clone()
        if len(there):
            begin = {"x_adv_init": x[start[there]].cpu().numpy()}
            found[there] = _through_art(model, build, sizes.seed, begin)(x[there], y[there])
        return found

    return run


def _through_art(
    model: nn.Module,
    build: Callable[[Any], Any],
    seed: int,
    more: dict[str, NDArray[Any]] | None = None,
    scale: float = 1.0,
) -> Candidates:
    """ART's attack as `build` makes it of a classifier; `more` goes to its `generate`, an array
    with a row an image each; `scale` is what the logits are divided by."""

    def run(x: Tensor, y: Tensor) -> Tensor:
        with evaluating(model), _frozen(model), float32():
            copy = _faithful_copy(model, x)
            found = _generate(build, _Asked(copy or model, scale), seed, x, y, more or {})
            if copy is None:
                return found
            turned = _classes(copy.logits, found) != y
            lost = torch.nonzero(turned & (_classes(model, found) == y)).flatten()
            if len(lost):
                rows = {name: values[lost.cpu().numpy()] for name, values in (more or {}).items()}
                ask = _Asked(model, scale)
                found[lost] = _generate(build, ask, seed, x[lost], y[lost], rows)
        return found

    return run


def _faithful_copy(model: nn.Module, x: Tensor) -> FoldedInceptionResnet | None:
    """The network's folded copy, if it has one and that says of every x what the network says:
    attacks that leave the class predicted, or start from another image, go by these answers."""
    if not can_fold(model, x.shape[1]):
        return None
    copy = FoldedInceptionResnet(model, x.shape[1])
    return copy if torch.equal(_classes(copy.logits, x), _classes(model, x)) else None


def _classes(ask: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        return logits(ask, x).argmax(1)


def _generate(
    build: Callable[[Any], Any],
    ask: nn.Module,
    seed: int,
    x: Tensor,
    y: Tensor,
    more: dict[str, NDArray[Any]],
) -> Tensor:
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        ask,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=2,
        clip_values=(0.0, 1.0),
        device_type="gpu" if x.device.type == "cuda" else "cpu",
    )
    with _seeded(seed):
        found: NDArray[np.float32] = build(classifier).generate(
            x.cpu().numpy(), y.cpu().numpy(), **more
        )
    return torch.from_numpy(np.clip(found, 0.0, 1.0).astype(np.float32)).to(x.device)


class _Asked(nn.Module):
    """The logits divided by a constant, of images in any precision: ART's Square and HopSkipJump
    ask in float64 at times."""

    def __init__(self, model: nn.Module | FoldedInceptionResnet, scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        if isinstance(self.model, FoldedInceptionResnet):
            outputs: Tensor = _Folded.apply(x, self.model)
        else:
            outputs = self.model(x)
        return outputs / self.scale


class _Folded(torch.autograd.Function):
    """The folded copy as autograd knows functions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, copy: FoldedInceptionResnet) -> Tensor:
        if not ctx.needs_input_grad[0]:
            return copy.logits(x)
        outputs, tape = copy.logits_and_tape(x)
        ctx.x, ctx.copy, ctx.tapes = x, copy, [tape]
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # A tape serves once; DeepFool asks for each class's gradient.
        tape = ctx.tapes.pop() if ctx.tapes else ctx.copy.logits_and_tape(ctx.x)[1]
        return ctx.copy.input_gradient(gradients[0], tape), None


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No gradients of parameters, which ART's backward passes would make for nothing; those that
    the caller has, and ART would drop, are there again afterwards."""
    before = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    for parameter, *_ in before:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, learns, gradient in before:
            parameter.requires_grad_(learns)
            parameter.grad = gradient


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """ART draws from NumPy's and torch's global generators: seed them, and put them back."""
    numpy_state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
