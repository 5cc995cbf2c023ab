"""Workers: each measurement in a process of its own, in turns; kept as soon as it is made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine, tables
from bench.implementations import Implementation, Parameters
from bench.network import Pool, choose
from octrobust.files import scratch, write_json

SLOW = 10.0  # forwards an iteration
WORKER = Path(__file__).resolve().parents[1] / "worker.py"


@dataclass(frozen=True)
class Setting:
    """What all implementations of a table share."""

    size: int
    images: int
    batch: int
    channels: str
    parameters: Parameters
    device: str
    threads: int
    repeats: int

    @property
    def name(self) -> str:
        """For file names: what was run, short."""
        budget = f"{self.parameters.binary_search_steps}x{self.parameters.max_iter}"
        return f"{self.where}-{self.images}images-{budget}"

    @property
    def where(self) -> str:
        """The same, of the images alone; a GPU's records stand beside the CPU's."""
        gpu = "cuda-" if self.device == "cuda" else ""
        return f"{gpu}{self.size}px-{self.channels}"

    @property
    def work(self) -> int:
        """Iterations of one image, over all images."""
        return self.images * self.parameters.binary_search_steps * self.parameters.max_iter


class Record:
    """A table in the making: JSON and Markdown, written anew after every worker."""

    def __init__(self, path: Path, kind: str, threads: int, **about: Any) -> None:
        self.path = path
        self.document: dict[str, Any] = {
            "kind": kind,
            "machine": machine.describe(threads),
            **about,
            "runs": [],
        }

    def add(self, run: dict[str, Any]) -> None:
        self.document["runs"].append(run)
        self.write()

    def write(self) -> None:
        write_json(self.path, self.document)
        tables.write(self.path, self.document)


class Workbench:
    """A setting with its images on disk, where workers find them."""

    def __init__(self, setting: Setting, pool: Pool) -> None:
        self.setting, self.pool = setting, pool
        x, y = choose(pool, setting.images)
        self.arrays = scratch("benchmarks") / f"images-{os.getpid()}-{setting.name}.npz"
        np.savez(self.arrays, x=x, y=y)

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *_: object) -> None:
        self.arrays.unlink(missing_ok=True)

    def about(self) -> dict[str, Any]:
        return {"setting": asdict(self.setting), "network": self.pool.origin}

    def attack(self, row: Implementation, parameters: Parameters | None = None) -> dict[str, Any]:
        """Run one implementation once."""
        parameters = parameters or self.setting.parameters
        found = self.work(
            "attack", implementation=row.as_json(), parameters=asdict(parameters), label=row.name
        )
        about = {"name": row.name, "library": row.library, "options": row.options}
        return {**about, "own_parameters": row.parameters, **found}

    def work(self, task: str, label: str, **more: Any) -> dict[str, Any]:
        setting = self.setting
        spec = {
            "task": task,
            "model": str(self.pool.folder.resolve()),
            "arrays": str(self.arrays),
            "size": setting.size,
            "batch": setting.batch,
            "channels": setting.channels,
            "device": setting.device,
            "threads": setting.threads,
            "parameters": asdict(setting.parameters),
            **more,
        }
        return run_worker(spec, label)


def take_turns(bench: Workbench, rows: Iterable[Implementation], record: Record) -> None:
    """Turn 1: every row once; turn 2: every row once more, but for the slowest; and so on."""
    rows = tuple(rows)
    for turn in range(bench.setting.repeats):
        for row in rows:
            if turn < turns(row, bench.setting.repeats):
                record.add({"turn": turn, **bench.attack(row)})


def turns(row: Implementation, repeats: int) -> int:
    """How often a row runs: the slowest, ART's, in the first turn alone."""
    return 1 if row.cost > SLOW else repeats


def run_worker(spec: dict[str, Any], label: str) -> dict[str, Any]:
    """The worker's result; a worker that fails, or dies, gives `error`."""
    threads = str(spec["threads"])
    pinned = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    print(f"  {label} ... ", end="", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        spec_file, result_file = Path(folder) / "spec.json", Path(folder) / "result.json"
        write_json(spec_file, spec)
        done = subprocess.run(
            [sys.executable, str(WORKER), str(spec_file), str(result_file)],
            env=os.environ | pinned,
            capture_output=True,
            text=True,
            check=False,
        )
        if result_file.exists():
            result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
        else:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            result = {"error": f"worker ended with code {done.returncode}: {last}"}
    said = result.get("error") or (f"{result['seconds']:.1f} s" if "seconds" in result else "done")
    print(said, file=sys.stderr, flush=True)
    return result
