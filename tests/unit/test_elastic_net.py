"""EAD as Chen et al. 2018 give it: the shrinkage, the search, and what a result promises."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from octrobust.attack import ElasticNet, ElasticNetResult
from octrobust.attack.elastic_net import shrink
from octrobust.config import Model
from octrobust.model.build import build, calibrate_batch_norm

Trained = tuple[nn.Module, Tensor, Tensor]
QUICK: dict[str, Any] = {
    "learning_rate": 0.05,
    "binary_search_steps": 4,
    "max_iter": 20,
    "initial_const": 0.1,
}


def margins(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        logits = model(x)
    return logits.gather(1, 1 - y[:, None]).squeeze(1) - logits.gather(1, y[:, None]).squeeze(1)


def test_shrinkage_is_equation_8() -> None:
    x = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.98, 0.02])
    z = torch.tensor([0.55, 0.45, 0.509, 0.49, 1.5, -0.5])
    # moved by more than beta: back by beta, in [0, 1]; by beta or less: back to x
    expected = torch.tensor([0.54, 0.46, 0.5, 0.5, 1.0, 0.0])
    torch.testing.assert_close(shrink(z, x, 0.01), expected)


def test_success_is_verified_and_distances_are_those_of_the_image(small_network: Trained) -> None:
    model, x, y = small_network
    result = ElasticNet(model, beta=0.01, **QUICK).run(x, y)
    assert result.success.all()
    assert (margins(model, result.x_adv, y) > 0).all()
    assert result.x_adv.min() >= 0
    assert result.x_adv.max() <= 1
    change = (result.x_adv - x).double().flatten(1)
    near = {"rtol": 1e-5, "atol": 0.0}  # summed in single precision
    torch.testing.assert_close(result.l2.double(), change.norm(dim=1), **near)
    torch.testing.assert_close(result.l1.double(), change.abs().sum(1), **near)
    torch.testing.assert_close(result.linf.double(), change.abs().amax(1))
    assert torch.equal(result.l0.long(), (change != 0).sum(1))
    objective = change.square().sum(1) + 0.01 * change.abs().sum(1)
    torch.testing.assert_close(result.elastic_net.double(), objective, **near)
    assert (result.iterations == 80).all()
    assert torch.isfinite(result.const).all()


@pytest.mark.parametrize("batch_size", [1, 5, 7])
def test_a_sample_does_not_depend_on_its_batch(small_network: Trained, batch_size: int) -> None:
    model, x, y = small_network
    whole = ElasticNet(model, **QUICK).run(x, y)
    parts = ElasticNet(model, **QUICK, batch_size=batch_size).run(x, y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    shuffled = ElasticNet(model, **QUICK).run(x[order], y[order])
    for field in fields(ElasticNetResult):
        expected = getattr(whole, field.name)
        assert torch.equal(getattr(parts, field.name), expected), field.name
        assert torch.equal(getattr(shuffled, field.name), expected[order]), field.name


def test_confidence_is_kept(small_network: Trained) -> None:
    model, x, y = small_network
    plain = ElasticNet(model, **QUICK).run(x, y)
    sure = ElasticNet(model, confidence=2.0, **QUICK).run(x, y)
    assert sure.success.all()
    assert (margins(model, sure.x_adv, y) >= 2.0).all()
    assert sure.l2.mean() > plain.l2.mean()


def test_rules_choose_what_they_say(small_network: Trained) -> None:
    model, x, y = small_network
    found = {
        rule: ElasticNet(model, beta=0.02, decision_rule=rule, **QUICK).run(x, y)
        for rule in ("EN", "L1", "L2")
    }
    # All rules follow one path of iterates, so each wins by its own distance on every image.
    for other in ("EN", "L2"):
        assert (found["L1"].l1 <= found[other].l1).all()
    for other in ("EN", "L1"):
        assert (found["L2"].l2 <= found[other].l2).all()
    assert (found["EN"].elastic_net <= found["L1"].elastic_net).all()
    assert (found["L1"].l1 < found["L2"].l1).any()


def test_beta_makes_the_change_sparse(small_network: Trained) -> None:
    model, x, y = small_network
    dense = ElasticNet(model, beta=0.0, **QUICK).run(x, y)
    sparse = ElasticNet(model, beta=0.02, **QUICK).run(x, y)
    assert sparse.success.all()
    assert sparse.l0.mean() < 0.7 * dense.l0.mean()


def test_targeted_reaches_the_class_wanted(small_network: Trained) -> None:
    model, x, y = small_network
    result = ElasticNet(model, targeted=True, **QUICK).run(x, 1 - y)
    untargeted = ElasticNet(model, **QUICK).run(x, y)
    torch.testing.assert_close(result.x_adv, untargeted.x_adv)  # the same thing with two classes
    assert result.success.all()


def test_already_misclassified_is_marked_and_left_alone(small_network: Trained) -> None:
    model, x, y = small_network
    wrong = y.clone()
    wrong[3] = 1 - wrong[3]
    result = ElasticNet(model, **QUICK).run(x, wrong)
    assert result.already.nonzero().flatten().tolist() == [3]
    assert not result.success[3]
    assert torch.equal(result.x_adv[3], x[3])
    assert result.iterations[3] == 0
    right = ElasticNet(model, **QUICK).run(x, y)
    assert torch.equal(result.x_adv[4], right.x_adv[4])


def test_failure_returns_the_clean_image_and_says_so(small_network: Trained) -> None:
    model, x, y = small_network
    settings = {**QUICK, "initial_const": 1e-8, "binary_search_steps": 1}
    result = ElasticNet(model, **settings).run(x, y)
    assert not result.success.any()
    assert torch.equal(result.x_adv, x)
    assert torch.isnan(result.const).all()
    assert (result.l2 == 0).all()


def test_the_model_is_left_as_it_was(small_network: Trained) -> None:
    _, x, y = small_network
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4).eval(), nn.Flatten(), nn.LazyLinear(2)
    )
    model.train()
    model[1].eval()
    model(x)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    ElasticNet(model, **{**QUICK, "max_iter": 3}).run(x, y)
    assert model.training
    assert not model[1].training
    assert all(p.grad is None for p in model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_more_than_two_classes() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 7))
    x = torch.rand(9, 1, 8, 8)
    with torch.no_grad():
        y = model(x).argmax(1)
    result = ElasticNet(model, **QUICK).run(x, y)
    with torch.no_grad():
        assert (model(result.x_adv).argmax(1) != y)[result.success].all()
    assert result.success.all()
    wanted = (y + 1) % 7
    settings = {**QUICK, "initial_const": 1.0}
    targeted = ElasticNet(model, targeted=True, **settings).run(x, wanted)
    with torch.no_grad():
        assert torch.equal(model(targeted.x_adv).argmax(1) == wanted, targeted.success)
    assert targeted.success.any()


def test_progress_counts_every_iteration(small_network: Trained) -> None:
    model, x, y = small_network
    seen: list[int] = []
    ElasticNet(model, **QUICK, batch_size=10).run(x, y, progress=seen.append)
    assert sum(seen) == len(x) * 4 * 20


def test_no_images_is_no_error(small_network: Trained) -> None:
    model, x, y = small_network
    result = ElasticNet(model).run(x[:0], y[:0])
    assert result.x_adv.shape == x[:0].shape
    assert len(result.success) == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"learning_rate": 0},
        {"binary_search_steps": 0},
        {"max_iter": 2.5},
        {"beta": -1},
        {"initial_const": float("nan")},
        {"confidence": -1},
        {"decision_rule": "L0"},
        {"batch_size": 0},
    ],
)
def test_bad_parameters_are_refused(small_network: Trained, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ElasticNet(small_network[0], **bad)


def test_bad_images_are_refused(small_network: Trained) -> None:
    model, x, y = small_network
    attack = ElasticNet(model, **QUICK)
    poisoned = x.clone()
    poisoned[0, 0, 0, 0] = torch.nan
    for images in (x * 255, x - 1, poisoned):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            attack.run(images, y)
    with pytest.raises(ValueError, match="float32"):
        attack.run(x.double(), y)
    with pytest.raises(ValueError, match="int64"):
        attack.run(x, y.float())
    with pytest.raises(ValueError, match="int64"):
        attack.run(x, y[:-1])


def test_batch_and_neighbours_do_not_matter_on_the_real_network_either() -> None:
    """Its convolutions round differently in small batches, which EAD would blow up."""
    model = build(Model(weights="none", standardisation="facenet", dropout=0.6), seed=1)
    x = torch.rand(18, 1, 75, 75, generator=torch.Generator().manual_seed(0))
    calibrate_batch_norm(model, lambda: [x])
    with torch.no_grad():
        y = model(x).argmax(1)
    settings = {**QUICK, "binary_search_steps": 1, "max_iter": 4}
    whole = ElasticNet(model, **settings).run(x, y)
    assert whole.success.any()
    parts = ElasticNet(model, **settings, batch_size=5).run(x, y)
    assert torch.equal(parts.x_adv, whole.x_adv)
    assert torch.equal(parts.success, whole.success)
