"""The replayed notebooks' attack against foolbox's Carlini-Wagner."""

from __future__ import annotations

import foolbox as fb
import torch

from octrobust.attack.carlini_wagner import carlini_wagner_l2
from tests.parity.oracles import Trained


def test_as_good_as_foolbox_image_by_image(small_network: Trained) -> None:
    model, x, y = small_network
    settings = {"binary_search_steps": 5, "initial_const": 0.01}
    oracle = fb.attacks.L2CarliniWagnerAttack(
        **settings, steps=40, stepsize=0.02, confidence=0, abort_early=False
    )
    bounded = fb.PyTorchModel(model, bounds=(0, 1), device="cpu")
    theirs, _, turned = oracle(bounded, x, y, epsilons=None)
    ours = carlini_wagner_l2(model, x, y, learning_rate=0.02, max_iter=40, **settings)
    with torch.no_grad():
        success = model(ours).argmax(1) != y
    assert success.equal(turned)
    assert success.float().mean() > 0.5
    own, other = ((found - x).flatten(1).norm(dim=1)[success] for found in (ours, theirs))
    assert (own / other - 1).abs().max() < 0.01
    assert ours[~success].equal(x[~success])
