"""The same attack as an ART `EvasionAttack`: arguments and checks are those of ART's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.attacks.evasion import ElasticNet as ARTElasticNet
from art.estimators.classification import PyTorchClassifier
from art.utils import check_and_transform_label_format, get_labels_np_array
from numpy.typing import NDArray
from torch import Tensor, nn

from octrobust.attack.elastic_net import ElasticNet as TorchElasticNet


class _Logits(nn.Module):
    """An ART classifier's network on [0, 1] inputs, with ART's preprocessing inside."""

    def __init__(self, estimator: PyTorchClassifier) -> None:
        super().__init__()
        self.network = estimator.model
        self._estimator = [estimator]  # a list: not a submodule
        low, high = estimator.clip_values
        self.low, self.span = float(np.min(low)), float(np.max(high) - np.min(low))

    def plain(self) -> nn.Module | None:
        """The network itself where ART adds nothing to it: the attack may know a faster form."""
        adds = self._estimator[0].preprocessing_operations or (self.low, self.span) != (0.0, 1.0)
        return None if adds else self.network

    def forward(self, x: Tensor) -> Tensor:
        z, _ = self._estimator[0]._apply_preprocessing(
            x * self.span + self.low, y=None, fit=False, no_grad=False
        )
        output = self.network(z)
        logits: Tensor = output[-1] if isinstance(output, (list, tuple)) else output
        return logits


class ElasticNet(ARTElasticNet):  # type: ignore[misc]
    """Drop-in for `art.attacks.evasion.ElasticNet` on a `PyTorchClassifier`.

    Same constructor and checks; `generate` runs the torch attack. Departs from ART's only where
    ART departs from Chen et al. 2018: inputs are attacked in the box of `clip_values` rather than
    always [0, 1] (learning rate and beta then count in units of the box), `confidence` is
    honoured, and the L2 term stays in the gradient when the hinge is inactive.
    """

    _estimator_requirements = (PyTorchClassifier,)

    def generate(
        self, x: NDArray[np.float32], y: NDArray[Any] | None = None, **_: Any
    ) -> NDArray[np.float32]:
        """Adversarial images in the shape and box of x, (N, C, H, W) float32.

        Args:
            x: images within `clip_values`.
            y: (N, K) one-hot or (N,) indices; the true classes, or the targets if targeted.
                None: the classes predicted.
        """
        if self.estimator.clip_values is None:
            raise ValueError("the classifier needs clip_values: the attack works in a box")
        if y is None:
            if self.targeted:
                raise ValueError("Target labels `y` need to be provided for a targeted attack.")
            y = get_labels_np_array(self.estimator.predict(x, batch_size=self.batch_size))
        if not self.binary_search_steps or not self.max_iter:  # ART allows it
            return np.array(x, dtype=np.float32, copy=True)
        y = check_and_transform_label_format(y, nb_classes=self.estimator.nb_classes)
        model = _Logits(self.estimator)
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
        )
        scaled = ((x - model.low) / model.span).astype(np.float32)
        device = self.estimator.device
        images = torch.from_numpy(scaled).to(device)
        labels = torch.from_numpy(np.argmax(y, axis=1).astype(np.int64)).to(device)
        found = attack.run(images.clamp(0.0, 1.0), labels)
        changed = (found.success & ~found.already).cpu().numpy()
        x_adv = np.array(x, dtype=np.float32, copy=True)
        x_adv[changed] = found.x_adv.cpu().numpy()[changed] * model.span + model.low
        return x_adv
