"""Synthetic scans, drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from octrobust import config
from octrobust.data import folder
from octrobust.data.folder import Candidate


def gather(
    data: config.Data,
    root: Path | None,  # noqa: ARG001
    workshop: Path,
    workers: int,
) -> Iterable[Candidate]:
    from octrobust.data.phantom import write_phantom

    size = data.phantom
    write_phantom(
        workshop,
        data.classes,
        size.patients_per_class,
        size.images_per_patient,
        size.seed,
        workers,
        progress=True,
    )
    return folder.find(workshop, data.classes)
