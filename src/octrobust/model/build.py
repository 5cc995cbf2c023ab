"""Inception-ResNet-V1 as a two-class OCT classifier, and which of its children are frozen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from octrobust.config import Model
from octrobust.errors import UserError
from octrobust.model.weights import load_weights

# Scale and shift of pixels in [0, 1], by the parameter's value.
STANDARDISATION = {"none": (1.0, 0.0), "facenet": (255.0 / 128.0, -127.5 / 128.0)}


def inception_resnet_v1() -> type[nn.Module]:
    """facenet-pytorch's class, imported where it is needed: its import is slow and warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the face detector warns on import
        from facenet_pytorch import InceptionResnetV1

        network: type[nn.Module] = InceptionResnetV1
        return network


class OCTClassifier(nn.Module):
    """facenet-pytorch's `InceptionResnetV1` with two outputs (23,483,650 parameters).

    Pixels come in [0, 1]; grey becomes three channels and any standardisation happens here,
    once. Children named in `frozen` neither learn nor update their BatchNorm statistics.
    """

    def __init__(self, standardisation: str = "none", dropout: float = 0.6) -> None:
        super().__init__()
        self.network = inception_resnet_v1()(classify=True, num_classes=2, dropout_prob=dropout)
        self.standardisation = standardisation
        self.frozen: tuple[str, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 2) of x: (N, 1 or 3, H, W) float in [0, 1], H and W at least 75."""
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        if self.standardisation == "facenet":
            x = (x * 255.0 - 127.5) / 128.0
        logits: Tensor = self.network(x)
        return logits

    def train(self, mode: bool = True) -> OCTClassifier:
        """Like `nn.Module.train`, but frozen children stay in eval mode.

        `requires_grad=False` alone would let their BatchNorm statistics drift.
        """
        super().train(mode)
        for name in self.frozen:
            self.network.get_submodule(name).eval()
        return self


def freeze_through(model: OCTClassifier, last: str | None) -> None:
    """Freeze the network's children from the input through `last` (None: nothing).

    The paper's configurations: None; ``repeat_1`` (1,002,752 parameters frozen);
    ``repeat_2`` (9,613,312 frozen).

    Raises:
        UserError: `last` is no child of the network.
    """
    children = [name for name, _ in model.network.named_children() if name != "logits"]
    if last is not None and last not in children:
        raise UserError(
            f"train.variants: freeze_through '{last}' is none of: {', '.join(children)}"
        )
    model.frozen = tuple(children[: children.index(last) + 1]) if last else ()
    for name, child in model.network.named_children():
        child.requires_grad_(name not in model.frozen)
    model.train(model.training)


def build(
    settings: Model,
    frozen_through: str | None = None,
    seed: int = 0,
    parameter: str = "model.weights",
) -> OCTClassifier:
    """A classifier on the CPU, initialised from `settings.weights` under `seed`, in eval mode;
    `parameter` is what named the weights, for messages."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OCTClassifier(settings.standardisation, settings.dropout)
    load_weights(model.network, settings.weights, parameter)
    freeze_through(model, frozen_through)
    return model.eval()


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Number of parameters: all, trainable, frozen."""
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"parameters": total, "trainable": trainable, "frozen": total - trainable}


def calibrate_batch_norm(model: OCTClassifier, batches: Callable[[], Iterable[Tensor]]) -> None:
    """Set BatchNorm statistics to the data's, for a network with random weights.

    A random network's initial statistics (mean 0, variance 1) are wrong at every layer, and a
    frozen child would keep them for good. Frozen children take part: this comes before training.

    Args:
        batches: yields images (N, 1 or 3, H, W) float32 in [0, 1] on the model's device.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    nn.Module.train(model.network, True)
    model.network.get_submodule("dropout").eval()  # the result must not depend on chance
    with torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average over the batches
        for x in batches():
            model(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
