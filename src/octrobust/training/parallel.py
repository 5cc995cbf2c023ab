"""One model learning on several ranks, as one process would learn but for rounding.

Each rank passes its share of the batch. Gradients are averaged by torch's DistributedDataParallel;
BatchNorm takes the statistics of the whole batch, and dropout draws for the whole batch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Sampler

from octrobust.distributed.group import collect
from octrobust.distributed.share import Share
from octrobust.training.datasets import BalancedBatches, Draw


class OwnRows(Sampler[list[Draw]]):
    """This rank's share of every batch."""

    def __init__(self, batches: BalancedBatches, share: Share) -> None:
        self.batches, self.share = batches, share

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in self.batches:
            yield batch[self.share.rows]


def learner(model: nn.Module, share: Share) -> DistributedDataParallel:
    """A second form of `model`, of the same tensors, to pass this rank's share of a batch through
    in training; its gradients, buffers and updates are the model's.

    All ranks start from the first one's tensors. Make one for every epoch: the order in which
    DistributedDataParallel sums gradients depends on how long it has been at it, and a resumed fit
    is to sum as one that was never stopped. Keep it until the last backward pass.
    """
    tensors = {id(t): t for t in chain(model.parameters(), model.buffers())}
    twin = copy.deepcopy(model, tensors)  # the tensors themselves are not copied
    device = next(model.parameters()).device
    _share_dropout(twin, share)
    if device.type == "cuda":
        twin = nn.SyncBatchNorm.convert_sync_batchnorm(twin)  # type: ignore[no-untyped-call]
    else:
        _share_statistics(twin)
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(twin, device_ids=devices, broadcast_buffers=False)


def _share_dropout(module: nn.Module, share: Share) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Dropout:
            setattr(module, name, SharedDropout(child.p, share).train(child.training))
        _share_dropout(child, share)


def _share_statistics(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, SharedBatchNorm(child))
        _share_statistics(child)


class SharedDropout(nn.Module):
    """Dropout as one process would draw it for the whole batch."""

    def __init__(self, p: float, share: Share) -> None:
        super().__init__()
        self.p, self.share = p, share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * self.share.draw(torch.ones_like(x), lambda ones: F.dropout(ones, self.p))


class SharedBatchNorm(_BatchNorm):
    """BatchNorm over the rows of all ranks; torch's SyncBatchNorm runs on no CPU.

    Args:
        norm: whose parameters and buffers these are.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self.train(norm.training)

    def _check_input_dim(self, _: Tensor) -> None:
        """Any will do."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        out, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps)
        self._remember(mean, variance * count / (count - 1))
        result: Tensor = out
        return result

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.momentum is not None
        for name, seen in (("running_mean", mean), ("running_var", variance)):
            self.get_buffer(name).mul_(1 - self.momentum).add_(seen, alpha=self.momentum)
        self.get_buffer("num_batches_tracked").add_(1)


class _Normalise(torch.autograd.Function):
    """Zero mean and unit variance over all ranks' rows, times weight, plus bias.

    Sums over ranks are taken in their order, in float64: every rank gets the same bits.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Any:
        over = [0, *range(2, x.dim())]
        variance, mean = torch.var_mean(x.float(), over, correction=0)
        rows = torch.full_like(mean, x.numel() / x.shape[1])
        counts, means, variances = _of_all(torch.stack([rows, mean, variance])).unbind(1)
        count = counts.sum(0)
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean).square())).sum(0) / count
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean.float(), scale.float(), count)
        out = F.batch_norm(x.float(), mean.float(), variance.float(), weight, bias, eps=eps)
        ctx.mark_non_differentiable(mean, variance, count)
        return out.to(x.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight, mean, scale, count = ctx.saved_tensors
        over, channels = [0, *range(2, x.dim())], (1, -1, *([1] * (x.dim() - 2)))
        gradient = gradients[0].float()
        normal = (x.float() - mean.view(channels)) * scale.view(channels)
        to_bias, to_weight = gradient.sum(over), (gradient * normal).sum(over)
        shared = _of_all(torch.stack([to_bias, to_weight])).sum(0)
        mean_of_gradient, mean_along_normal = (shared / count).float()
        to_x = gradient - mean_of_gradient.view(channels)
        to_x -= normal * mean_along_normal.view(channels)
        to_x *= (weight * scale).view(channels)
        return to_x.to(x.dtype), to_weight, to_bias, None


def _of_all(own: Tensor) -> Tensor:
    """Every rank's tensor (ranks, ...) float64, in order of the ranks."""
    return torch.stack(collect(own.double()))
