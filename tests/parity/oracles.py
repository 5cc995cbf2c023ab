"""The attacks that others wrote, and what is compared: one judge for ours and for theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from art.attacks.evasion import ElasticNet as ShippedART
from art.estimators.classification import PyTorchClassifier
from foolbox import PyTorchModel
from foolbox.attacks import EADAttack
from foolbox.criteria import Misclassification, TargetedMisclassification
from torch import Tensor, nn

from octrobust.attack import ElasticNet
from octrobust.attack.distances import decision

Trained = tuple[nn.Module, Tensor, Tensor]
Array = np.ndarray[Any, Any]
Settings = dict[str, Any]
Attack = Callable[[nn.Module, Tensor, Tensor, Settings], Tensor]

BASE: Settings = {
    "learning_rate": 0.01,
    "binary_search_steps": 5,
    "max_iter": 20,
    "initial_const": 0.1,
    "beta": 0.001,
    "decision_rule": "EN",
    "confidence": 0.0,
    "targeted": False,
}
# Every beta, learning rate, rule and confidence, with the network each row is run on where one has
# to do. With two classes, targeted is untargeted under another name: it needs the third.
TABLE: list[tuple[str, Settings]] = [
    ("small_network", {}),
    ("three_classes", {"beta": 0.0, "decision_rule": "L2"}),
    ("small_network", {"beta": 0.01, "decision_rule": "L1"}),
    ("three_classes", {"beta": 0.1}),
    ("small_network", {"beta": 0.01}),
    ("small_network", {"beta": 0.0}),
    ("small_network", {"beta": 0.1, "decision_rule": "L2"}),
    ("small_network", {"confidence": 5.0}),
    ("three_classes", {"decision_rule": "L2", "confidence": 5.0}),
    ("three_classes", {"targeted": True}),
    (
        "three_classes",
        {"beta": 0.01, "decision_rule": "L1", "confidence": 5.0, "targeted": True},
    ),
    ("three_classes", {"initial_const": 0.001, "binary_search_steps": 7}),
    ("small_network", {"learning_rate": 0.5}),
    ("three_classes", {"learning_rate": 0.5, "beta": 0.0, "decision_rule": "L2"}),
    (
        "small_network",
        {"learning_rate": 0.5, "beta": 0.01, "decision_rule": "L1", "confidence": 5.0},
    ),
    ("three_classes", {"learning_rate": 0.5, "beta": 0.1, "targeted": True}),
]


def art_classifier(model: nn.Module, x: Tensor, **changes: Any) -> PyTorchClassifier:
    """ART's classifier around a network on images like x in [0, 1]."""
    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    settings = {
        "loss": nn.CrossEntropyLoss(),
        "input_shape": tuple(x.shape[1:]),
        "nb_classes": classes,
        "clip_values": (0.0, 1.0),
        "device_type": "cpu",
    }
    return PyTorchClassifier(model, **{**settings, **changes})


class MendedART(ShippedART):
    """ART's attack without its two departures from the paper.

    Where the hinge is inactive ART drops the L2 term from the gradient as well, where Chen et al.
    keep 2 (y - x); and it takes any misclassified iterate for a success, whatever `confidence`.
    """

    def _gradient_of_loss(self, target: Array, x: Array, x_adv: Array, c_weight: Array) -> Array:
        self._classes = target
        gradient = super()._gradient_of_loss(target, x, x_adv, c_weight)
        inactive = ~gradient.reshape(len(x), -1).any(axis=1)
        gradient[inactive] = 2 * (x_adv - x)[inactive]
        return gradient

    def _loss(self, x: Array, x_adv: Array) -> tuple[Array, ...]:
        labels, *found = super()._loss(x, x_adv)
        if self.confidence:
            outputs = self.estimator.predict(x_adv, batch_size=self.batch_size)
            handicap = -self.confidence if self.targeted else self.confidence
            labels = (outputs + handicap * self._classes).argmax(axis=1)
        return (labels, *found)


def _art(kind: type[ShippedART]) -> Attack:
    def attack(model: nn.Module, x: Tensor, labels: Tensor, settings: Settings) -> Tensor:
        art = kind(art_classifier(model, x), batch_size=len(x), verbose=False, **settings)
        return torch.from_numpy(art.generate(x.numpy(), labels.numpy()))

    return attack


def foolbox(model: nn.Module, x: Tensor, labels: Tensor, settings: Settings) -> Tensor:
    """foolbox's EAD without its early abort, which looks at the loss of the whole batch.

    Equations, schedule, bracket and counting of k are ours; where it fails, black images come
    back, which the judge must see as no success. It knows no rule L2.
    """
    attack = EADAttack(
        binary_search_steps=settings["binary_search_steps"],
        steps=settings["max_iter"],
        initial_stepsize=settings["learning_rate"],
        confidence=settings["confidence"],
        initial_const=settings["initial_const"],
        regularization=settings["beta"],
        decision_rule=settings["decision_rule"],
        abort_early=False,
    )
    criterion = TargetedMisclassification if settings["targeted"] else Misclassification
    result: Tensor = attack.run(
        PyTorchModel(model, bounds=(0, 1), device="cpu"), x, criterion(labels)
    )
    black = ~result.flatten(1).any(1)
    return torch.where(black[:, None, None, None], x, result)


shipped_art = _art(ShippedART)
mended_art = _art(MendedART)


def ours(model: nn.Module, x: Tensor, labels: Tensor, settings: Settings) -> Tensor:
    """Our attack; what it says of itself must be what the judge says."""
    result = ElasticNet(model, **settings).run(x, labels)
    verdict = judge(model, result.x_adv, labels, settings)
    np.testing.assert_array_equal(result.success.numpy(), verdict)
    return result.x_adv


def judge(model: nn.Module, x_adv: Tensor, labels: Tensor, settings: Settings) -> Array:
    """Whose margin on the attacker's side is positive and at least `confidence`: (N,) bool."""
    with torch.no_grad():
        outputs = model(x_adv).double().numpy()
    rows = np.arange(len(outputs))
    own = outputs[rows, labels]
    outputs[rows, labels] = -np.inf
    margin = outputs.max(axis=1) - own
    if settings["targeted"]:
        margin = -margin
    result: Array = (margin > 0) & (margin >= settings["confidence"])
    return result


@dataclass(frozen=True)
class Comparison:
    """Success of both attacks, (N,) bool, and the rule's distances where both have it."""

    their_success: Array
    our_success: Array
    their_distance: Array
    our_distance: Array

    @property
    def ratio(self) -> Array:
        """Our distance over theirs, image by image."""
        return self.our_distance / self.their_distance

    @property
    def median_ratio(self) -> float:
        """Our median distance over theirs."""
        return float(np.median(self.our_distance) / np.median(self.their_distance))

    @property
    def geometric_ratio(self) -> float:
        """Our geometric mean distance over theirs."""
        return float(np.exp(np.log(self.ratio).mean()))


def assert_the_same_attack(found: Comparison, learning_rate: float) -> None:
    """Same successes, all of them; distances within 1 %, at 0.01 of every image, above of 90 %.

    Seen against foolbox and mended ART: equal to four digits in every row. With relative noise of
    1e-5 in our gradient, a hundred float32 roundings, every image was within 1 % in the six rows
    tried; with 1e-4 up to 9 % were not. Without momentum, with k from 1, another beta, const or
    number of iterations the worst image is 3 to 30 % off, which a median may hide.
    """
    np.testing.assert_array_equal(found.our_success, found.their_success)
    assert found.our_success.all()
    close = np.abs(found.ratio - 1) <= 0.01
    assert close.mean() >= (0.9 if learning_rate > 0.01 else 1.0), found.ratio
    # Seen: 1.0000 in every row, at most 1.002 with relative noise of 1e-4 in our gradient.
    assert abs(found.median_ratio - 1) <= 0.02
    assert abs(found.geometric_ratio - 1) <= 0.02


def compare(oracle: Attack, network: Trained, row: Settings) -> Comparison:
    """Ours against `oracle` on a network and images that it gets right."""
    model, x, y = network
    settings = {**BASE, **row}
    with torch.no_grad():
        outputs = model(x)
    # Targets: the class next to the true one.
    labels = (y + 1) % outputs.shape[1] if settings["targeted"] else y
    found = [attack(model, x, labels, settings) for attack in (oracle, ours)]
    theirs, own = (judge(model, x_adv, labels, settings) for x_adv in found)
    both = theirs & own
    measured = (
        decision(settings["decision_rule"], x, x_adv, settings["beta"]).double().numpy()[both]
        for x_adv in found
    )
    return Comparison(theirs, own, *measured)
