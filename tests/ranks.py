"""Start ranks by hand, as torch's launcher would, for what needs no stage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from octrobust.distributed.group import BY_FILE, ROOM

ROOT = Path(__file__).resolve().parents[1]


def run_ranks(module: str, count: int, folder: Path) -> None:
    """Run ``python -m MODULE FOLDER`` on `count` ranks that talk over loopback."""
    common = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
        ROOM: str(folder),
        BY_FILE: "1",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(folder)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(count)
    ]
    said = [rank.communicate(timeout=300)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * count, "\n".join(said)
