"""`octrobust.attack.art.ElasticNet` where ART code expects ART's own."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks import EvasionAttack
from art.attacks.evasion import ElasticNet as ShippedART
from art.defences.postprocessor import Rounded
from art.defences.preprocessor import SpatialSmoothing
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import PyTorchClassifier
from art.utils import to_categorical
from torch import Tensor, nn

from octrobust.attack import ElasticNet
from octrobust.attack.art import ElasticNet as DropIn
from tests.parity.oracles import BASE, Array, Settings, Trained, art_classifier, judge

QUICK: Settings = {**BASE, "verbose": False, "batch_size": 32}
BAD: list[Settings] = [
    {"binary_search_steps": -1},
    {"binary_search_steps": 2.0},
    {"max_iter": -1},
    {"max_iter": 10.0},
    {"batch_size": 0},
    {"batch_size": 1.5},
    {"decision_rule": "L0"},
    {"decision_rule": 1},
    {"verbose": 1},
]


def test_constructor_and_parameters_are_arts(small_network: Trained) -> None:
    """Same names, order and defaults; anything more is keyword-only and has a default."""
    theirs = list(inspect.signature(ShippedART).parameters.values())
    ours = list(inspect.signature(DropIn).parameters.values())

    def essence(parameter: inspect.Parameter) -> tuple[str, Any, Any]:
        return parameter.name, parameter.kind, parameter.default

    assert [essence(p) for p in ours[: len(theirs)]] == [essence(p) for p in theirs]
    for extra in ours[len(theirs) :]:
        assert extra.kind is inspect.Parameter.KEYWORD_ONLY
        assert extra.default is not inspect.Parameter.empty
    model, x, _ = small_network
    attack = DropIn(art_classifier(model, x))
    assert isinstance(attack, EvasionAttack)
    assert set(ShippedART.attack_params) <= set(DropIn.attack_params)
    for name in DropIn.attack_params:
        assert hasattr(attack, name)


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_rejects_what_art_rejects(small_network: Trained, bad: Settings) -> None:
    model, x, _ = small_network
    classifier = art_classifier(model, x)
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - which one, ART says
        ShippedART(classifier, **bad)
    with pytest.raises(theirs.type):
        DropIn(classifier, **bad)
    with pytest.raises(theirs.type):
        DropIn(classifier).set_params(**bad)


@pytest.mark.parametrize("name", ["beta", "learning_rate", "initial_const", "confidence"])
def test_negative_numbers_are_refused_at_once(small_network: Trained, name: str) -> None:
    classifier = art_classifier(*small_network[:2])
    with pytest.raises(ValueError, match=name):
        DropIn(classifier, **{name: -0.1})
    with pytest.raises(ValueError, match=name):
        DropIn(classifier).set_params(**{name: float("inf")})


@pytest.mark.parametrize("none", [{"binary_search_steps": 0}, {"max_iter": 0}], ids=str)
def test_no_steps_change_nothing_as_in_art(small_network: Trained, none: Settings) -> None:
    model, x, y = small_network
    for kind in (ShippedART, DropIn):
        attack = kind(art_classifier(model, x), **{**QUICK, **none})
        np.testing.assert_array_equal(attack.generate(x.numpy(), y.numpy()), x.numpy())


def test_generates_what_the_torch_attack_does(small_network: Trained) -> None:
    """With labels, and without, when the classes predicted are left."""
    model, x, y = small_network
    attack = DropIn(art_classifier(model, x), **QUICK)
    x_adv = attack.generate(x.numpy(), y.numpy())
    direct = ElasticNet(model, **BASE).run(x, y)
    np.testing.assert_allclose(x_adv, direct.x_adv.numpy(), atol=1e-6)
    np.testing.assert_array_equal(attack.generate(x.numpy()), x_adv)
    np.testing.assert_array_equal(attack.generate(x=x.numpy(), y=y.numpy()), x_adv)


def test_set_params_reach_the_attack(three_classes: Trained) -> None:
    model, x, y = three_classes
    changes = {"beta": 0.01, "decision_rule": "L1", "confidence": 5.0, "targeted": True}
    attack = DropIn(art_classifier(model, x), **QUICK)
    attack.set_params(**changes)
    targets = (y + 1) % 3
    x_adv = attack.generate(x.numpy(), targets.numpy())
    direct = ElasticNet(model, **{**BASE, **changes}).run(x, targets)
    np.testing.assert_allclose(x_adv, direct.x_adv.numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="cannot be set"):
        attack.set_params(no_such_parameter=1)


def test_targets_as_one_hot_and_as_indices(three_classes: Trained) -> None:
    model, x, y = three_classes
    targets = ((y + 1) % 3).numpy()
    settings = {**QUICK, "targeted": True}
    attack = DropIn(art_classifier(model, x), **settings)
    x_adv = attack.generate(x.numpy(), targets)
    one_hot = attack.generate(x.numpy(), to_categorical(targets, 3))
    np.testing.assert_array_equal(one_hot, x_adv)
    assert judge(model, torch.from_numpy(x_adv), torch.from_numpy(targets), settings).all()
    with pytest.raises(ValueError, match="need to be provided"):
        attack.generate(x.numpy())


class Scaled(nn.Module):
    """A network on [0, 1] as one on [-1, 1]."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, z: Tensor) -> Tensor:
        output: Tensor = self.inner((z + 1) / 2)
        return output


@pytest.mark.parametrize(
    ("low", "high", "by_art"),
    [(-1.0, 1.0, False), (0.0, 255.0, True), (-1.0, 3.0, True)],
    ids=["scaled in the network", "ART: 0 to 255", "ART: -1 to 3"],
)
def test_attacks_in_the_classifiers_own_box(
    small_network: Trained, low: float, high: float, by_art: bool
) -> None:
    """The same network on another scale, whether it or ART's preprocessing undoes the scale,
    gives the same examples; ART's own attack clips to [0, 1] there."""
    model, x, y = small_network
    span = high - low
    changes: Settings = {"clip_values": (low, high)}
    if by_art:
        changes["preprocessing"] = (low, span)  # mean and standard deviation
    classifier = art_classifier(model if by_art else Scaled(model), x, **changes)
    x_adv = DropIn(classifier, **QUICK).generate(x.numpy() * span + low, y.numpy())
    direct = ElasticNet(model, **BASE).run(x, y)
    np.testing.assert_allclose((x_adv - low) / span, direct.x_adv.numpy(), atol=2e-3)
    assert (classifier.predict(x_adv).argmax(axis=1) != y.numpy()).all()
    assert x_adv.min() >= low
    assert x_adv.max() <= high


SHAPES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "a table": (lambda: nn.Linear(6, 3), (6,)),
    "signals": (
        lambda: nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(72, 3)),
        (1, 20),
    ),
    "volumes": (
        lambda: nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten(), nn.Linear(64, 3)),
        (1, 4, 6, 6),
    ),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_inputs_of_any_shape(kind: str) -> None:
    build, shape = SHAPES[kind]
    torch.manual_seed(0)
    model = build()
    x = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    classifier = art_classifier(model, x, nb_classes=3)
    with torch.no_grad():
        y = model(x).argmax(1).numpy()
    settings = {**QUICK, "learning_rate": 0.1, "initial_const": 10.0}
    x_adv = DropIn(classifier, **settings).generate(x.numpy())
    assert x_adv.shape == x.shape
    assert (classifier.predict(x_adv).argmax(axis=1) != y).all()
    theirs = ShippedART(classifier, **settings).generate(x.numpy())
    ours, by_art = (((a - x.numpy()) ** 2).sum() for a in (x_adv, theirs))
    assert ours <= 1.1 * by_art


class Contrary(PyTorchClassifier):  # type: ignore[misc]
    """Answers otherwise than its network does."""

    def predict(self, x: Array, *args: Any, **kwargs: Any) -> Array:
        answers: Array = super().predict(x, *args, **kwargs)[:, ::-1]
        return answers


def test_what_torch_cannot_follow_is_left_to_art(small_network: Trained) -> None:
    """Preprocessing in NumPy, inputs that ART's own attack takes without a box, postprocessing,
    and classifiers that are more than their network."""
    model, x, y = small_network
    smoothing = SpatialSmoothing(window_size=3, channels_first=True, clip_values=(0.0, 1.0))
    smoothed = art_classifier(model, x, preprocessing_defences=smoothing)
    boxless = art_classifier(Scaled(model), x, clip_values=None)
    rounded = art_classifier(model, x, postprocessing_defences=Rounded(decimals=3))
    contrary = art_classifier(model, x)
    contrary.__class__ = Contrary
    cases = ((smoothed, x), (boxless, 2 * x - 1), (rounded, x), (contrary, x))
    for classifier, inputs in cases:
        with pytest.warns(UserWarning, match="ART's own"):
            found = DropIn(classifier, **QUICK).generate(inputs.numpy(), y.numpy())
        expected = ShippedART(classifier, **QUICK).generate(inputs.numpy(), y.numpy())
        np.testing.assert_array_equal(found, expected)


class Watched(DropIn):
    """Notes, call by call, whose examples fool the classifier as it is then."""

    def generate(self, x: Array, y: Array | None = None, **kwargs: Any) -> Array:
        x_adv: Array = super().generate(x, y, **kwargs)
        right = self.estimator.predict(x).argmax(axis=1) == y.argmax(axis=1)
        fooled = self.estimator.predict(x_adv).argmax(axis=1) != y.argmax(axis=1)
        self.calls = [*getattr(self, "calls", []), (x_adv, y, right, fooled)]
        return x_adv


def test_inside_arts_adversarial_trainer(small_network: Trained) -> None:
    """ART trains on our examples, each batch crafted on the weights of the moment."""
    model, x, y = small_network
    model = copy.deepcopy(model)
    before = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    classifier = art_classifier(model, x, optimizer=optimizer)
    attack = Watched(classifier, **QUICK)
    trainer = AdversarialTrainer(classifier, attack, ratio=0.5)
    np.random.seed(0)  # noqa: NPY002 - ART draws from it
    trainer.fit(x.numpy(), to_categorical(y.numpy(), 2), batch_size=8, nb_epochs=3)
    assert len(attack.calls) == 9
    assert all(len(x_adv) == 4 for x_adv, *_ in attack.calls)
    for _, _, right, fooled in attack.calls:
        assert fooled[right].all()
    assert sum(right.sum() for *_, right, _ in attack.calls) >= 30
    # Not the first weights', which would take some of the later examples for what they are.
    later = torch.from_numpy(np.concatenate([x_adv for x_adv, *_ in attack.calls[3:]]))
    labels = np.concatenate([y.argmax(axis=1) for _, y, *_ in attack.calls[3:]])
    with torch.no_grad():
        assert (before(later).argmax(1).numpy() == labels).any()
    changed = [
        not torch.equal(a, b) for a, b in zip(before.parameters(), model.parameters(), strict=True)
    ]
    assert all(changed)
    assert (trainer.predict(x.numpy()).argmax(axis=1) == y.numpy()).mean() > 0.9
