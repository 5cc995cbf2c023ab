"""A model trained, and a set made, by one process and on several: how far apart, and how long?

Needs the arrays of `dvc repro prepare`. The set is of the first --images test images of each class,
made on the model that one process trained. Ranks share the cores (`compute.threads`). JSON and
Markdown go to benchmarks/results/.

    python benchmarks/ranks.py --ranks 1 2 4 --variant config_1
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import machine, tables
from safetensors.torch import load_file

from octrobust import config
from octrobust.attack.shards import open_adversarial
from octrobust.distributed import place
from octrobust.errors import UserError, one_line_errors
from octrobust.files import read_csv, read_json, write_json
from octrobust.launch.elastic import run_elastic
from octrobust.model.store import WEIGHTS

ARRAYS = Path("data/arrays")
PACKAGES = ("octrobust", "torch")
CURVES = ("train_loss", "validation_loss", "validation_accuracy")


def main() -> None:
    asked = _asked()
    if place.is_rank():
        from octrobust.launch.worker import run_rank

        run_rank(lambda: _work(asked), [])
        return
    with one_line_errors(), tempfile.TemporaryDirectory() as room:
        params = config.load()
        first = Path(room) / str(asked.ranks[0])
        document: dict[str, Any] = {
            "kind": "ranks",
            "machine": machine.describe(
                params.compute.threads or len(os.sched_getaffinity(0)), PACKAGES
            ),
            "about": {
                "size": params.data.image_size,
                "variant": asked.variant,
                "batch": params.train.batch_size,
                "epochs": params.train.epochs,
                "trained": 2 * params.split.train,
                "attacked": 2 * asked.images,
                "shard": asked.shard,
                "solver": params.attack.shortcuts.solver,
            },
            "runs": [],
        }
        path = asked.out / f"ranks-{params.data.source}-{params.data.image_size}px.json"
        for count in asked.ranks:
            folder = Path(room) / str(count)
            folder.mkdir()
            whole = {task: _on_ranks(count, asked, task, folder, first) for task in TASKS}
            document["runs"].append({"name": str(count), **whole, **_found(folder, first)})
            write_json(path, document)
            tables.write(path, document)
        print(path.with_suffix(".md").read_text(encoding="utf-8"))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--variant", default="config_1")
    parser.add_argument("--images", type=int, default=25, help="attacked, of each class")
    parser.add_argument("--shard", type=int, default=6, help="images; a shard is one rank's")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _on_ranks(
    count: int, asked: argparse.Namespace, task: str, folder: Path, first: Path
) -> dict[str, float]:
    """Seconds of the work, and of all with the processes' start."""
    compute = config.load().compute.model_copy(update={"processes": count, "nodes": 1})
    command = [__file__, "--variant", asked.variant, "--images", str(asked.images)]
    command += ["--shard", str(asked.shard), "--task", task]
    command += ["--folder", str(folder), "--first", str(first)]
    started = time.perf_counter()
    line, code = run_elastic(command, compute)
    if code:
        raise UserError(line.removeprefix("error: ") or f"{task} on {count} ranks was stopped")
    numbers = read_json(folder / f"{task}.json")
    work = numbers["train_seconds" if task == "train" else "seconds"]
    return {"work": work, "whole": time.perf_counter() - started}


def _work(asked: argparse.Namespace) -> None:
    TASKS[asked.task](asked)


def _train(asked: argparse.Namespace) -> None:
    from octrobust.stages.common import discard
    from octrobust.stages.train import train

    outs = (asked.folder / "model", asked.folder / "train.csv", asked.folder / "train.json")
    discard(train(config.load(), asked.variant, ARRAYS, *outs))


def _attack(asked: argparse.Namespace) -> None:
    from octrobust.stages.attack import attack_split
    from octrobust.stages.common import discard

    params = config.load()
    compute = params.compute.model_copy(update={"shard_size": asked.shard})
    params = params.model_copy(update={"compute": compute})
    outs = (asked.first / "model", asked.folder / "set", asked.folder / "attack.json")
    discard(attack_split(params, "test", asked.images, ARRAYS, *outs))


TASKS = {"train": _train, "attack": _attack}


def _found(folder: Path, first: Path) -> dict[str, Any]:
    state, other = (load_file(where / "model" / WEIGHTS) for where in (folder, first))
    running = [name for name in state if "running" in name]
    weights = [name for name in state if name.endswith(("weight", "bias"))]
    last = read_csv(folder / "train.csv")[-1]
    sets = [open_adversarial(where / "set") for where in (folder, first)]
    return {
        "weights_apart": _apart(state, other, weights),
        "statistics_apart": _apart(state, other, running),
        **{name: float(last[name]) for name in CURVES},
        "same_set": all(
            np.array_equal(*(one.records[name] for one in sets), equal_nan=name == "l2")
            for name in ("row", "success", "l2")
        ),
    }


def _apart(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], names: list[str]) -> float:
    """Relative L2 distance."""
    a, b = (torch.cat([state[name].flatten().double() for name in names]) for state in (one, two))
    return float((a - b).norm() / b.norm())


if __name__ == "__main__":
    main()
