"""Peak memory of this process while something runs."""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch

MIB = 2**20
# Instead of the real network: fast enough for a whole set, and without buffers of its own that
# hide a few MiB.
LINEAR = "linear"


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """MiB above what the process had before: `rss_mib`, and `cuda_mib` where there is CUDA."""
    gc.collect()
    found: dict[str, float] = {}
    _forget_peak()
    before = psutil.Process().memory_info().rss
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before_cuda = torch.cuda.memory_allocated()
    yield found
    found["rss_mib"] = max(_peak() - before, 0) / MIB
    if cuda:
        found["cuda_mib"] = (torch.cuda.max_memory_allocated() - before_cuda) / MIB


def _forget_peak() -> None:
    """Set Linux's high-water mark back to what the process has now."""
    # Where that cannot be, the mark counts from the process's start: too high, never too low.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak() -> int:
    """The high-water mark in bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
