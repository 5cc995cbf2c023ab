"""Any directory of CLASS/... images: data.root, which `octrobust.config` asks for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from octrobust import config
from octrobust.data import folder
from octrobust.data.folder import Candidate


def gather(
    data: config.Data,
    root: Path | None,
    workshop: Path,  # noqa: ARG001
    workers: int,  # noqa: ARG001
) -> Iterable[Candidate]:
    assert root is not None
    return folder.find(root, data.classes)
