"""One attacked image a direction: the success of median L2 among those."""

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
    successes of this direction there were; l2 and linf on pixels in [0, 1].
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
    records = found.records
    turned = np.flatnonzero(records["success"] & (records["target"] == true))
    if len(turned) == 0:
        return None
    by_distance = turned[np.lexsort((records["row"][turned], records["l2"][turned]))]
    position = int(by_distance[(len(turned) - 1) // 2])
    one: dict[str, Any] = {name: values[position] for name, values in records.items()}
    row = int(one["row"])
    return Example(
        before=images.views([row])[0],
        after=found.load([position])[0],
        path=images.paths[row],
        true_class=classes[true],
        found_class=classes[int(one["prediction_after"])],
        l2=float(one["l2"]),
        linf=float(one["linf"]),
        survives_rounding=bool(one["success_8bit"]),
        of=len(turned),
    )
