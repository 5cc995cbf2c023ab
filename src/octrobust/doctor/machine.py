"""Processor, GPU and disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from octrobust.config import Compute
from octrobust.doctor.finding import Finding
from octrobust.errors import UserError

GIB = 2**30
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
