"""The control of `static`: the images it attacked once more as they are."""

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
    train: ImageSet,
    channels: int,
    scratch: Path,  # noqa: ARG001
) -> tuple[Source, dict[str, int]]:
    from octrobust.training.datasets import GreyPixels, Source

    rows = found.records["row"]
    source = Source(GreyPixels(train.pixels[rows], channels), train.targets[rows])
    return source, {"duplicates": len(found)}
