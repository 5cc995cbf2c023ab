"""Any network, any caller: what the attack takes, what it refuses, and what it leaves alone."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from octrobust.attack import ElasticNet, Shortcuts, Speed
from octrobust.model.predict import float32
from tests.conftest import blobs, learn
from tests.unit.test_elastic_net import QUICK, SOLVERS, Trained, assert_same


def test_the_callers_modes_neither_matter_nor_change(small_network: Trained) -> None:
    """Autocast would round the verdicts, a graph would grow over the run, and inference mode
    refuses gradients."""
    model, x, y = small_network
    expected = ElasticNet(model, **QUICK).run(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(ElasticNet(model, **QUICK).run(x, y), expected)
        assert torch.is_autocast_enabled("cpu")
    found = ElasticNet(model, **QUICK).run(x.clone().requires_grad_(True), y)
    assert_same(found, expected)
    assert not found.x_adv.requires_grad
    with torch.inference_mode():
        assert_same(ElasticNet(model, **QUICK).run(x.clone(), y), expected)


@pytest.fixture
def coarse() -> Iterator[None]:
    """Float32 as programs set it for speed: on a processor with bf16 units, products in bf16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@SOLVERS
def test_a_success_is_one_in_float32_where_the_caller_computes_more_coarsely(
    coarse: None, solver: str
) -> None:
    torch.manual_seed(0)
    images, targets = (torch.from_numpy(part) for part in blobs(256, 16, seed=0))
    wide = [nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 2)]
    model = nn.Sequential(nn.Flatten(), *wide)
    learn(model, images, targets, steps=60)
    x, y = (torch.from_numpy(part) for part in blobs(48, 16, seed=1))
    settings = {**QUICK, "learning_rate": 0.01, "max_iter": 30, "shortcuts": Shortcuts(solver)}
    found = ElasticNet(model, **settings).run(x, y)
    assert found.success.float().mean() > 0.9
    with torch.no_grad():
        after = model.double()(found.x_adv.double()).argmax(1)
    assert (after != y)[found.success].all()
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("cuda.matmul", "allow_tf32", True),
        ("cudnn", "allow_tf32", False),
        ("cudnn.conv", "fp32_precision", "ieee"),
        ("mkldnn.conv", "fp32_precision", "bf16"),
    ],
)
def test_torchs_precisions_are_as_the_caller_had_them(part: str, name: str, value: Any) -> None:
    """Inside, both of torch's ways to ask agree; it refuses to answer where they do not."""
    if part.endswith("conv") and not hasattr(torch.backends.cudnn, "conv"):
        pytest.skip("torch has these from 2.9 on")
    place = operator.attrgetter(part)(torch.backends)
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        with float32():
            assert not torch.backends.cuda.matmul.allow_tf32
            if (part, name) != ("cudnn.conv", "fp32_precision"):  # torch had refused before
                assert not torch.backends.cudnn.allow_tf32
                with torch.backends.cudnn.flags(enabled=False):
                    pass
        assert getattr(place, name) == value
    finally:
        setattr(place, name, before)


def test_a_failing_network_leaves_everything_as_it_was(small_network: Trained) -> None:
    _, x, y = small_network

    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("no")

    model = nn.Sequential(nn.Identity().eval(), Failing()).train()
    model[0].eval()
    with pytest.raises(RuntimeError, match="no"):
        ElasticNet(model, **QUICK).run(x, y)
    assert model.training
    assert not model[0].training
    assert torch.is_grad_enabled()


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


class _Constant(nn.Module):
    """Two logits that say nothing of the image."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0]).expand(len(x), 2)


class _Detached(nn.Module):
    """A network that learns, behind preprocessing that no gradient passes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            flat = x.flatten(1)
        outputs: Tensor = self.head(flat)
        return outputs


@SOLVERS
@pytest.mark.parametrize("kind", [_Constant, _Detached])
def test_a_network_without_a_gradient_is_refused_not_called_robust(
    kind: type[nn.Module], solver: str
) -> None:
    model, x = kind(), torch.rand(2, 1, 8, 8)
    attack = ElasticNet(model, **QUICK, shortcuts=Shortcuts(solver))
    with pytest.raises(ValueError, match="no gradient"):
        attack.run(x, model(x).argmax(1))


class _Rounding(nn.Module):
    """Rounds to 8 bits first, which has a gradient of zero; but of bright images nothing."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x.amax((1, 2, 3), keepdim=True) > 0.9
        seen = torch.where(bright, x, (x * 255).round() / 255).flatten(1)
        return torch.stack([seen[:, :32].sum(1), seen[:, 32:].sum(1)], 1)


@SOLVERS
def test_a_gradient_of_zero_is_said_not_called_robust(solver: str) -> None:
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.8
    x[0, 0, 0, 0] = 0.95
    y = _Rounding()(x).argmax(1)
    attack = ElasticNet(_Rounding(), **QUICK, shortcuts=Shortcuts(solver))
    with pytest.warns(UserWarning, match="was zero at 3 of 4 images"):
        found = attack.run(x, y)
    assert found.success.tolist() == [True, False, False, False]


def test_a_single_output_is_refused() -> None:
    one = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    with pytest.raises(ValueError, match="K >= 2"):
        ElasticNet(one).run(torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64))


@SOLVERS
def test_the_default_type_of_torch_does_not_matter(small_network: Trained, solver: str) -> None:
    model, x, y = small_network
    attack = ElasticNet(model, **QUICK, shortcuts=Shortcuts(solver=solver))
    expected = attack.run(x, y)
    torch.set_default_dtype(torch.float64)
    try:
        assert_same(attack.run(x, y), expected)
    finally:
        torch.set_default_dtype(torch.float32)


class _Recurrent(nn.Module):
    """A scan read line by line, with one's own way round cuDNN on top."""

    def __init__(self) -> None:
        super().__init__()
        self.lines, self.head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 2)
        self.through_cudnn: set[bool] = set()  # where a gradient is wanted

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            self.through_cudnn.add(torch.backends.cudnn.enabled)
        with torch.backends.cudnn.flags(enabled=False):
            outputs: Tensor = self.head(self.lines(x[:, 0])[0][:, -1])
        return outputs


@SOLVERS
def test_a_recurrent_network_is_attacked(solver: str) -> None:
    torch.manual_seed(0)
    model, x = _Recurrent(), torch.rand(6, 1, 8, 8)
    with torch.no_grad():
        outputs = model(x)
        model.head.bias[0] += (outputs[:, 1] - outputs[:, 0]).median()  # the boundary among them
        y = model(x).argmax(1)
    found = ElasticNet(model, **QUICK | {"initial_const": 10.0}, shortcuts=Shortcuts(solver))
    assert found.run(x, y).success.any()
    assert model.through_cudnn == {False}  # cuDNN's own has no way back in eval mode
    assert torch.backends.cudnn.enabled


class _Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1)[:, :2], x


def test_a_network_of_several_outputs_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="a tensor, not tuple"):
        ElasticNet(_Pair()).run(torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))


class _Broken(nn.Module):
    """Finite logits whose gradient is no number, or logits that are none."""

    def __init__(self, *, logits: bool) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        outputs = x.flatten(1)[:, :2]
        if self.logits:
            return outputs * torch.nan
        return outputs + (x - x).abs().sum((1, 2, 3)).sqrt()[:, None]


@SOLVERS
@pytest.mark.parametrize(
    ("logits", "match"), [(True, "not numbers"), (False, "no number at 3 of 3 images")]
)
def test_what_cannot_be_attacked_is_not_called_robust(
    solver: str, logits: bool, match: str
) -> None:
    x = torch.rand(3, 1, 8, 8)
    y = x.flatten(1)[:, :2].argmax(1)
    attack = ElasticNet(_Broken(logits=logits), **QUICK, shortcuts=Shortcuts(solver))
    with pytest.raises(ValueError, match=match):
        attack.run(x, y)


@SOLVERS
def test_few_images_may_go_without_filling_up(small_network: Trained, solver: str) -> None:
    model, x, y = small_network
    x, y, short = x[:3], y[:3], Shortcuts(solver)
    filled = ElasticNet(model, **QUICK, shortcuts=short)
    plain = ElasticNet(model, **QUICK, shortcuts=short, speed=Speed(fill=False))
    expected, found = filled.run(x, y), plain.run(x, y)
    assert plain.spent.filled_gradients == plain.spent.filled_forwards == 0
    assert filled.spent.filled_gradients > 3 * filled.spent.gradients
    assert torch.equal(found.success, expected.success)
    torch.testing.assert_close(found.elastic_net, expected.elastic_net, rtol=0.01, atol=0.0)
