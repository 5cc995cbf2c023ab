"""Attacked images to look at: the usual success of a direction, and the two ends of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octrobust.attack.shards import AdversarialSet
from octrobust.data.arrays import ImageSet


@dataclass(frozen=True)
class Example:
    """An image before and after the attack.

    before: (1, S, S) float32 in [0, 1]; after: (C, S, S), the same range, as stored; of: how many
    successes it was chosen from; l2 and linf on pixels in [0, 1].
    """

    before: NDArray[np.float32]
    after: NDArray[np.float32]
    path: str
    true_class: str
    found_class: str
    l2: float
    linf: float
    survives_rounding: bool
    of: int

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return PurePosixPath(self.path).name

    @property
    def difference(self) -> NDArray[np.float32]:
        """After minus before, (S, S); of several channels, the one that changed most."""
        change = self.after - self.before
        largest = np.abs(change).argmax(axis=0)[None]
        chosen: NDArray[np.float32] = np.take_along_axis(change, largest, axis=0)[0]
        return chosen

    @property
    def amplification(self) -> int:
        """The largest of 1, 2, 5, 10, 20 ... at which nine in ten of the changed pixels fit.

        EAD changes few pixels, and fewer still by much: scaled to the largest, most would be
        too pale to see.
        """
        sizes = np.abs(self.difference)
        usual = float(np.quantile(sizes[sizes > 0], 0.9)) if sizes.any() else 1.0
        steps = [digit * 10**power for power in range(5) for digit in (1, 2, 5)]
        return max((step for step in steps if step * usual <= 1), default=1)

    @property
    def changed(self) -> float:
        """Share of the pixels that differ at all."""
        return float((self.difference != 0).mean())


def median_example(
    found: AdversarialSet, images: ImageSet, classes: Sequence[str], true: int
) -> Example | None:
    """The success of median L2 (the lower of two) among images of class `true`, or None.

    Args:
        found: the adversarial form of `images`.
        classes: names by label.
        true: 0 or 1.
    """
    turned = _by_distance(found, found.records["success"] & (found.records["target"] == true))
    if len(turned) == 0:
        return None
    position = int(turned[(len(turned) - 1) // 2])
    return _example(found, images, classes, position, len(turned))


def extremes(
    found: AdversarialSet, images: ImageSet, classes: Sequence[str], count: int
) -> tuple[list[Example], list[Example]]:
    """The successes of smallest L2, nearest first, and those of largest, farthest first: at most
    `count` of each, and none in both."""
    turned = _by_distance(found, found.records["success"])
    least, rest = turned[:count], turned[count:]
    most = rest[::-1][:count]

    def shown(positions: NDArray[np.int64]) -> list[Example]:
        return [_example(found, images, classes, int(one), len(turned)) for one in positions]

    return shown(least), shown(most)


def _by_distance(found: AdversarialSet, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Positions of the `chosen` records by L2, of equals by row."""
    positions = np.flatnonzero(chosen)
    order = np.lexsort((found.records["row"][positions], found.records["l2"][positions]))
    return positions[order]


def _example(
    found: AdversarialSet, images: ImageSet, classes: Sequence[str], position: int, of: int
) -> Example:
    one: dict[str, Any] = {name: values[position] for name, values in found.records.items()}
    row = int(one["row"])
    return Example(
        before=images.views([row])[0],
        after=found.load([position])[0],
        path=images.paths[row],
        true_class=classes[int(one["target"])],
        found_class=classes[int(one["prediction_after"])],
        l2=float(one["l2"]),
        linf=float(one["linf"]),
        survives_rounding=bool(one["success_8bit"]),
        of=of,
    )
