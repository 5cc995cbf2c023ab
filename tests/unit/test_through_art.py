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
Attack = Callable[[OCTClassifier], Candidates]


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


def hop_skip_jump(model: OCTClassifier) -> Candidates:
    return through_art.hop_skip_jump(model, SIZES)


def by_the_network(scene: Scene, attack: Attack, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The candidates where there is no copy."""
    model, x, y = scene
    with monkeypatch.context() as patch:
        patch.setattr(through_art, "can_fold", lambda model, channels: False)
        return attack(model)(x, y)


@pytest.mark.parametrize(
    ("attack", "climbs"), [(apgd, True), (deep_fool, True), (square, False), (hop_skip_jump, False)]
)
def test_the_copy_is_attacked_as_the_network_would_be(
    scene: Scene, attack: Attack, climbs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, y = scene
    forward, asked = FoldedInceptionResnet._forward, set()

    def noted(self: FoldedInceptionResnet, x: Tensor, tape: Tape | None) -> tuple[Tensor, Tape]:
        asked.add((len(x), tape is not None))
        return forward(self, x, tape)

    monkeypatch.setattr(FoldedInceptionResnet, "_forward", noted)
    found = attack(model)(x, y)
    assert any(count < 16 for count, _ in asked)  # by ART: our own questions are filled up
    assert any(way_back for _, way_back in asked) == climbs
    expected = by_the_network(scene, attack, monkeypatch)
    assert not torch.equal(expected, x)
    assert (found - expected).norm() < 0.05 * (expected - x).norm()


def lie(scene: Scene, monkeypatch: pytest.MonkeyPatch, *, at_clean: bool) -> Tensor:
    """A copy that has one answer for all images but, unless `at_clean`, the clean ones. Where that
    is not the true one: (N,) bool."""
    _, clean, y = scene
    answer, forward = 1 - y[0], FoldedInceptionResnet._forward

    def lies(self: FoldedInceptionResnet, x: Tensor, tape: Tape | None) -> tuple[Tensor, Tape]:
        outputs, tape = forward(self, x, tape)
        told = (4 * torch.eye(2)[answer] - 2).expand_as(outputs)
        same = (x[:, None] == clean).flatten(2).all(2).any(1)
        return torch.where(same[:, None] & (not at_clean), outputs, told).clone(), tape

    monkeypatch.setattr(FoldedInceptionResnet, "_forward", lies)
    return y != answer


def test_where_the_copy_errs_on_what_was_found_the_network_itself_is_attacked(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the copy every change at all is a success."""
    model, x, y = scene
    deceived = lie(scene, monkeypatch, at_clean=False)
    assert deceived.any()
    found = hop_skip_jump(model)(x, y)
    with evaluating(model), torch.no_grad():
        assert (model(found).argmax(1) != y)[deceived].all()


@pytest.mark.parametrize("attack", [deep_fool, hop_skip_jump])
def test_where_the_copy_errs_on_a_clean_image_the_network_itself_is_attacked(
    scene: Scene, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DeepFool leaves the class predicted, HopSkipJump starts from another image's."""
    model, x, y = scene
    expected = by_the_network(scene, attack, monkeypatch)
    lie(scene, monkeypatch, at_clean=True)
    assert torch.equal(attack(model)(x, y), expected)
