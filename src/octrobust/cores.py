"""How many processor cores there are to use."""

from __future__ import annotations

import os


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
