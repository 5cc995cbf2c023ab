"""A file a source of images: its name is what `data.source` says. Each has

    gather(data: config.Data, root: Path | None, workshop: Path, workers: int)
        -> Iterable[Candidate]

`root` is data.root, seen to be a folder, or None where it is not given. A source that makes files
puts them into `workshop`, a folder of its own, from where they are moved; others are copied. What
cannot be had is a `UserError` that says how to mend it.
"""

from __future__ import annotations

import importlib
from typing import Any


def named(source: str) -> Any:
    """The file of a source that `octrobust.config` has let pass."""
    return importlib.import_module(f"{__name__}.{source}")
