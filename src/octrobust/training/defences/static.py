"""The paper's way: the adversarial form of the training images, stored before, with true labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octrobust.attack.shards import AdversarialSet
    from octrobust.data.arrays import ImageSet
    from octrobust.training.datasets import Source

NEEDS = ()


def added(
    found: AdversarialSet,
    train: ImageSet,  # noqa: ARG001
    channels: int,  # noqa: ARG001
    scratch: Path,
) -> tuple[Source, dict[str, int]]:
    from octrobust.training.datasets import Source, StoredFloats

    succeeded = int(found.records["success"].sum())
    counts = {"adversarial_images": succeeded, "unchanged_by_the_attack": len(found) - succeeded}
    images = StoredFloats(found.unpack(scratch / "adversarial.npy"))
    return Source(images, found.records["target"]), counts
