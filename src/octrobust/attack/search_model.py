"""The network as the search sees it: logit margins and their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from octrobust.attack.speed import Speed, Spent
from octrobust.model.device import use_bf16
from octrobust.model.fold import FoldedInceptionResnet, can_fold
from octrobust.model.predict import chunks, filling, float32, logits


def margin(outputs: Tensor, y: Tensor, targeted: bool) -> Tensor:
    """How far beyond the decision boundary, on the attacker's side, in logits: (N,).

    Args:
        outputs: (N, K) logits.
        y: (N,) int64, the true classes (targeted: the classes wanted).
    """
    own = outputs.gather(1, y[:, None]).squeeze(1)
    others = outputs.scatter(1, y[:, None], -torch.inf).amax(1)
    return own - others if targeted else others - own


# How far the search's view may be off, as a fraction of a clean image's margin.
_SLACK = {"fp32": 0.001, "tf32": 0.05, "bf16": 0.05}


def resolve_precision(model: nn.Module, channels: int, device: torch.device, speed: Speed) -> str:
    """The precision that a search really has: fp32, tf32 or bf16."""
    if speed.precision == "auto":
        folds = speed.fold and can_fold(model, channels)
        return "bf16" if folds and use_bf16("auto", device) else "fp32"
    return "fp32" if speed.precision == "tf32" and device.type != "cuda" else speed.precision


class SearchModel:
    """Margins and gradients of a network in eval mode, from a folded copy where there is one.

    Args:
        model: images (N, C, H, W) float32 in [0, 1] to logits (N, K).
        channels: C.
        device: where the model and the images are.
        slack: fraction of a clean image's margin by which this view of the network may differ
            from the original in float32; 0 where it is the original in float32.
        spent: counts what is asked.
    """

    def __init__(
        self,
        model: nn.Module,
        channels: int,
        device: torch.device,
        *,
        targeted: bool,
        speed: Speed,
        spent: Spent,
    ) -> None:
        self.model, self.targeted, self.spent, self.fill = model, targeted, spent, speed.fill
        folds = speed.fold and can_fold(model, channels)
        precision = resolve_precision(model, channels, device, speed)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.folded = FoldedInceptionResnet(model, channels, dtype) if folds else None
        self.slack = _SLACK[precision] if folds or precision != "fp32" else 0.0
        self._autocast = torch.autocast(
            device.type, torch.bfloat16, enabled=precision == "bf16" and not folds
        )
        self._tf32 = precision == "tf32"
        self._recurrent = any(isinstance(part, nn.RNNBase) for part in model.modules())

    def margin(self, x: Tensor, y: Tensor) -> Tensor:
        """Margins (N,) float32 at x (N, C, H, W) float32, for y (N,) int64 as in `margin`."""
        self.spent.screens += len(x)
        self.spent.filled_forwards += filling(len(x), x.device, fill=self.fill)
        with torch.no_grad(), float32(tf32=self._tf32), self._autocast:
            ask = self.folded.logits if self.folded else self.model
            return margin(logits(ask, x, fill=self.fill).float(), y, self.targeted)

    def margin_and_gradient(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Margins (N,) and their gradients (N, C, H, W), float32, at x (N, C, H, W) float32, for
        y (N,) int64.

        Raises:
            ValueError: no gradient reaches x.
        """
        self.spent.gradients += len(x)
        self.spent.filled_gradients += filling(len(x), x.device, fill=self.fill)
        with float32(tf32=self._tf32), self._autocast:
            whole = _with_targets(x, y) if self.fill else [(x, len(x), y)]
            parts = [self._chunk(part, real, y) for part, real, y in whole]
        margins, gradients = zip(*parts, strict=True)
        return torch.cat(margins), torch.cat(gradients)

    def _chunk(self, x: Tensor, real: int, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.folded is None:
            with torch.enable_grad(), self._way_back():
                x = x.detach().requires_grad_(True)
                margins = margin(self.model(x).float(), y, self.targeted)
                gradient = None
                if margins.requires_grad:
                    (gradient,) = torch.autograd.grad(margins.sum(), x, allow_unused=True)
                if gradient is None:
                    raise ValueError("no gradient of the model's logits reaches its input")
            return margins.detach()[:real], gradient[:real]
        outputs, tape = self.folded.logits_and_tape(x)
        gradient = self.folded.input_gradient(_margin_slope(outputs, y, self.targeted), tape)
        return margin(outputs, y, self.targeted)[:real], gradient[:real]

    @contextmanager
    def _way_back(self) -> Iterator[None]:
        """cuDNN's recurrent layers have none in eval mode; torch's own have."""
        cudnn = torch.backends.cudnn
        before = cudnn.enabled
        cudnn.enabled = before and not self._recurrent
        try:
            yield
        finally:
            cudnn.enabled = before


def _margin_slope(outputs: Tensor, y: Tensor, targeted: bool) -> Tensor:
    """Gradient (N, K) of the margins at the logits: 1 and -1 at the two classes compared."""
    rival = outputs.scatter(1, y[:, None], -torch.inf).argmax(1, keepdim=True)
    slope = torch.zeros_like(outputs).scatter(1, rival, 1.0).scatter(1, y[:, None], -1.0)
    return -slope if targeted else slope


def _with_targets(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, int, Tensor]]:
    """As `chunks`, with the classes of each."""
    for (part, real), (targets, _) in zip(chunks(x), chunks(y), strict=True):
        yield part, real, targets
