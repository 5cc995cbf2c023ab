"""Where and with what a table was made."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import psutil
import torch

from bench.implementations import PEERS
from octrobust.files import project_home
from octrobust.machine import cpu_field, processor
from octrobust.tracking.provenance import revision

FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_tile")
PACKAGES = (
    "octrobust",
    "torch",
    "adversarial-robustness-toolbox",
    "foolbox",
    "torchattacks",
    "advertorch",
)


def describe(threads: int, packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Machine, versions, revision, command and date, for the JSON."""
    return {
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "flags": [flag for flag in FLAGS if flag in cpu_field("flags").split()],
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "revision": revision(project_home()).get("Git revision", "unknown"),
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def has_bf16(device: str) -> bool:
    """Whether the device computes in bfloat16 at all, rather than by emulation."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return "avx512_bf16" in cpu_field("flags").split()


def in_words(machine: dict[str, Any]) -> str:
    """The same, as the lines under a table's title."""
    versions = ", ".join(f"{name} {value}" for name, value in machine["versions"].items())
    flags = " ".join(machine["flags"]) or "none of note"
    amx = "" if "amx_bf16" in machine["flags"] else "; no AMX, so bf16 gains nothing on this CPU"
    return (
        f"`{machine['command']}`  \n"
        f"{machine['date']}, revision {machine['revision']}  \n"
        f"{machine['cpu']}, {machine['cores']} cores ({flags}{amx}), "
        f"{machine['memory_gib']} GiB, GPU: {machine['gpu'] or 'none'}; "
        f"{machine['threads']} threads a worker  \n"
        f"Python {machine['python']}, {versions}"
    )


def _version(name: str) -> str | None:
    """The installed version, in the environment or else in the peers' own folder."""
    for path in (sys.path, [str(PEERS)]):
        for found in metadata.distributions(name=name, path=path):
            return found.version
    return None
