"""Our PGD against foolbox's, step by step: on two classes the margin's direction is that of the
cross-entropy."""

from __future__ import annotations

import foolbox as fb
import pytest
from torch import Tensor

from octrobust.attack.pgd import ascend
from octrobust.attack.search_model import SearchModel
from octrobust.attack.speed import Speed, Spent
from tests.parity.oracles import Trained


@pytest.mark.parametrize(
    ("norm", "oracle", "budget"),
    [("L2", fb.attacks.L2PGD, 0.7), ("Linf", fb.attacks.LinfPGD, 0.05)],
)
@pytest.mark.parametrize("steps", [1, 7])
def test_the_same_iterate(
    small_network: Trained, norm: str, oracle: type, budget: float, steps: int
) -> None:
    model, x, y = small_network
    step = 0.3 * budget
    attack = oracle(abs_stepsize=step, steps=steps, random_start=False)
    theirs, _, _ = attack(
        fb.PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilons=budget
    )
    view = SearchModel(model, 1, x.device, targeted=False, speed=Speed(), spent=Spent())

    def ask(at: Tensor) -> tuple[Tensor, Tensor]:
        return view.margin_and_gradient(at, y)

    ours = ascend(ask, x, x, budget, norm=norm, steps=steps, step_size=step)
    # A pixel whose gradient is nought up to rounding may go either way by sign.
    same = (ours - theirs).abs() < 1e-4
    assert same.float().mean() > 0.999
    assert (ours - x).abs().max() > 0.01
