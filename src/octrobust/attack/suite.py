"""The battery: many attacks on one network, each judged in the same way.

Every attack turns images into candidates; what they are worth is measured afterwards, on the
candidates, by the network itself. Those of other hands run through ART.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from octrobust.attack import distances
from octrobust.attack.elastic_net import ElasticNet
from octrobust.attack.pgd import ascend, project, random_start
from octrobust.attack.search_model import SearchModel, margin
from octrobust.attack.speed import Speed, Spent
from octrobust.config import middle
from octrobust.data.jpeg import through_jpeg
from octrobust.model.predict import evaluating, float32, logits

Kind = Literal["white-box", "score", "label", "noise"]
# Images (N, C, H, W) float32 in [0, 1] and true classes (N,) int64 to candidates (N, C, H, W).
Candidates = Callable[[Tensor, Tensor], Tensor]
JUDGED = ("success", "success_8bit", "success_jpeg", "success_grey")
JPEG_QUALITY = 90
NORMS = {"l2": "L2", "linf": "Linf"}
_LONG = 4  # times the steps, at the middle budget of each norm: does PGD still gain?
_STRIDE = 2.5  # steps of PGD cross the ball so many times
_STRETCHES = 8  # of clipped noise back to its norm


@dataclass(frozen=True)
class Attack:
    """One attack at one setting.

    Attributes:
        method: unique in a battery together with norm and budget; `name` is made of the three.
        kind: what it sees of the network: gradients, scores, labels or nothing.
        norm, budget: the ball; None: it looks for the smallest change instead.
        run: images and classes to candidates.
    """

    method: str
    kind: Kind
    norm: str | None
    budget: float | None
    run: Candidates

    @property
    def name(self) -> str:
        return self.method if self.norm is None else f"{self.method}_{self.norm}_{self.budget:g}"


@dataclass(frozen=True)
class Sizes:
    """How hard to try; see `octrobust.config.Battery`, whose keys these are.

    Attributes:
        l2, linf: budgets, pixels in [0, 1].
        steps: of PGD, APGD and DeepFool.
        restarts: random starts of PGD, beside the image itself.
        square_queries, hop_skip_jump_rounds, noise_draws: of those attacks; 0: not run.
        seed: of every random start.
    """

    l2: tuple[float, ...]
    linf: tuple[float, ...]
    steps: int
    restarts: int
    square_queries: int
    hop_skip_jump_rounds: int
    noise_draws: int
    seed: int


def battery(model: nn.Module, elastic_net: dict[str, ElasticNet], sizes: Sizes) -> list[Attack]:
    """The attacks on `model`, cheap ones first.

    Args:
        model: (N, C, H, W) float32 in [0, 1] to logits (N, 2); C as the images'.
        elastic_net: EAD at its settings, by name.
    """
    attacks = []
    views = Views(model)
    for norm in NORMS:
        for budget in getattr(sizes, norm):
            attacks += _within(views, norm, budget, sizes)
    attacks += [
        Attack(name, "white-box", None, None, ead.generate) for name, ead in elastic_net.items()
    ]
    attacks.append(Attack("deepfool", "white-box", None, None, _deep_fool(model, sizes)))
    if sizes.hop_skip_jump_rounds:
        attacks.append(Attack("hop_skip_jump", "label", None, None, _hop_skip_jump(model, sizes)))
    return attacks


def _within(views: Views, norm: str, budget: float, sizes: Sizes) -> list[Attack]:
    """Those that stay within a budget."""
    model, pgd = views.model, partial(Pgd, views, norm, budget)
    steps, restarts = sizes.steps, sizes.restarts
    plans: list[tuple[str, Kind, Candidates]] = [
        ("fgsm", "white-box", pgd(1, 0, sizes.seed)),
        ("pgd", "white-box", pgd(steps, restarts, sizes.seed)),
        ("apgd", "white-box", _apgd(model, norm, budget, sizes)),
    ]
    if budget == middle(getattr(sizes, norm)):
        plans.append(("pgd_long", "white-box", pgd(_LONG * steps, restarts, sizes.seed)))
    if sizes.square_queries and norm == "linf":
        plans.append(("square", "score", _square(model, budget, sizes)))
    if sizes.noise_draws:
        plans.append(("noise", "noise", _noise(model, norm, budget, sizes)))
    return [Attack(method, kind, norm, budget, run) for method, kind, run in plans]


class Views:
    """The search's view of a network, folded once for all that share it; the network must stay
    as it is meanwhile."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._views: dict[int, SearchModel] = {}

    def of(self, x: Tensor) -> SearchModel:
        """For images like x (N, C, H, W); the network in eval mode."""
        channels = x.shape[1]
        if channels not in self._views:
            self._views[channels] = SearchModel(
                self.model, channels, x.device, targeted=False, speed=Speed(), spent=Spent()
            )
        return self._views[channels]


@dataclass(frozen=True)
class Pgd:
    """PGD from the image itself, then from random starts; of their best iterates, and of the one
    step that FGSM makes, the candidate of highest margin."""

    views: Views
    norm: str
    budget: float
    steps: int
    restarts: int
    seed: int

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        with evaluating(self.views.model), torch.no_grad():
            view = self.views.of(x)
            generator = torch.Generator(x.device).manual_seed(self.seed)
            best = (x, torch.full((len(x),), -torch.inf, device=x.device))
            plan = [(x, 1, self.budget)]
            if self.steps > 1:
                starts = [x] + [self._anywhere(x, generator) for _ in range(self.restarts)]
                plan += [
                    (start, self.steps, _STRIDE * self.budget / self.steps) for start in starts
                ]
            for start, steps, step_size in plan:
                candidate = ascend(
                    lambda at: view.margin_and_gradient(at, y),
                    x,
                    start,
                    self.budget,
                    norm=NORMS[self.norm],
                    steps=steps,
                    step_size=step_size,
                    keep_best=steps > 1,
                )
                best = _better(self.views.model, y, best, candidate)
        return best[0]

    def _anywhere(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return random_start(x, self.budget, NORMS[self.norm], generator)


def _better(
    model: nn.Module, y: Tensor, best: tuple[Tensor, Tensor], candidate: Tensor
) -> tuple[Tensor, Tensor]:
    """Image by image, the one that the network itself has the higher margin at."""
    with float32():
        margins = margin(logits(model, candidate).float(), y, False)
    higher = margins > best[1]
    return torch.where(higher[:, None, None, None], candidate, best[0]), margins.maximum(best[1])


def _noise(model: nn.Module, norm: str, budget: float, sizes: Sizes) -> Candidates:
    """The worst of several draws of noise at the full budget: what any smaller drop is worth."""

    def run(x: Tensor, y: Tensor) -> Tensor:
        generator = torch.Generator(x.device).manual_seed(sizes.seed)
        best = (x, torch.full((len(x),), -torch.inf, device=x.device))
        with evaluating(model), torch.no_grad():
            for _ in range(sizes.noise_draws):
                noise = torch.randn(x.shape, generator=generator, device=x.device)
                best = _better(model, y, best, _at_full_budget(x, noise, budget, norm))
        return best[0]

    return run


def _at_full_budget(x: Tensor, noise: Tensor, budget: float, norm: str) -> Tensor:
    """x changed in the noise's direction by the whole budget: clipping to [0, 1] takes much of it
    where an image is black, so what is left is stretched again."""
    if norm == "linf":
        return project(x, x + noise.sign() * budget, budget, NORMS[norm])
    change = noise
    for _ in range(_STRETCHES):
        length = distances.total(change.square()).sqrt()[:, None, None, None]
        change = (x + change * (budget / length.clamp(min=1e-12))).clamp(0.0, 1.0) - x
    return project(x, x + change, budget, NORMS[norm])


def _apgd(model: nn.Module, norm: str, budget: float, sizes: Sizes) -> Candidates:
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
        return _through_art(_Cooled(model, scale), build, sizes.seed)(x, y)

    return run


def _square(model: nn.Module, budget: float, sizes: Sizes) -> Candidates:
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


def _deep_fool(model: nn.Module, sizes: Sizes) -> Candidates:
    """DeepFool (Moosavi-Dezfooli et al. 2016): the smallest L2 change, to first order."""

    def build(classifier: Any) -> Any:
        from art.attacks.evasion import DeepFool

        return DeepFool(
            classifier, max_iter=sizes.steps, nb_grads=2, batch_size=16, epsilon=0.02, verbose=False
        )

    return _through_art(model, build, sizes.seed)


def _hop_skip_jump(model: nn.Module, sizes: Sizes) -> Candidates:
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
        with evaluating(model), torch.no_grad(), float32():
            said = logits(model, x).argmax(1)
        apart = torch.cdist(x.flatten(1), x.flatten(1))
        nearest, start = apart.masked_fill(said[:, None] == said, torch.inf).min(1)
        there = torch.nonzero(torch.isfinite(nearest)).flatten()
        found = x.clone()
        if len(there):
            begin = {"x_adv_init": x[start[there]].cpu().numpy()}
            found[there] = _through_art(model, build, sizes.seed, begin)(x[there], y[there])
        return found

    return run


class _Cooled(nn.Module):
    """The logits divided by a constant."""

    def __init__(self, model: nn.Module, scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.model(x) / self.scale
        return outputs


class _Float32(nn.Module):
    """ART's Square and HopSkipJump ask in float64 at times."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.model(x.float())
        return outputs


def _through_art(
    model: nn.Module, build: Callable[[Any], Any], seed: int, more: dict[str, Any] | None = None
) -> Candidates:
    """ART's attack as `build` makes it of a classifier; `more` goes to its `generate`."""

    def run(x: Tensor, y: Tensor) -> Tensor:
        from art.estimators.classification import PyTorchClassifier

        with evaluating(model), float32(), _numpy_seed(seed):
            classifier = PyTorchClassifier(
                _Float32(model),
                loss=nn.CrossEntropyLoss(),
                input_shape=tuple(x.shape[1:]),
                nb_classes=2,
                clip_values=(0.0, 1.0),
                device_type="gpu" if x.device.type == "cuda" else "cpu",
            )
            images, classes = x.cpu().numpy(), y.cpu().numpy()
            found: NDArray[np.float32] = build(classifier).generate(images, classes, **more or {})
        return torch.from_numpy(np.clip(found, 0.0, 1.0).astype(np.float32)).to(x.device)

    return run


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """ART draws from NumPy's and torch's global generators: seed them, and put them back."""
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)


def judge(
    model: nn.Module, x: Tensor, y: Tensor, right: Tensor, candidates: Tensor, beta: float
) -> dict[str, NDArray[Any]]:
    """What candidates are worth: (N,) each of JUDGED (bool), and their distances.

    A candidate is a success where the network is `right` (N,) on x and wrong on it; one of those
    that an image file could hold where it is wrong after rounding to 8 bits, after JPEG of quality
    JPEG_QUALITY, and with one grey channel in place of three. Distances are of the candidate, NaN
    where it is no success.
    """

    def wrong(images: Tensor) -> Tensor:
        return logits(model, images).argmax(1) != y

    with torch.inference_mode(), float32():
        success = right & wrong(candidates)
        survives = {
            "success": success,
            "success_8bit": success & wrong((candidates * 255).round() / 255),
            "success_jpeg": success & wrong(through_jpeg(candidates, JPEG_QUALITY)),
            "success_grey": success & wrong(candidates.mean(1, keepdim=True).expand_as(x)),
        }
    found: dict[str, NDArray[Any]] = {k: v.cpu().numpy() for k, v in survives.items()}
    for name in distances.NAMES:
        measured = distances.measure(name, x, candidates, beta)
        found[name] = measured.masked_fill(~success, torch.nan).cpu().numpy()
    return found
