"""ART's attacks on the folded copy of Inception-ResNet-V1: what they find is the network's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from octrobust.attack import through_art
from octrobust.attack.through_art import Candidates
from octrobust.config import AttackSizes, Model
from octrobust.model.build import OCTClassifier, build, calibrate_batch_norm
from octrobust.model.fold import FoldedInceptionResnet, Tape
from octrobust.model.predict import evaluating

SIZES = AttackSizes(
    l2=[2.0],
    linf=[0.02],
    steps=3,
    restarts=0,
    square_queries=4,
    hop_skip_jump_rounds=1,
    noise_draws=1,
    seed=5,
)
Scene = tuple[OCTClassifier, Tensor, Tensor]


@pytest.fixture(scope="module")
def scene() -> Scene:
    """A network, four images and what it says of them."""
    x = torch.rand(4, 1, 80, 80, generator=torch.Generator().manual_seed(0))
    model = build(Model(weights="none", standardisation="facenet", dropout=0.6), seed=1)
    calibrate_batch_norm(model, lambda: [x])
    with evaluating(model), torch.no_grad():
        return model, x, model(x).argmax(1)


def apgd(model: OCTClassifier) -> Candidates:
    """Within so little that no image is turned: where one is, the cross-entropy's gradient
    is soon that of rounding errors."""
    return through_art.apgd(model, "l2", 0.0005, SIZES)


def deep_fool(model: OCTClassifier) -> Candidates:
    return through_art.deep_fool(model, SIZES)


def square(model: OCTClassifier) -> Candidates:
    return through_art.square(model, 0.02, SIZES)


@pytest.mark.parametrize("attack", [apgd, deep_fool, square])
def test_the_copy_is_attacked_as_the_network_would_be(
    scene: Scene, attack: Callable[[OCTClassifier], Candidates], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, y = scene
    logits, asked = FoldedInceptionResnet.logits, []

    def counted(self: FoldedInceptionResnet, x: Tensor) -> Tensor:
        asked.append(len(x))
        return logits(self, x)

    monkeypatch.setattr(FoldedInceptionResnet, "logits", counted)
    found = attack(model)(x, y)
    assert asked
    monkeypatch.setattr(through_art, "can_fold", lambda model, channels: False)
    expected = attack(model)(x, y)
    assert not torch.equal(expected, x)
    assert (found - expected).norm() < 0.05 * (expected - x).norm()


def test_where_the_copy_errs_the_network_itself_is_attacked(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that has one answer for all: on it, ART stops at the clean image."""
    model, x, y = scene
    other = 1 - y[0]
    forward = FoldedInceptionResnet._forward

    def lies(self: FoldedInceptionResnet, x: Tensor, tape: Tape | None) -> tuple[Tensor, Tape]:
        outputs, tape = forward(self, x, tape)
        return (4 * torch.eye(2)[other] - 2).expand_as(outputs).clone(), tape

    monkeypatch.setattr(FoldedInceptionResnet, "_forward", lies)
    found = through_art.apgd(model, "l2", 2.0, SIZES)(x, y)
    with evaluating(model), torch.no_grad():
        assert (model(found).argmax(1) != y)[y != other].all()
