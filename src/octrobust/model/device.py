"""The machine: which device, how many threads, whether bf16 helps."""

from __future__ import annotations

from pathlib import Path

import torch

from octrobust.config import Compute
from octrobust.errors import UserError


def select_device(compute: Compute) -> torch.device:
    """The device asked for; `auto` is CUDA where there is one. Sets the number of CPU threads."""
    if compute.threads:
        torch.set_num_threads(compute.threads)
    if compute.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(compute.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"compute.device: '{compute.device}' is not there "
            f"({torch.cuda.device_count()} CUDA devices); use auto or cpu"
        )
    return device


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether to use bf16 where mixed precision will do.

    `auto`: only where the processor gains by it. On a CPU that means AMX tiles: with AVX-512
    BF16 alone it is slower than fp32.
    """
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return _cpu_has_amx()


def _cpu_has_amx() -> bool:
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
