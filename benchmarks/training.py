"""Training side by side: the published notebooks' way and our fit loop.

Same network, images, optimiser and augmentation, each way in a process of its own, in turns. JSON
and Markdown go to benchmarks/results/.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from bench import machine, tables
from bench.images import phantoms
from bench.runs import run_worker

from octrobust.errors import one_line_errors
from octrobust.files import write_json

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
PACKAGES = ("octrobust", "torch", "torchvision", "facenet-pytorch", "pillow")
NOTEBOOKS = "the notebooks' way, batch 8"


@app.command()
def main(
    size: Annotated[int, typer.Option(help="Side of the images, px.", min=75)] = 224,
    steps: Annotated[int, typer.Option(help="Steps timed, each turn.", min=2)] = 10,
    turns: Annotated[int, typer.Option(help="Turns, each with every way.", min=1)] = 3,
    batches: Annotated[str, typer.Option(help="Our batches, with commas.")] = "8,16",
    patients: Annotated[int, typer.Option(help="Phantom patients a class, 4 scans each.")] = 8,
    folder: Annotated[Path | None, typer.Option(help="CLASS/ folders of real scans.")] = None,
    threads: Annotated[int, typer.Option(help="Threads; 0: all cores.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("benchmarks/results"),
) -> None:
    """Images per second, the loader's share of a step, and the share of the convolution floor."""
    threads = threads or len(os.sched_getaffinity(0))
    images = folder or phantoms(patients)
    spec = {"images": str(images), "size": size, "steps": steps, "threads": threads}
    ours = [int(batch) for batch in batches.split(",")]
    floor = run_worker({**spec, "task": "training_floor", "batch": ours[0], "best_of": 3}, "floor")
    document = {
        "kind": "training",
        "machine": machine.describe(threads, PACKAGES),
        "about": {"size": size, "steps": steps, "turns": turns, "images": str(folder or "phantom")},
        "floor": {**floor, "batch": ours[0]},
        "runs": [],
    }
    path = out / f"training-{size}px.json"
    for turn in range(turns):
        for name, work in _ways(ours).items():
            found = run_worker({**spec, **work}, name)
            document["runs"].append({"name": name, "turn": turn, **found})
            write_json(path, document)
            tables.write(path, document)
    typer.echo(path.with_suffix(".md").read_text(encoding="utf-8"))


def _ways(batches: list[int]) -> dict[str, dict[str, object]]:
    ours = {
        f"octrobust, batch {batch}, {precision}": {
            "task": "training_ours",
            "batch": batch,
            "precision": precision,
        }
        for precision in ("auto", "fp32")
        for batch in (batches if precision == "auto" else batches[:1])
    }
    return {NOTEBOOKS: {"task": "training_notebooks"}, **ours}


if __name__ == "__main__":
    with one_line_errors():
        app()
