"""An attack copy of Inception-ResNet-V1: the same function with less to compute.

BatchNorm, standardisation and residual scales are folded into the convolutions; the sibling 1 x 1
convolutions at the head of a block run as one; the linear layers at the end are one map. Equal to
the original up to rounding. The way back is written out: it keeps outputs alone, works in place
and computes the input's gradient only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from octrobust.model.build import STANDARDISATION, OCTClassifier, inception_resnet_v1

_LAST = torch.channels_last
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# What the way there leaves for the way back, last in, first out; None: no way back.
Tape = list[Any]


def can_fold(model: nn.Module, channels: int) -> bool:
    """Whether `FoldedInceptionResnet` can stand for this network, on so many channels: its parts
    and their settings are those that facenet-pytorch builds, all in float32, with statistics, and
    none has a hook or a forward of its own."""
    network, fits = model, channels == 3
    if type(model) is OCTClassifier:
        network, fits = model.network, channels in (1, 3)
    if not fits or type(network) is not inception_resnet_v1() or not network.classify:
        return False
    parts = [model, *network.modules()]
    altered = any(any(getattr(m, hooks) for hooks in _HOOKS) or "forward" in vars(m) for m in parts)
    plain = all(p.dtype == torch.float32 for p in network.parameters())
    if altered or not plain or _has_any_global_hook():  # type: ignore[no-untyped-call]
        return False
    if any(getattr(m, "running_var", torch.empty(0)) is None for m in parts):
        return False
    return _structure(network) == _expected_structure()


def _structure(network: nn.Module) -> list[tuple[str, type, str]]:
    """Every part with its settings; how many classes there are and what is dropped may differ."""
    return [(name, type(part), _settings(part)) for name, part in network.named_modules()]


def _settings(part: nn.Module) -> str:
    known = "" if isinstance(part, nn.Linear | nn.Dropout) else part.extra_repr()
    return f"{known} {[name for name, _ in part.named_parameters(recurse=False)]}"


@functools.cache
def _expected_structure() -> list[tuple[str, type, str]]:
    with torch.device("meta"):
        return _structure(inception_resnet_v1()(classify=True, num_classes=2))


@functools.cache
def _has_one_pass(device: str, dtype: torch.dtype) -> bool:
    """Whether torch was built with oneDNN's fused convolutions, and they take this type here."""
    if device != "cpu":
        return False
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):  # type: ignore[no-untyped-call]
        return False
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class FoldedInceptionResnet:
    """The attack copy of an `OCTClassifier` or of facenet-pytorch's network as a classifier.

    Args:
        model: as `can_fold` accepts it; left alone. The copy has its weights of this moment.
        channels: of the images, 1 (grey) or 3.
        dtype: of the convolutions but the first, which stays in float32: pixels in bfloat16
            would lose changes below 1/512.
    """

    def __init__(self, model: nn.Module, channels: int, dtype: torch.dtype = torch.float32) -> None:
        network: Any = model
        scale, shift = 1.0, 0.0
        if isinstance(model, OCTClassifier):
            network = model.network
            scale, shift = STANDARDISATION[model.standardisation]
        with torch.no_grad():
            self.first = _first(network.conv2d_1a, channels, scale, shift)
            self.body = _body(network, dtype)
            self.weight, self.bias = _end(network)
        self.dtype = dtype

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Logits (N, K) float32 of x (N, channels, H, W) float32 in [0, 1]."""
        return self._forward(x, None)[0]

    @torch.no_grad()
    def logits_and_tape(self, x: Tensor) -> tuple[Tensor, Tape]:
        """The same, and what `input_gradient` needs; it can be used once."""
        return self._forward(x, [])

    @torch.no_grad()
    def input_gradient(self, to_logits: Tensor, tape: Tape) -> Tensor:
        """Gradient (N, channels, H, W) float32 of a loss, from its gradient at the logits."""
        shape = tape.pop()
        grad = (to_logits @ self.weight) / (shape[2] * shape[3])
        grad = grad[:, :, None, None].to(self.dtype).expand(shape)
        grad = grad.contiguous(memory_format=_LAST)
        for layer in reversed(self.body):
            grad = layer.backward(grad, tape)
        shape, out = tape.pop()
        return self.first.to_input(_mask(grad, out).float(), shape).contiguous()

    def _forward(self, x: Tensor, tape: Tape | None) -> tuple[Tensor, Tape]:
        shape = x.shape
        x = self.first.apply(x.contiguous(memory_format=_LAST)).to(self.dtype)
        if tape is not None:
            tape.append((shape, x))
        for layer in self.body:
            x = layer.forward(x, tape)
        if tape is not None:
            tape.append(x.shape)
        return F.linear(x.float().mean((2, 3)), self.weight, self.bias), tape or []


class _Convolution:
    """relu(conv(x) + bias [+ residual]), or without the relu."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        stride: tuple[int, ...] = (1, 1),
        padding: tuple[int, ...] = (0, 0),
        *,
        relu: bool = True,
        dtype: torch.dtype,
    ) -> None:
        self.weight = weight.to(dtype).contiguous(memory_format=_LAST)
        self.bias = bias.to(dtype)
        self.stride, self.padding, self.relu = stride, padding, relu
        self._turned: Tensor | None = None  # the weight of the way back, once it was needed

    def apply(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if _has_one_pass(x.device.type, x.dtype):
            return self._one_pass(x, residual)
        out = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        if residual is not None:
            out = out.add_(residual)
        return out.relu_() if self.relu else out

    def _one_pass(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """oneDNN's fused form: convolution, bias, residual and relu in one pass over memory."""
        fused = torch.ops.mkldnn._convolution_pointwise
        shape = (self.padding, self.stride, (1, 1), 1)
        relu = "relu" if self.relu else None
        out: Tensor
        if residual is None:
            out = fused(x, self.weight, self.bias, *shape, relu or "none", [], "")
        else:
            add: tuple[Any, ...] = ("add", 1.0, relu, [], None)
            out = fused.binary(x, residual, self.weight, self.bias, *shape, *add)
        return out

    def to_input(self, grad: Tensor, shape: torch.Size) -> Tensor:
        """Gradient at the input, of this shape, from the one before bias and relu."""
        # Only its shape is read, but it must lie as the real one would, or it is copied first.
        like_input = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=_LAST)
        back = torch.ops.aten.convolution_backward(
            grad,
            like_input,
            self.weight,
            None,
            self.stride,
            self.padding,
            (1, 1),
            False,
            (0, 0),
            1,
            (True, False, False),
        )
        result: Tensor = back[0]
        return result

    def add_to_input(self, grad: Tensor, total: Tensor) -> Tensor:
        """`total`, the gradient at the input from elsewhere, and in place this convolution's, a
        1 x 1 one of stride 1, from the gradient before bias and relu."""
        if not _has_one_pass(grad.device.type, grad.dtype):
            return total.add_(self.to_input(grad, total.shape))
        if self._turned is None:
            self._turned = self.weight.transpose(0, 1).contiguous(memory_format=_LAST)
        shape = (self.padding, self.stride, (1, 1), 1)
        add: tuple[Any, ...] = ("add", 1.0, None, [], None)
        fused = torch.ops.mkldnn._convolution_pointwise_
        added: Tensor = fused.binary(total, grad, self._turned, None, *shape, *add)
        return added

    def forward(self, x: Tensor, tape: Tape | None) -> Tensor:
        out = self.apply(x)
        if tape is not None:
            tape.append((x.shape, out))
        return out

    def backward(self, grad: Tensor, tape: Tape) -> Tensor:
        shape, out = tape.pop()
        return self.to_input(_mask(grad, out), shape)


def _mask(grad: Tensor, out: Tensor) -> Tensor:
    """The way back through the relu that made `out`, in place; `out` is spent."""
    if grad.dtype == torch.bfloat16 and grad.device.type == "cpu":
        # torch's own widens bfloat16 to float32. As integers, what is not above 0 (-0 included)
        # becomes 0 and the rest 1, and the gradient's bits times that are exact.
        grad.view(torch.int16).mul_(out.view(torch.int16).clamp_(0, 1))
        return grad
    masked: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=grad)
    return masked


class _MaxPool:
    """3 x 3, stride 2."""

    window = ((3, 3), (2, 2), (0, 0), (1, 1), False)

    def forward(self, x: Tensor, tape: Tape | None) -> Tensor:
        out, where = torch.ops.aten.max_pool2d_with_indices(x, *self.window)
        if tape is not None:
            tape.append((x, where))
        result: Tensor = out
        return result

    def backward(self, grad: Tensor, tape: Tape) -> Tensor:
        x, where = tape.pop()
        back = torch.ops.aten.max_pool2d_with_indices_backward
        result: Tensor = back(grad, x, *self.window, where)
        return result


class _Branches:
    """Branches of a block: their 1 x 1 heads as one convolution, then each its own tail."""

    def __init__(self, branches: Sequence[Any], dtype: torch.dtype) -> None:
        units = [list(b) if isinstance(b, nn.Sequential) else [b] for b in branches]
        weights, biases = zip(*(_with_batch_norm(chain[0]) for chain in units), strict=True)
        self.head = _Convolution(torch.cat(weights), torch.cat(biases), dtype=dtype)
        self.widths = [len(bias) for bias in biases]
        self.tails = [[_unit(unit, dtype) for unit in chain[1:]] for chain in units]

    def forward(self, x: Tensor, tape: Tape | None) -> list[Tensor]:
        heads = self.head.apply(x)
        if tape is not None:
            tape.append(heads)
        parts = list(torch.split(heads, self.widths, 1))
        for number, tail in enumerate(self.tails):
            if tail:
                parts[number] = parts[number].contiguous(memory_format=_LAST)
            for layer in tail:
                parts[number] = layer.forward(parts[number], tape)
        return parts

    def backward(self, grads: Sequence[Tensor], total: Tensor, tape: Tape) -> Tensor:
        """`total`, the gradient at the input from elsewhere, and in place that of the branches."""
        parts = list(grads)
        for number, tail in reversed(list(enumerate(self.tails))):
            if tail:
                parts[number] = parts[number].contiguous(memory_format=_LAST)
            for layer in reversed(tail):
                parts[number] = layer.backward(parts[number], tape)
        return self.head.add_to_input(_mask(torch.cat(parts, 1), tape.pop()), total)


class _Residual:
    """Block35, Block17, Block8: relu(x + scale * up(branches(x))), the last without the relu."""

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        names = ("branch0", "branch1", "branch2")
        self.branches = _Branches([getattr(block, n) for n in names if hasattr(block, n)], dtype)
        self.up = _Convolution(
            block.conv2d.weight.double() * block.scale,
            block.conv2d.bias.double() * block.scale,
            relu=not getattr(block, "noReLU", False),
            dtype=dtype,
        )

    def forward(self, x: Tensor, tape: Tape | None) -> Tensor:
        parts = self.branches.forward(x, tape)
        out = self.up.apply(torch.cat(parts, 1), x)
        if tape is not None:
            tape.append((out, [part.shape[1] for part in parts]))
        return out

    def backward(self, grad: Tensor, tape: Tape) -> Tensor:
        out, widths = tape.pop()
        if self.up.relu:
            grad = _mask(grad, out)
        shape = torch.Size((len(out), sum(widths), *out.shape[2:]))
        parts = torch.split(self.up.to_input(grad, shape), widths, 1)
        return self.branches.backward(parts, grad, tape)


class _Reduction:
    """Mixed_6a, Mixed_7a: branches and a pool side by side, at half the side."""

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        branches = [b for name, b in block.named_children() if name.startswith("branch")][:-1]
        self.pool = _MaxPool()
        # Mixed_6a's first branch is 3 x 3 itself: no head to share.
        self.direct = [_unit(b, dtype) for b in branches if not isinstance(b, nn.Sequential)]
        self.branches = _Branches([b for b in branches if isinstance(b, nn.Sequential)], dtype)

    def forward(self, x: Tensor, tape: Tape | None) -> Tensor:
        parts = [layer.forward(x, tape) for layer in self.direct]
        parts += self.branches.forward(x, tape)
        parts.append(self.pool.forward(x, tape))
        if tape is not None:
            tape.append([part.shape[1] for part in parts])
        return torch.cat(parts, 1)

    def backward(self, grad: Tensor, tape: Tape) -> Tensor:
        parts = [part.contiguous(memory_format=_LAST) for part in torch.split(grad, tape.pop(), 1)]
        total = self.pool.backward(parts.pop(), tape)
        total = self.branches.backward(parts[len(self.direct) :], total, tape)
        for layer, part in reversed(list(zip(self.direct, parts, strict=False))):
            total += layer.backward(part, tape)
        return total


def _with_batch_norm(unit: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of a `BasicConv2d` with its BatchNorm folded in."""
    norm = unit.bn
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight = unit.conv.weight.double() * scale[:, None, None, None]
    return weight, norm.bias.double() - norm.running_mean.double() * scale


def _unit(unit: Any, dtype: torch.dtype) -> _Convolution:
    weight, bias = _with_batch_norm(unit)
    return _Convolution(weight, bias, unit.conv.stride, unit.conv.padding, dtype=dtype)


def _first(unit: Any, channels: int, scale: float, shift: float) -> _Convolution:
    """The first convolution with the standardisation ``scale * x + shift`` inside."""
    weight, bias = _with_batch_norm(unit)
    bias = bias + shift * weight.sum((1, 2, 3))  # exact: this convolution does not pad
    weight = weight * scale
    if channels == 1:
        weight = weight.sum(1, keepdim=True)
    return _Convolution(weight, bias, unit.conv.stride, dtype=torch.float32)


def _body(network: Any, dtype: torch.dtype) -> list[Any]:
    def units(*names: str) -> Iterable[_Convolution]:
        return (_unit(getattr(network, name), dtype) for name in names)

    return [
        *units("conv2d_2a", "conv2d_2b"),
        _MaxPool(),
        *units("conv2d_3b", "conv2d_4a", "conv2d_4b"),
        *(_Residual(block, dtype) for block in network.repeat_1),
        _Reduction(network.mixed_6a, dtype),
        *(_Residual(block, dtype) for block in network.repeat_2),
        _Reduction(network.mixed_7a, dtype),
        *(_Residual(block, dtype) for block in network.repeat_3),
        _Residual(network.block8, dtype),
    ]


def _end(network: Any) -> tuple[Tensor, Tensor]:
    """last_linear, last_bn and logits as one map from the 1792 pooled features."""
    norm, out = network.last_bn, network.logits
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.double() - norm.running_mean.double() * scale
    weight = scale[:, None] * network.last_linear.weight.double()
    return (
        (out.weight.double() @ weight).float(),
        (out.weight.double() @ bias + out.bias.double()).float(),
    )
