"""Memory and time against size: every stage on few and on ten times as many images.

Scans of real size (496 px high, JPEG) are made once, varied cheaply from phantoms. Every stage runs
in a process of its own in a scratch checkout whose attack and training are cut to a few iterations;
what is finished is kept, so that a run that was stopped goes on. JSON and Markdown go to
benchmarks/results/.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from bench import machine, tables
from bench.images import phantoms, variations
from bench.stages import ROOT, new_checkout, python_stage, run_stage

from octrobust import config
from octrobust.errors import one_line_errors
from octrobust.files import read_json, scratch, write_json

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
PACKAGES = ("octrobust", "torch", "numpy", "pandas", "great-expectations", "pillow")
SCANS = 4  # of a patient
BASE_PATIENTS = 25  # of each class, that the others are varied from
# All images are in a split, so that every stage which reads them all does; only `attack@test`,
# adaptive, battery and evaluate are of the test split alone.
# Of 60,000, as many training images are attacked as by the paper: 15,000.
SHARES = {"train": 0.25, "validation": 0.25, "test": 0.1, "extra": 0.4}
# Of the stages that do not read all images, the splits that they read.
READ = {
    "train@config_1": ("train", "validation"),
    "attack@train": ("train",),
    "attack@test": ("test",),
    "harden@static": ("train", "extra", "train", "validation"),  # clean, and attacked
    "adaptive@hardened_static": ("test",),
    "battery@config_1": ("test",),
    "evaluate": ("test", "validation"),
    "report": ("test",),
}
STAGES = (
    *("ingest", "split", "validate", "prepare", "train@config_1", "attack@train", "attack@test"),
    *("harden@static", "adaptive@hardened_static", "battery@config_1", "evaluate", "report"),
)
REAL_SIZE = 224  # px, for the second measurement of `prepare`


@app.command()
def main(
    small: Annotated[int, typer.Option(help="Images, both classes.", min=160)] = 6000,
    large: Annotated[int, typer.Option(help="Images, both classes.", min=160)] = 60_000,
    size: Annotated[int, typer.Option(help="Side of the network's input, px.", min=75)] = 75,
    only: Annotated[list[str] | None, typer.Option(help="Only this stage; repeat it.")] = None,
    again: Annotated[bool, typer.Option(help="Measure anew what is finished.")] = False,
    keep: Annotated[bool, typer.Option(help="Leave images and checkouts in scratch.")] = True,
    threads: Annotated[int, typer.Option(help="Threads; 0: all cores.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("benchmarks/results"),
) -> None:
    """Run all stages at both sizes and compare."""
    threads = threads or len(os.sched_getaffinity(0))
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    path = out / f"scale-{size}px-{small}-{large}.json"
    about = {"small": small, "large": large, "size": size, "scans_a_patient": SCANS}
    document = _document(path, again, {**about, "shares": SHARES})
    document["machine"] = machine.describe(threads, PACKAGES)
    for count in (small, large):
        checkout = _checkout(count, size)
        for stage in (*STAGES, f"prepare at {REAL_SIZE} px"):
            if (only and stage not in only) or _known(document, count, stage):
                continue
            typer.echo(f"{count} images, {stage} ... ", nl=False, err=True)
            found = _measure(checkout, stage)
            typer.echo(f"{found['seconds']:.1f} s, {found['own_mib']:.0f} MiB", err=True)
            revision = document["machine"]["revision"]
            handled = round(count * sum(SHARES[name] for name in READ.get(stage, SHARES)))
            run = {"name": stage, "images": count, "handled": handled, "revision": revision}
            run |= found
            document["runs"].append(run)
            write_json(path, document)
            tables.write(path, document)
    if not keep:
        shutil.rmtree(scratch("benchmarks") / "scale")
    typer.echo(path.with_suffix(".md").read_text(encoding="utf-8"))


def _document(path: Path, again: bool, about: dict[str, Any]) -> dict[str, Any]:
    """What is there of the same images and splits, to be gone on with."""
    if path.exists() and not again:
        document: dict[str, Any] = read_json(path)
        if document["about"] == about:
            return document
    return {"kind": "scale", "about": about, "runs": []}


def _known(document: dict[str, Any], count: int, stage: str) -> bool:
    return any((run["images"], run["name"]) == (count, stage) for run in document["runs"])


def _checkout(count: int, size: int) -> Path:
    """A scratch checkout whose parameters read `count` images from a folder."""
    per_class = count // 2
    patients = per_class // SCANS
    room = scratch("benchmarks") / "scale"
    images = room / f"images-{count}"
    typer.echo(f"{count} images in {images}", err=True)
    variations(images, patients, SCANS, phantoms(BASE_PATIENTS))
    splits = {name: int(per_class * share) for name, share in SHARES.items()}
    checkout = room / f"checkout-{count}-{size}"
    new_checkout(checkout, _changes(images.resolve(), splits, size))
    config.load(checkout / "params.yaml")
    return checkout


def _changes(images: Path, splits: dict[str, int], size: int) -> dict[str, Any]:
    static = config.load(ROOT / "params.yaml").harden.variants["static"].model_dump()
    battery = {
        "models": ["config_1"],
        "images_per_class": None,
        "l2": [0.5],
        "linf": [0.02],
        "steps": 2,
        "square_queries": 2,
        "noise_draws": 1,
    }
    return {
        "data": {"source": "folder", "root": str(images), "image_size": size},
        "split": splits,
        "train": {"epochs": 1, "variants": {"config_1": {"freeze_through": None}}},
        "attack": {
            "binary_search_steps": 1,
            "max_iter": 2,
            "images_per_class": {"train": None, "test": None},
        },
        "harden": {"epochs": 1, "variants": {"static": static}},
        "evaluate": {
            "adaptive": ["hardened_static"],
            "images_per_class": None,
            "corruption_severities": [1],
            "battery": battery,
        },
    }


def _measure(checkout: Path, stage: str) -> dict[str, float]:
    if stage in STAGES:
        return run_stage(checkout, python_stage(stage))
    # Once more at the real size, into a folder of its own.
    data = {**config.load(checkout / "params.yaml").data.model_dump(), "image_size": REAL_SIZE}
    call = (
        "import json; from pathlib import Path; from octrobust import config;"
        "from octrobust.data.arrays import prepare;"
        f"data = config.Data.model_validate(json.loads({json.dumps(data)!r}));"
        "raw, splits, out = map(Path, ('data/raw', 'data/splits', 'data/large'));"
        "prepare(raw, splits, data, out, Path('large.json'))"
    )
    return run_stage(checkout, [sys.executable, "-c", call])


if __name__ == "__main__":
    with one_line_errors():
        app()
