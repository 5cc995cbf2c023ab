"""The machine: which device, how many threads, whether bf16 helps."""

from __future__ import annotations

import torch

from octrobust.config import Compute
from octrobust.cores import cores
from octrobust.distributed import place
from octrobust.errors import UserError
from octrobust.machine import cpu_field


def select_device(compute: Compute) -> torch.device:
    """The device asked for; `auto` is CUDA where there is one. Sets the number of CPU threads.

    Processes of one stage on one machine share its cores, and take a CUDA device each.
    """
    if place.local_ranks() > 1:
        threads = compute.threads or cores()
        torch.set_num_threads(max(threads // place.local_ranks(), 1))
    elif compute.threads:
        torch.set_num_threads(compute.threads)
    device = torch.device(compute.device if compute.device != "auto" else _best())
    if device.type == "cuda" and place.local_ranks() > 1:
        device = torch.device("cuda", place.local_rank())
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"compute.device: '{device}' is not there "
            f"({torch.cuda.device_count()} CUDA devices); use auto or cpu"
            + (", or fewer compute.processes" if place.local_ranks() > 1 else "")
        )
    return device


def _best() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether to use bf16 where mixed precision will do.

    `auto`: only where the processor gains by it. On a CPU that means AMX tiles: with AVX-512
    BF16 alone it is slower than fp32.
    """
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return "amx_bf16" in cpu_field("flags")
