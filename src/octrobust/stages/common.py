"""What the heavy stages share."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

import octrobust
from octrobust import files
from octrobust.config import Params
from octrobust.data.arrays import Batches, ImageSet, open_split
from octrobust.distributed.group import barrier
from octrobust.distributed.place import is_first
from octrobust.model.device import use_bf16

# Images that attacks other than EAD, which has shards, work on together.
BLOCK = 256
_held: list[FileLock] = []  # until the process ends


def scratch_for(stage: str, rooms: Sequence[str], *determined_by: object) -> Path:
    """The scratch folder of one stage's unfinished work, locked for this process.

    Keyed by everything that determines the result, the code of `rooms` included, so that a run
    with other parameters, data or code never picks up what this one left. It stays until dvc.lock
    has the result (`octrobust.tracking.kept`); another process with the same work waits.
    Ranks of one stage share the folder, and the first one's lock.
    """
    root = Path(octrobust.__file__).parent
    sources = [path for room in rooms for path in sorted((root / room).glob("*.py"))]
    folder = files.scratch(f"{stage}-{files.digest(*sources, *determined_by)}")
    if is_first():
        _lock(folder, stage)
    barrier()
    return folder


def arithmetic(precision: str, device: torch.device) -> list[Any]:
    """For `scratch_for`, what a precision means here and who computes: work that goes on on another
    machine, or after an upgrade, must not mix two."""
    return [device.type, use_bf16(precision, device), torch.__version__]


def _lock(folder: Path, stage: str) -> None:
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{stage}: another process is at the same work, waiting for it", file=sys.stderr)
        lock.acquire()
    folder.mkdir(exist_ok=True)  # whoever had the lock may have removed it
    _held.append(lock)


def discard(scratch: Path) -> None:
    """Remove finished work, once every rank is here."""
    barrier()
    if is_first():
        shutil.rmtree(scratch)


def array_files(arrays: Path, *splits: str) -> list[Path]:
    """The files of these splits, for `scratch_for`."""
    return [arrays / f"{split}{suffix}" for split in splits for suffix in (".npy", ".csv")]


def clean_batches(arrays: Path, split: str, params: Params) -> Batches:
    """The clean images of a split in order, in batches of compute.predict_batch_size."""
    images = open_split(arrays, split, params.data.image_size)
    return images.batches(params.compute.predict_batch_size)


def as_tensors(
    images: ImageSet, rows: NDArray[np.int64], channels: str, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Evaluation views (n, 1 or 3, S, S) float32 in [0, 1] and classes (n,) int64 of `rows`;
    channels: grey or rgb."""
    x = torch.from_numpy(images.views(rows)).to(device)
    x = x if channels == "grey" else x.expand(-1, 3, -1, -1).contiguous()
    return x, torch.from_numpy(images.targets[rows]).to(device)


def blocks(count: int) -> list[slice]:
    """Of so many rows, BLOCK at most at a time: interleaved, so that each block has its
    share of both classes, which splits keep apart."""
    number = -(-count // BLOCK)
    return [slice(start, None, number) for start in range(number)]
