"""The same attack as an ART `EvasionAttack`: arguments and checks are those of ART's own."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from art.attacks.evasion import ElasticNet as ARTElasticNet
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch
from art.utils import check_and_transform_label_format, get_labels_np_array
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from octrobust.attack.elastic_net import ElasticNet as TorchElasticNet
from octrobust.attack.speed import Speed
from octrobust.model.fold import can_fold

_ROUNDING = 1e-6  # of inputs at the ends of the box


class _Logits(nn.Module):
    """An ART classifier's network on [0, 1] inputs, with ART's preprocessing inside.

    Args:
        shape: of one input as the classifier takes it; here it comes as (C, H, W).
    """

    def __init__(self, estimator: PyTorchClassifier, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.shape = estimator.model, shape
        self._estimator = [estimator]  # a list: not a submodule
        low, high = _box(estimator)
        self.low = torch.as_tensor(low).to(estimator.device)
        self.span = torch.as_tensor(high - low).to(estimator.device)

    def plain(self) -> nn.Module | None:
        """The network itself where the attack knows a faster form of it, and ART adds nothing."""
        unit = bool((self.low == 0).all() and (self.span == 1).all())
        adds = not all(map(_changes_nothing, self._estimator[0].preprocessing_operations))
        folds = len(self.shape) == 3 and can_fold(self.network, self.shape[0])
        return self.network if folds and unit and not adds else None

    def forward(self, x: Tensor) -> Tensor:
        z, _ = self._estimator[0]._apply_preprocessing(
            x.reshape(-1, *self.shape) * self.span + self.low, y=None, fit=False, no_grad=False
        )
        logits: Tensor = self.network(z)
        return logits


def _changes_nothing(operation: Any) -> bool:
    """ART's classifiers standardise by mean 0 and deviation 1 where nothing else is asked for."""
    if type(operation) is not StandardisationMeanStdPyTorch:
        return False
    return bool(np.all(operation.mean == 0) and np.all(operation.std == 1))


def _box(estimator: PyTorchClassifier) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The classifier's clip_values, numbers or arrays; ART's attack takes [0, 1] without them."""
    low, high = (0.0, 1.0) if estimator.clip_values is None else estimator.clip_values
    return np.asarray(low, dtype=np.float32), np.asarray(high, dtype=np.float32)


class ElasticNet(ARTElasticNet):  # type: ignore[misc]
    """Drop-in for `art.attacks.evasion.ElasticNet` on a `PyTorchClassifier`.

    Same constructor and checks; `generate` runs the torch attack. Departs from ART's only where
    ART departs from Chen et al. 2018: inputs are attacked in the box of `clip_values` rather than
    always [0, 1] (learning rate and beta then count in units of the box), `confidence` is
    honoured, no number may be negative or infinite, and the L2 term stays in the gradient when the
    hinge is inactive (with very few iterations that may cost successes). `batch_size` changes
    speed and memory, and the result as `Speed.fill` says.

    Of inputs outside the box, of preprocessing in NumPy, whose gradient torch does not know, of
    postprocessing, and of classifiers that predict in another way than their network, ART's own
    `generate` is called, with a warning: slower, and all as in ART.

    Attributes:
        speed: of the torch attack; in float32 and without filling up, or as the caller sets it.
    """

    _estimator_requirements = (PyTorchClassifier,)
    speed = Speed(precision="fp32", fill=False)

    def generate(
        self, x: NDArray[np.float32], y: NDArray[Any] | None = None, **_: Any
    ) -> NDArray[np.float32]:
        """Adversarial inputs (N, ...) float32, in the shape and box of x.

        Args:
            x: (N, ...) within `clip_values`, [0, 1] without.
            y: (N, K) one-hot or (N,) indices; the true classes, or the targets if targeted.
                None: the classes predicted.
        """
        low, high = _box(self.estimator)
        scaled = ((x - low) / (high - low)).astype(np.float32)
        if reason := self._is_arts(scaled):
            warnings.warn(f"{reason}: ART's own Elastic-Net attack runs", stacklevel=2)
            return super().generate(x, y)  # type: ignore[no-any-return]
        if y is None:
            if self.targeted:
                raise ValueError("Target labels `y` need to be provided for a targeted attack.")
            y = get_labels_np_array(self.estimator.predict(x, batch_size=self.batch_size))
        x_adv = np.array(x, dtype=np.float32, copy=True)
        moves = (self.binary_search_steps, self.max_iter, self.learning_rate, self.initial_const)
        if not len(x) or not all(moves):  # ART allows 0: nothing moves
            return x_adv
        y = check_and_transform_label_format(y, nb_classes=self.estimator.nb_classes)
        model = _Logits(self.estimator, x.shape[1:])
        attack = TorchElasticNet(
            model.plain() or model,
            learning_rate=self.learning_rate,
            binary_search_steps=self.binary_search_steps,
            max_iter=self.max_iter,
            beta=self.beta,
            initial_const=self.initial_const,
            confidence=self.confidence,
            decision_rule=self.decision_rule,
            targeted=self.targeted,
            batch_size=self.batch_size,
            speed=self.speed,
        )
        scaled, device = scaled.clip(0.0, 1.0), self.estimator.device
        images = torch.from_numpy(scaled).to(device)
        if x.ndim != 4:
            images = images.reshape(len(x), 1, 1, -1)
        labels = torch.from_numpy(np.argmax(y, axis=1).astype(np.int64)).to(device)
        found = self._run(attack, images, labels).cpu().numpy().reshape(x.shape)
        # An image that moved is returned as the network was asked about it, rounding of the box
        # included; the others keep every value to the last bit.
        moved = (found != scaled).reshape(len(x), -1).any(1).reshape(-1, *[1] * (x.ndim - 1))
        return np.where(moved, np.clip(found * (high - low) + low, low, high), x_adv)

    def _run(self, attack: TorchElasticNet, images: Tensor, labels: Tensor) -> Tensor:
        whole = len(images) * self.binary_search_steps * self.max_iter
        with tqdm(total=whole, desc="EAD", unit="it", leave=False, disable=not self.verbose) as bar:

            def tell(made: int) -> None:
                bar.update(made)

            return attack.run(images, labels, tell).x_adv

    def _is_arts(self, scaled: NDArray[np.float32]) -> str:
        """Why this is left to ART, if it is; of inputs in units of the box."""
        if any(
            not isinstance(each, PreprocessorPyTorch)
            for each in self.estimator.preprocessing_operations
        ):
            return "preprocessing in NumPy"
        kind = type(self.estimator)
        own = ("predict", "class_gradient", "_apply_preprocessing", "_apply_postprocessing")
        if any(getattr(kind, name) is not getattr(PyTorchClassifier, name) for name in own):
            return "a classifier with a prediction or gradient of its own"
        if self.estimator.postprocessing_defences:
            return "postprocessing"
        within = (scaled >= -_ROUNDING) & (scaled <= 1 + _ROUNDING)
        return "" if within.all() else "inputs outside clip_values"

    def _check_params(self) -> None:
        super()._check_params()
        for name in ("confidence", "beta", "learning_rate", "initial_const"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"The {name} must be finite and not negative.")
