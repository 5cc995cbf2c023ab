"""The battery: every attack stays in its ball, and what it is worth is measured on the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from octrobust.attack import ElasticNet
from octrobust.attack.pgd import Pgd, Views, ascend, project, random_start
from octrobust.attack.suite import Attack, battery, judge
from octrobust.config import AttackSizes

Trained = tuple[nn.Module, Tensor, Tensor]
ALL = torch.ones(8, dtype=torch.bool)  # the network is right on every clean image
SIZES = AttackSizes(
    l2=[1.0, 4.0],
    linf=[0.05, 0.3],
    steps=8,
    restarts=1,
    square_queries=30,
    hop_skip_jump_rounds=1,
    noise_draws=3,
    seed=5,
)


@pytest.fixture(scope="module")
def attacks(small_network: Trained) -> dict[str, tuple[Attack, Tensor]]:
    """Each attack with its candidates for the first eight images."""
    model, x, y = small_network
    ead = ElasticNet(model, learning_rate=0.05, binary_search_steps=4, max_iter=20, initial_const=1)
    plan = battery(model, {"ead_en": ead}, SIZES)
    return {attack.name: (attack, attack.run(x[:8], y[:8])) for attack in plan}


def test_every_attack_is_there_once_and_stays_in_its_ball(
    small_network: Trained, attacks: dict[str, tuple[Attack, Tensor]]
) -> None:
    x = small_network[1][:8]
    methods = ("fgsm", "pgd", "apgd", "noise")
    expected = {f"{m}_l2_{b}" for m in methods for b in ("1", "4")}
    expected |= {f"{m}_linf_{b}" for m in (*methods, "square") for b in ("0.05", "0.3")}
    expected |= {"pgd_long_l2_4", "pgd_long_linf_0.3", "ead_en", "deepfool", "hop_skip_jump"}
    assert expected <= set(attacks)
    for name, (attack, found) in attacks.items():
        assert found.shape == x.shape, name
        assert found.min() >= 0, name
        assert found.max() <= 1, name
        if attack.budget is None:
            continue
        change = (found - x).flatten(1)
        size = change.norm(dim=1) if attack.norm == "l2" else change.abs().amax(1)
        assert (size <= attack.budget * 1.0001).all(), name
        assert size.max() > 0.5 * attack.budget, name


def test_stronger_attacks_turn_more(
    small_network: Trained, attacks: dict[str, tuple[Attack, Tensor]]
) -> None:
    model, x, y = small_network

    def turned(name: str) -> int:
        return int(judge(model, x[:8], y[:8], ALL, attacks[name][1], 0.001)["success"].sum())

    assert turned("pgd_l2_4") > turned("pgd_l2_1")
    assert turned("noise_l2_4") < turned("pgd_l2_4")
    assert turned("pgd_l2_4") >= turned("fgsm_l2_4")
    assert turned("apgd_l2_4") >= turned("fgsm_l2_4")
    for unbounded in ("ead_en", "deepfool", "hop_skip_jump"):
        assert turned(unbounded) == 8
    # What looks for the smallest change finds a smaller one than what has labels alone.
    least = {
        name: judge(model, x[:8], y[:8], ALL, attacks[name][1], 0.001)["l2"].mean()
        for name in ("deepfool", "hop_skip_jump")
    }
    assert least["deepfool"] < least["hop_skip_jump"]


def test_a_battery_repeats_itself_and_leaves_all_else_alone(small_network: Trained) -> None:
    model, x, y = small_network
    learning = [parameter.requires_grad for parameter in model.parameters()]
    model.zero_grad()
    states = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    model.train()
    try:
        for attack in battery(model, {}, SIZES):
            if attack.name.startswith(("square", "apgd", "pgd_l2", "noise", "hop")):
                assert torch.equal(attack.run(x[:4], y[:4]), attack.run(x[:4], y[:4])), attack.name
        assert model.training
    finally:
        model.eval()
    assert [parameter.requires_grad for parameter in model.parameters()] == learning
    assert all(parameter.grad is None for parameter in model.parameters())
    np.testing.assert_array_equal(np.random.get_state()[1], states[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[1])


def test_a_restart_never_finds_less(small_network: Trained) -> None:
    model, x, y = small_network

    def margins(restarts: int) -> Tensor:
        with torch.no_grad():
            out = model(Pgd(Views(model), "L2", 0.5, 3, restarts, 1)(x, y))
        return out.gather(1, 1 - y[:, None]) - out.gather(1, y[:, None])

    assert (margins(3) >= margins(0)).all()


def test_success_is_wrong_now_and_right_before() -> None:
    """A network that calls the first pixel's half."""

    class Threshold(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            bright = x[:, 0, 0, 0] - 0.5
            return torch.stack([-bright, bright], 1)

    x = torch.tensor([0.2, 0.2, 0.8, 0.2]).reshape(4, 1, 1, 1)
    y = torch.tensor([0, 0, 0, 0])  # the third is wrong when clean
    candidates = torch.tensor([0.9, 0.3, 0.9, 0.5005]).reshape(4, 1, 1, 1)
    found = judge(Threshold(), x, y, Threshold()(x).argmax(1) == y, candidates, 0.5)
    assert found["success"].tolist() == [True, False, False, True]
    # 0.5005 is 127.6 of 255 and rounds to 128, still bright; 0.5 + 1e-4 would go to 128 as well.
    assert found["success_8bit"].tolist() == [True, False, False, True]
    assert found["success_jpeg"].tolist()[:3] == [True, False, False]
    assert found["success_grey"].tolist() == found["success"].tolist()
    np.testing.assert_allclose(found["l2"][0], 0.7, rtol=1e-6)
    np.testing.assert_allclose(found["elastic_net"][0], 0.49 + 0.35, rtol=1e-6)
    assert np.isnan(found["l1"][1:3]).all()


def test_what_three_channels_find_may_not_survive_as_one() -> None:
    """A network that looks at the difference of two channels."""

    class Colour(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            red = (x[:, 0] - x[:, 1]).mean((1, 2)) - 0.1
            return torch.stack([-red, red], 1)

    x = torch.full((1, 3, 16, 16), 0.5)
    candidate = x.clone()
    candidate[:, 0] += 0.2
    found = judge(Colour(), x, torch.tensor([0]), ALL[:1], candidate, 0.001)
    assert found["success"].tolist() == found["success_jpeg"].tolist() == [True]
    assert found["success_grey"].tolist() == [False]


@pytest.mark.parametrize("norm", ["L2", "Linf"])
def test_on_a_linear_network_pgd_ends_at_the_balls_far_point(norm: str) -> None:
    weight = torch.tensor([3.0, -4.0, 0.0]).reshape(1, 1, 1, 3)
    x = torch.full((1, 1, 1, 3), 0.5)

    def ask(at: Tensor) -> tuple[Tensor, Tensor]:
        return (at * weight).flatten(1).sum(1), weight.expand_as(at)

    found = ascend(ask, x, x, 0.1, norm=norm, steps=5, step_size=0.05)
    direction = weight / 5 if norm == "L2" else weight.sign()
    torch.testing.assert_close(found, x + 0.1 * direction)


def test_projection_leads_into_the_ball_and_the_box() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(6, 1, 5, 5, generator=generator)
    far = x + torch.randn(x.shape, generator=generator)
    for norm, size in (
        ("L2", lambda d: d.flatten(1).norm(dim=1)),
        ("Linf", lambda d: d.abs().flatten(1).amax(1)),
    ):
        for inside in (project(x, far, 0.4, norm), random_start(x, 0.4, norm, generator)):
            assert (size(inside - x) <= 0.4 + 1e-6).all()
            assert inside.min() >= 0
            assert inside.max() <= 1
        near = (x + 0.01).clamp(max=1.0)
        torch.testing.assert_close(project(x, near, 0.4, norm), near)


@pytest.mark.parametrize("bad", [{"norm": "L7"}, {"steps": 0}, {"step_size": 0.0}])
def test_bad_settings_are_refused(bad: dict[str, object]) -> None:
    settings: dict[str, object] = {"norm": "L2", "steps": 1, "step_size": 0.1, **bad}
    x = torch.zeros(1, 1, 1, 1)
    with pytest.raises(ValueError, match="norm"):
        ascend(lambda at: (at.flatten(), at), x, x, 0.1, **settings)  # type: ignore[arg-type]
