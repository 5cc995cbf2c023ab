"""What this machine is."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path


def cpu_field(name: str) -> str:
    """A field of Linux's /proc/cpuinfo ("model name", "flags"); empty where there is none."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""


def processor() -> str:
    """Its processor's name, as far as the system tells."""
    return cpu_field("model name") or platform.processor() or platform.machine()
