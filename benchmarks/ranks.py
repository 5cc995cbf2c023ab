"""One model trained by one process, and on several ranks: how far apart are they?

Needs the arrays of `dvc repro prepare`. Prints a table, and writes it to --out.

    python benchmarks/ranks.py --ranks 1 2 4 --variant config_1
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from bench import machine, tables
from safetensors.torch import load_file

from octrobust import config
from octrobust.distributed import place
from octrobust.errors import UserError, one_line_errors
from octrobust.files import read_csv, read_json, write_text
from octrobust.launch.elastic import run_elastic
from octrobust.model.store import WEIGHTS

HEAD = (
    *("ranks", "weights apart", "statistics apart"),
    *("train loss", "validation loss", "validation accuracy", "seconds"),
)


def main() -> None:
    asked = _asked()
    if place.is_rank():
        from octrobust.launch.worker import run_rank

        run_rank(lambda: _train(asked.variant, asked.folder), [])
        return
    with one_line_errors(), tempfile.TemporaryDirectory() as room:
        folders = {count: Path(room) / str(count) for count in asked.ranks}
        for count, folder in folders.items():
            _on_ranks(count, asked.variant, folder)
        found = tables.table(HEAD, _rows(folders))
        params = config.load()
        text = (
            f"# One model on several ranks: {params.data.image_size} px\n\n"
            f"{machine.in_words(machine.describe(params.compute.threads or 0))}\n\n"
            f"`train.variants.{asked.variant}`, batch {params.train.batch_size}, "
            f"{params.train.epochs} epochs. Apart: relative L2 distance from the model of the "
            "first row, of weights and of BatchNorm's running statistics; losses and accuracy: of "
            f"the last epoch.\n\n{found}\n"
        )
        print(text)
        if asked.out:
            write_text(asked.out, text)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--variant", default="config_1")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _on_ranks(count: int, variant: str, folder: Path) -> None:
    compute = config.load().compute.model_copy(update={"processes": count, "nodes": 1})
    command = [__file__, "--variant", variant, "--folder", str(folder)]
    line, code = run_elastic(command, compute)
    if code:
        raise UserError(line.removeprefix("error: ") or f"training on {count} ranks was stopped")


def _train(variant: str, folder: Path) -> None:
    from octrobust.stages.common import discard
    from octrobust.stages.train import train

    outs = (folder, folder.with_suffix(".csv"), folder.with_suffix(".json"))
    discard(train(config.load(), variant, Path("data/arrays"), *outs))


def _rows(folders: dict[int, Path]) -> Iterator[list[str]]:
    first = None
    for count, folder in folders.items():
        state = load_file(folder / WEIGHTS)
        first = first or state
        last = read_csv(folder.with_suffix(".csv"))[-1]
        curves = ("train_loss", "validation_loss", "validation_accuracy")
        running = [name for name in state if "running" in name]
        weights = [name for name in state if name.endswith(("weight", "bias"))]
        yield [
            str(count),
            *(f"{_apart(state, first, names):.1e}" for names in (weights, running)),
            *(f"{float(last[name]):.6f}" for name in curves),
            f"{read_json(folder.with_suffix('.json'))['train_seconds']:.0f}",
        ]


def _apart(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], names: list[str]) -> float:
    a, b = (torch.cat([state[name].flatten().double() for name in names]) for state in (one, two))
    return float((a - b).norm() / b.norm())


if __name__ == "__main__":
    main()
