"""Kermany 2018 (OCT2017): a copy on disk, an archive, or fetched where there is a network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from octrobust import config
from octrobust.data import kermany
from octrobust.data.folder import Candidate
from octrobust.files import user_path


def gather(
    data: config.Data,
    root: Path | None,
    workshop: Path,
    workers: int,  # noqa: ARG001
) -> Iterable[Candidate]:
    if data.archive:
        return kermany.unpack(user_path(data.archive), data.sha256, data.classes, workshop)
    return kermany.find(root or kermany.download(), data.classes)
