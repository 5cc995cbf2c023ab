"""What the paper's published notebooks ran, with its faults, so that they can be seen.

Nothing else may use this: models here are stepped on the images that they are measured on.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from tqdm import tqdm

from octrobust.attack.carlini_wagner import carlini_wagner_l2
from octrobust.config import Params, Replay
from octrobust.data.arrays import ImageSet, open_split
from octrobust.files import write_json
from octrobust.model.build import OCTClassifier, build
from octrobust.model.device import select_device
from octrobust.model.predict import predict
from octrobust.stages.attack import spread_rows
from octrobust.stages.common import as_tensors
from octrobust.training.datasets import Augmented, BalancedBatches, GreyPixels, Source, StoredFloats

CHANNELS = 3  # they knew no grey
Images = tuple[Tensor, Tensor]  # (N, C, S, S) float32 in [0, 1] and (N,) int64


def replay(params: Params, name: str, arrays: Path, metrics: Path) -> None:
    """Replay ``replay.NAME``, see docs/paper-audit.md for what is known and what is
    assumed.

    A fresh model, not attack.target, is trained for part of an epoch at a high rate; attacked by
    Carlini and Wagner's L2 attack on part of the validation images while the optimiser steps on
    those attacked images (`attacked`, the 7.55 % of the paper); trained on originals and attacked
    training images; and attacked once more on the test images, stepping on them as well
    (`hardened`, the 50.20 %).

    Args:
        metrics: JSON of accuracies. ``_stepping``: as the notebooks measured; ``_fixed``: of the
            same model before it stepped, on the same images attacked in the same way.
    """
    settings = params.replay[name]  # type: ignore[index]
    device = select_device(params.compute)
    splits = {
        split: open_split(arrays, split, params.data.image_size)
        for split in ("train", "extra", "validation", "test")
    }
    run = _Notebook(params, settings, device)
    originals = [
        Source(GreyPixels(splits[s].pixels, CHANNELS), splits[s].targets)
        for s in ("train", "extra")
    ]
    fresh = run.train(originals[:1], settings.epochs_before_attack, "before the attack")
    share = splits["validation"]
    count = max(round(len(share) * settings.share_of_validation / 2), 1)
    some = as_tensors(share, spread_rows(share, count), "rgb", device)
    attacked = run.attack(splits["train"], settings.train_images_per_class)
    found: dict[str, Any] = {
        "fresh_train_accuracy": fresh,
        "fresh_clean_accuracy": run.clean(splits["test"]),
        "attacked_fixed": run.measure(some, stepping=False, label="attacked, fixed"),
        "attacked_stepping": run.measure(some, stepping=True, label="attacked, stepping"),
        "attacked_images": len(some[1]),
        "hardened_train_accuracy": run.train(
            [*originals, attacked], settings.epochs_of_hardening, "hardening"
        ),
        "hardened_clean_accuracy": run.clean(splits["test"]),
    }
    test = as_tensors(splits["test"], np.arange(len(splits["test"])), "rgb", device)
    found |= {
        "hardened_fixed": run.measure(test, stepping=False, label="hardened, fixed"),
        "hardened_stepping": run.measure(test, stepping=True, label="hardened, stepping"),
        "hardened_clean_accuracy_after": run.clean(splits["test"]),
        "commonest_answer_share": run.commonest(splits["test"]),
        "test_images": len(test[1]),
    }
    write_json(metrics, found)


class _Notebook:
    """The one model and its optimiser, which go from cell to cell."""

    def __init__(self, params: Params, settings: Replay, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        how = params.model.model_copy(update={"standardisation": settings.standardisation})
        self.model: OCTClassifier = build(how, None, settings.seed).to(device)
        self.settings, self.size, self.device = settings, params.data.image_size, device
        self.augmentation = params.train.augmentation
        self.batch = params.compute.predict_batch_size
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), settings.learning_rate, momentum=settings.momentum
        )

    def train(self, sources: list[Source], epochs: float, label: str) -> float:
        """Returns the running accuracy of the last epoch, as the notebooks print it."""
        settings = self.settings
        data = Augmented(sources, self.size, self.augmentation, settings.seed)
        sampler = BalancedBatches(data.targets, settings.batch_size, settings.seed)
        steps, right = round(epochs * len(sampler)), []
        self.model.train()
        with tqdm(total=steps, desc=f"replay: {label}", unit="batch", leave=False) as bar:
            while bar.n < steps:
                for x, y in islice(DataLoader(data, batch_sampler=sampler), steps - int(bar.n)):
                    outputs = self._step(x.to(self.device), y.to(self.device))
                    right.append(float((outputs.argmax(1).cpu() == y).float().mean()))
                    bar.update()
                sampler.epoch += 1
        return float(np.mean(right[-len(sampler) :]))

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        outputs: Tensor = self.model(x).float()
        cross_entropy(outputs, y).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return outputs.detach()

    def measure(self, images: Images, *, stepping: bool, label: str) -> float:
        """Accuracy on attacked images, batch by batch; `stepping`: the notebooks' fault, training
        on each batch right after it was attacked, from the outputs it is measured by."""
        self.model.eval()
        right = 0
        batches = zip(
            *(torch.split(part, self.settings.batch_size) for part in images), strict=True
        )
        for x, y in tqdm(list(batches), desc=f"replay: {label}", unit="batch", leave=False):
            adversarial = self._adversarial(x, y)
            if stepping:
                outputs = self._step(adversarial, y)
            else:
                with torch.no_grad():
                    outputs = self.model(adversarial)
            right += int((outputs.argmax(1) == y).sum())
        return right / len(images[1])

    def attack(self, images: ImageSet, per_class: int | None) -> Source:
        """The attacked form of training images, to harden with."""
        self.model.eval()
        x, y = as_tensors(images, spread_rows(images, per_class), "rgb", self.device)
        parts = zip(torch.split(x, self.batch), torch.split(y, self.batch), strict=True)
        found = torch.cat(
            [
                self._adversarial(*part)
                for part in tqdm(list(parts), desc="replay: attack", unit="batch", leave=False)
            ]
        )
        return Source(StoredFloats(found.cpu().numpy()), y.cpu().numpy())

    def _adversarial(self, x: Tensor, y: Tensor) -> Tensor:
        return carlini_wagner_l2(self.model, x, y, **self.settings.attack.model_dump())

    def clean(self, images: ImageSet) -> float:
        return float((self._predictions(images) == images.targets).mean())

    def commonest(self, images: ImageSet) -> float:
        """Share of clean images that get the model's commonest answer: 1 is a constant."""
        return float(np.bincount(self._predictions(images), minlength=2).max() / len(images))

    def _predictions(self, images: ImageSet) -> NDArray[np.int64]:
        self.model.eval()
        parts = (predict(self.model, torch.from_numpy(x)) for x, _ in images.batches(self.batch))
        return np.concatenate(list(parts))
