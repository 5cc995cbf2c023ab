"""The folded attack copy against the network it stands for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from octrobust.config import Model
from octrobust.model import fold
from octrobust.model.build import OCTClassifier, build, calibrate_batch_norm, inception_resnet_v1
from octrobust.model.fold import FoldedInceptionResnet, can_fold


def network(standardisation: Any) -> OCTClassifier:
    """Random weights, but BatchNorm statistics, scales and shifts as training leaves them."""
    model = build(Model(weights="none", standardisation=standardisation, dropout=0.6), seed=1)
    calibrate_batch_norm(model, lambda: [images(8, 1)])
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.weight.data.uniform_(0.8, 1.2, generator=generator)
            module.bias.data.uniform_(-0.1, 0.1, generator=generator)
    return model


def images(count: int, channels: int) -> Tensor:
    return torch.rand(count, channels, 80, 75, generator=torch.Generator().manual_seed(0))


def exact(model: nn.Module, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and the gradient of ``(slope * logits).sum()`` by autograd in float64."""
    z = x.double().requires_grad_(True)
    outputs = model.double()(z)
    (gradient,) = torch.autograd.grad((slope * outputs).sum(), z)
    model.float()
    return outputs.detach(), gradient


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("standardisation", ["none", "facenet"])
def test_logits_and_gradient_are_the_networks(standardisation: str, channels: int) -> None:
    model, x = network(standardisation), images(3, channels)
    slope = torch.tensor([[1.0, -1.0], [0.5, 2.0], [-1.0, 1.0]])
    expected, gradient = exact(model, x, slope)
    folded = FoldedInceptionResnet(model, channels)
    outputs, tape = folded.logits_and_tape(x)
    torch.testing.assert_close(outputs.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(folded.logits(x), outputs)
    found = folded.input_gradient(slope, tape)
    assert found.shape == x.shape
    assert not tape
    # A unit whose input is all but 0 may open in one precision and not in the other.
    assert (found - gradient).norm() < 0.02 * gradient.norm()


def test_bfloat16_gradient_is_as_near_as_that_of_torchs_autocast() -> None:
    model, x = network("facenet"), images(3, 1)
    slope = torch.tensor([[1.0, -1.0]]).expand(3, 2)
    _, gradient = exact(model, x, slope)
    z = x.clone().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        (theirs,) = torch.autograd.grad((slope * model(z).float()).sum(), z)
    outputs, tape = (folded := FoldedInceptionResnet(model, 1, torch.bfloat16)).logits_and_tape(x)
    found = folded.input_gradient(slope, tape)
    assert outputs.dtype == found.dtype == torch.float32
    ours, autocasts = (
        torch.cosine_similarity(one.flatten(1), gradient.flatten(1)) for one in (found, theirs)
    )
    assert (ours > autocasts - 0.02).all()
    assert ours.min() > 0.9


def test_bfloat16_in_one_pass_is_bfloat16_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    folded, x = FoldedInceptionResnet(network("facenet"), 1, torch.bfloat16), images(2, 1)
    slope = torch.tensor([[1.0, -1.0]]).expand(2, 2)
    gradients = []
    for _ in range(2):
        _, tape = folded.logits_and_tape(x)
        gradients.append(folded.input_gradient(slope, tape).flatten(1))
        monkeypatch.setattr(fold, "_has_one_pass", lambda device, dtype: False)
    assert torch.cosine_similarity(*gradients).min() > 0.9


def test_bfloat16_relus_close_where_their_output_is_not_positive() -> None:
    shape = (2, 8, 5, 5)
    out = torch.randn(shape, generator=torch.Generator().manual_seed(1)).relu().bfloat16()
    out.view(-1)[:3] = torch.tensor([-0.0, 1e-38, 3e38])
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(2)).bfloat16()
    expected = torch.where(out > 0, grad, torch.zeros(()).bfloat16())
    assert torch.equal(fold._mask(grad, out), expected)


def test_the_plain_network_folds_too_and_others_do_not() -> None:
    plain = inception_resnet_v1()(classify=True, num_classes=5).eval()
    x = images(2, 3)
    assert can_fold(plain, 3)
    assert not can_fold(plain, 1)  # it takes three channels itself
    with torch.no_grad():
        expected = plain(x)
    torch.testing.assert_close(
        FoldedInceptionResnet(plain, 3).logits(x), expected, rtol=1e-3, atol=1e-4
    )
    assert not can_fold(inception_resnet_v1()(classify=False), 3)
    assert not can_fold(nn.Sequential(plain), 3)

    headed = OCTClassifier()
    headed.network.logits = nn.Sequential(nn.Dropout(), nn.Linear(512, 2))  # a head of one's own
    hooked, hooked_back = OCTClassifier(), OCTClassifier()
    hooked.network.mixed_6a.register_forward_hook(lambda *_: None)
    hooked_back.network.mixed_6a.register_full_backward_pre_hook(lambda *_: None)
    turned, batchwise, shifted = OCTClassifier(), OCTClassifier(), OCTClassifier()
    turned.network.mixed_6a.forward = lambda x: -x
    batchwise.network.conv2d_1a.bn.running_var = None
    shifted.network.conv2d_2a.conv.bias = nn.Parameter(torch.ones(32))
    pooled, headless = OCTClassifier(), OCTClassifier()
    pooled.network.maxpool_3a.kernel_size = 2
    headless.network.logits.bias = None
    others = (headed, hooked, hooked_back, turned, batchwise, shifted, pooled, headless)
    others = (*others, OCTClassifier().double())
    for other in (*others, OCTClassifier().bfloat16()):
        assert not can_fold(other, 1)
    everywhere = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert not can_fold(OCTClassifier(), 1)
    finally:
        everywhere.remove()
    assert can_fold(OCTClassifier(), 1)

    class Changed(OCTClassifier):
        """Its forward may be anything."""

    assert not can_fold(Changed(), 1)


def test_without_onednn_the_plain_operations_give_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folded, x = FoldedInceptionResnet(network("facenet"), 1), images(2, 1)
    slope = torch.tensor([[1.0, -1.0]]).expand(2, 2)
    expected, tape = folded.logits_and_tape(x)
    gradient = folded.input_gradient(slope, tape)
    monkeypatch.setattr(fold, "_has_one_pass", lambda device, dtype: False)
    outputs, tape = folded.logits_and_tape(x)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-4)
    found = folded.input_gradient(slope, tape)
    assert (found - gradient).norm() < 0.02 * gradient.norm()


def test_the_network_is_left_alone() -> None:
    model = network("facenet")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    FoldedInceptionResnet(model, 1)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
