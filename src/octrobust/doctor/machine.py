"""Processor, GPU and disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from octrobust.config import Compute
from octrobust.doctor.finding import Finding
from octrobust.errors import UserError

GIB = 2**30
MUCH, LONG_AGO = 5 * GIB, 30 * 24 * 3600.0  # of scratch
LITTLE, TOO_LITTLE = 10 * GIB, 2 * GIB  # free disk: the demo takes some 2, the packages 5


def device(compute: Compute | None) -> Iterator[Finding]:
    """What torch computes on, and whether bf16 is used there."""
    import torch

    from octrobust.model.device import select_device, use_bf16

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            name = torch.cuda.get_device_name(number)
            what = f"{name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free, CUDA {_cuda()}"
            little = free < total / 4
            mend = "see `nvidia-smi` for what else is on it" if little else ""
            yield Finding("GPU", "warning" if little else "ok", what, mend)
    elif _driver():
        what = f"there is a driver, but torch {torch.__version__} sees no GPU (CUDA {_cuda()})"
        mend = "see that `nvidia-smi` works, that CUDA_VISIBLE_DEVICES is unset, and that torch is "
        yield Finding("GPU", "warning", what, f"{mend}a CUDA build no newer than the driver")
    else:
        yield Finding("GPU", "ok", "none: the processor computes")
    try:
        chosen = select_device(compute) if compute else torch.device("cpu")
    except UserError as error:
        yield Finding("device", "problem", str(error), "set compute.device: auto in params.yaml")
        return
    gains = use_bf16("auto", chosen)
    where = "tensor cores" if chosen.type == "cuda" else "AMX"
    precision = f"bf16 ({where})" if gains else "fp32 (bf16 would bring nothing here)"
    what = f"{chosen}, {torch.get_num_threads()} threads, precision auto is {precision}"
    yield Finding("device", "ok", what)


def _cuda() -> str:
    import torch

    return str(torch.version.cuda or "none")


def _driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def disk(root: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(root).free
    what = f"{free / GIB:.0f} GiB free at {root}"
    mend = "`dvc gc --workspace` frees what no file here needs; `octrobust plan` says what is taken"
    if free < TOO_LITTLE:
        yield Finding("disk", "problem", what, mend)
    elif free < LITTLE:
        yield Finding("disk", "warning", what, mend)
    else:
        yield Finding("disk", "ok", what)


def scratch(root: Path) -> Iterator[Finding]:
    """Work that was begun and not gone on with: killed stages of other parameters or code."""
    folder = root / ".octrobust" / "scratch"
    begun = [path for path in folder.glob("*") if path.is_dir()]
    size, now = sum(_size(path) for path in begun), time.time()
    old = [path for path in begun if now - path.stat().st_mtime > LONG_AGO]
    what = f"{len(begun)} folders, {size / GIB:.1f} GiB: {folder}"
    if old or size > MUCH:
        mend = f"with no stage running, remove {folder}: only unfinished work is lost"
        yield Finding("scratch", "warning", f"{what}; {len(old)} older than 30 days", mend)
    else:
        yield Finding("scratch", "ok", what if begun else "nothing unfinished")


def _size(folder: Path) -> int:
    """Bytes; a stage may be removing some of it."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total
