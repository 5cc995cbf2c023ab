"""Stages of a scratch checkout, each in a process of its own, with its time and peak memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from bench.memory import MIB
from octrobust.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CODE = ("src", "pipeline", "dvc.yaml", "params.yaml", ".dvc", ".dvcignore", ".gitignore")
LEFT_OUT = ("tmp", "cache", "__pycache__")
OWN, PEAK = ("RssAnon:", "RssShmem:"), ("VmHWM:",)  # mapped files left out; all there ever was
INTERVAL = 0.02  # seconds between two looks at a process's memory


def new_checkout(folder: Path, changes: dict[str, Any]) -> None:
    """Put this checkout's code, with changed parameters, into `folder`; results there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CODE:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
        elif source.exists():
            shutil.copyfile(source, target)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    _update(params, changes)
    text = yaml.safe_dump(params, sort_keys=False)
    (folder / "params.yaml").write_text(text, encoding="utf-8")


def run_stage(checkout: Path, command: list[str]) -> dict[str, float]:
    """Seconds of the whole process, start-up included; `rss_mib`, the kernel's high-water mark,
    which counts mapped file pages, cache that it takes back; `own_mib`, the highest of the
    process's own memory. Both are looked at every INTERVAL: what wait4 reports begins with the
    memory of the process that forked.

    Raises:
        UserError: the stage failed.
    """
    shutil.rmtree(checkout / ".octrobust" / "scratch", ignore_errors=True)  # nothing is resumed
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_"))}
    environment["PYTHONPATH"] = str(checkout / "src")
    started = time.perf_counter()
    log = checkout / "stage.log"
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=out, stderr=out)
        own = rss = 0
        while True:
            own, rss = max(own, _memory(process.pid, OWN)), max(rss, _memory(process.pid, PEAK))
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(INTERVAL)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = (log.read_text(encoding="utf-8").strip().splitlines() or ["no word"])[-1]
        raise UserError(
            f"{' '.join(command)} in {checkout}: exit code {process.returncode}: {last}"
        )
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "rss_mib": rss / MIB,
        "own_mib": own / MIB,
    }


def python_stage(name: str) -> list[str]:
    """The command of a stage, ``train@config_1`` or plain ``split``."""
    stage, _, item = name.partition("@")
    return [sys.executable, "-m", f"pipeline.{stage}", *([item] if item else [])]


def _memory(pid: int, kinds: tuple[str, ...]) -> int:
    """Bytes of these lines of a process's status."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(kinds))


def _update(tree: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict) and key != "variants":
            _update(tree[key], value)
        else:
            tree[key] = value
