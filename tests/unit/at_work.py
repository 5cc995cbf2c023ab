"""What one process does, or several ranks do together; each leaves what it found in a folder."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from octrobust import config
from octrobust.attack import ElasticNet
from octrobust.attack.shards import Clean, craft
from octrobust.config import Augmentation, Fit, Inner, Model
from octrobust.data.arrays import Batches
from octrobust.distributed import place
from octrobust.distributed.group import gather, joined
from octrobust.distributed.share import own_share
from octrobust.files import write_json
from octrobust.model.build import OCTClassifier, build
from octrobust.training.adversarial import Trades
from octrobust.training.datasets import Augmented, GreyPixels, Source
from octrobust.training.fit import fit
from octrobust.training.parallel import learner
from octrobust.training.threshold import place_threshold
from tests.conftest import blobs

SIDE = 75  # the smallest that Inception-ResNet takes
FIT = Fit(
    optimizer="sgd",
    learning_rate=0.01,
    momentum=0.9,
    weight_decay=0.01,
    schedule="cosine",
    batch_size=5,
    epochs=1,
    precision="fp32",
    seed=11,
    augmentation=Augmentation(crop_scale_min=0.5, flip=0.5, rotation=0.0, contrast=0.0),
)
INNER = Inner(
    norm="L2",
    budget=1.5,
    steps=2,
    ramp=0.0,
    weight=3.0,
    validation_budget=0.5,
    validation_steps=1,
)


def alone_or_together(folder: Path) -> None:
    """Everything below."""
    folder.mkdir(parents=True, exist_ok=True)
    if place.ranks() > 1:
        write_json(folder / f"gathered-{place.rank()}.json", gather({"rank": place.rank()}))
    _attack(folder)
    _step(folder, "plain", nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), _end()))
    norms = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(144, 8), nn.BatchNorm1d(8), _end()
    )  # fmt: skip
    _step(folder, "norms", norms)
    _fit(folder)


def _attack(folder: Path) -> None:
    """EAD on a random network: 5 shards."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    images = torch.rand(10, 1, 8, 8).numpy()
    with torch.no_grad():
        targets = network(torch.from_numpy(images)).argmax(1).numpy()
    attack = ElasticNet(
        network,
        learning_rate=0.05,
        binary_search_steps=3,
        max_iter=15,
        initial_const=0.1,
        beta=0.01,
        batch_size=4,
    )
    craft(
        attack,
        Clean(lambda rows: images[rows], targets, np.arange(10)),
        channels="grey",
        shard_size=2,
        unfinished=folder / "unfinished",
        out=folder / "set",
        made_by={},
    )


def _end() -> nn.Module:
    torch.manual_seed(5)
    return nn.Linear(8, 2)


def _step(folder: Path, name: str, network: nn.Module) -> None:
    """The gradient of one batch of 7, and all tensors after a step along it."""
    images, classes = blobs(7, 8, seed=2)
    x, y = torch.from_numpy(images), torch.from_numpy(classes)
    torch.manual_seed(9)
    for part in network.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            part.reset_parameters()
    share = own_share(7)
    if share is None:
        cross_entropy(network(x), y).backward()
    else:
        outputs = learner(network, share)  # kept: it must live until the gradients are there
        loss = cross_entropy(outputs(x[share.rows]), y[share.rows])
        (loss * (len(share) * place.ranks() / 7)).backward()
    found = {f"gradient.{key}": p.grad for key, p in network.named_parameters()}
    found |= network.state_dict()
    found["next"] = torch.rand(3)  # where torch's generator stands
    _keep(folder / f"{name}.{place.rank()}.safetensors", found)


def unfitted() -> OCTClassifier:
    """Where `_fit` starts."""
    return build(Model(weights="none", standardisation="none", dropout=0.6), "repeat_2", seed=3)


def _fit(folder: Path) -> None:
    """TRADES on Inception-ResNet, an epoch of 2 steps with shares of 2 and 3 images; the line is
    moved by 6 batches."""
    model = unfitted()
    images, targets = blobs(10, 86, seed=0)
    source = Source(GreyPixels((images[:, 0] * 255).astype(np.uint8)), targets)
    result = fit(
        model,
        Augmented([source], SIDE, FIT.augmentation, FIT.seed),
        _validation(),
        FIT,
        checkpoint=folder / "checkpoint.pt",
        objective=Trades(INNER, "fp32"),
        average=0.5,
        line_moves=True,
    )
    moved = place_threshold(model, Trades(INNER, "fp32"), _validation(), _validation())
    write_json(folder / f"line.{place.rank()}.json", {"moved": moved})
    _keep(folder / f"fit.{place.rank()}.safetensors", dict(model.network.state_dict()))
    write_json(folder / f"history.{place.rank()}.json", result.history)


def _validation() -> Batches:
    return [blobs(4, SIDE, seed) for seed in (5, 6, 7)]


def _keep(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({key: value.detach().contiguous().clone() for key, value in tensors.items()}, path)


if __name__ == "__main__":
    compute = config.load("params.yaml").compute
    with joined(compute):
        alone_or_together(Path(sys.argv[1]))
