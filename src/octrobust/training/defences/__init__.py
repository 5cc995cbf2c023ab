"""A file a defence: its name is the `method` of a variant in `harden.variants`.

A file says with `NEEDS` which of the variant's optional parameters it must be given; the others
must be null. One that needs `inner` attacks the model in every step of its training, learns from
data/arrays/train.npy, and has

    objective(inner: config.Inner, precision: str) -> training.objectives.Objective

Any other learns from the stored adversarial set, data/adversarial/train, and has

    added(found: AdversarialSet, train: ImageSet, channels: int, scratch: Path)
        -> tuple[Source, dict[str, int]]

what is learnt beside the originals, and counts of it for model.json. `octrobust.config` reads
`NEEDS` of the methods that a parameter file names, so heavy imports stay inside the functions.
"""

from __future__ import annotations

import importlib
from typing import Any


def named(method: str) -> Any:
    """The file of a method that `octrobust.config` has let pass."""
    return importlib.import_module(f"{__name__}.{method}")
