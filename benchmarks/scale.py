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
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from bench import machine, tables
from bench.images import phantoms, variations
from bench.stages import ROOT, new_checkout, python_stage, run_stage

from octrobust import config
from octrobust.data.index import index_rows
from octrobust.errors import one_line_errors
from octrobust.files import read_json, scratch, write_json

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
PACKAGES = ("octrobust", "torch", "numpy", "pandas", "great-expectations", "pillow")
SCANS = 4  # of a patient
BASE_PATIENTS = 25  # of each class, that the others are varied from
# Of the images. Few, since two cores have to get through them; `prepare` at 224 px takes all.
SHARES = {"train": 0.15, "validation": 0.1, "test": 0.05, "extra": 0.05}
BATTERY = 0.005  # of the images: fourteen attacks on each
# Of the stages that do not read all images, the splits that they read.
READ = {
    "prepare": tuple(SHARES),
    "train@config_1": ("train", "validation"),
    "attack@train": ("train",),
    "attack@test": ("test",),
    "harden@static": ("train", "extra", "train", "validation"),  # clean, and attacked
    "adaptive@hardened_static": ("test",),
    "evaluate": ("test", "validation"),
    "report": ("test",),
}
WHERE = ("revision", "cpu", "threads")
INDEX = "data/raw/index.csv"
REAL_SIZE = 224  # px, for the second measurement of `prepare`
AT_REAL_SIZE = f"prepare at {REAL_SIZE} px"
STAGES = (
    *("ingest", "split", "validate", "prepare", AT_REAL_SIZE),
    *("train@config_1", "attack@train", "attack@test"),
    *("harden@static", "adaptive@hardened_static", "battery@config_1", "evaluate", "report"),
)


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
    about |= {"shares": SHARES, "battery": BATTERY}
    document = _document(path, again, about, machine.describe(threads, PACKAGES))
    for count in (small, large):
        checkout = _checkout(count, size)
        for stage in STAGES:
            if (only and stage not in only) or _known(document, count, stage):
                continue
            typer.echo(f"{count} images, {stage} ... ", nl=False, err=True)
            found = _measure(checkout, stage)
            typer.echo(f"{found['seconds']:.1f} s, {found['own_mib']:.0f} MiB", err=True)
            handled = round(count * _share(stage))
            run = {"name": stage, "images": count, "handled": handled}
            run |= {name: document["machine"][name] for name in WHERE}
            run |= found
            document["runs"].append(run)
            write_json(path, document)
            tables.write(path, document)
    if not keep:
        shutil.rmtree(scratch("benchmarks") / "scale")
    typer.echo(path.with_suffix(".md").read_text(encoding="utf-8"))


def _share(stage: str) -> float:
    """Of all images, those that a stage reads; ones read twice count twice."""
    if stage == "battery@config_1":
        return BATTERY
    return sum(SHARES[name] for name in READ[stage]) if stage in READ else 1


def _document(
    path: Path, again: bool, about: dict[str, Any], here: dict[str, Any]
) -> dict[str, Any]:
    """What is there of the same images and splits on the same machine, to be gone on with."""
    document: dict[str, Any] = {"kind": "scale", "about": about, "machine": here, "runs": []}
    if path.exists() and not again:
        former = read_json(path)
        if former["about"] == about and all(
            run.get(name) == here[name] for run in former["runs"] for name in ("cpu", "threads")
        ):
            document["runs"] = former["runs"]
    return document


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
        "images_per_class": max(1, round(splits["test"] * BATTERY / SHARES["test"])),
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
            "shortcuts": {"solver": "fista"},  # the other's iterations are its own
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
    if stage != AT_REAL_SIZE:
        return run_stage(checkout, python_stage(stage))
    # Once more at the real size, and of all images, into folders of its own.
    params = config.load(checkout / "params.yaml")
    data = {**params.data.model_dump(), "image_size": REAL_SIZE}
    labels = Counter(row.label for row in index_rows(checkout / INDEX))
    rest = min(labels.values()) - sum(params.split.counts().values())
    more = {"by": "image", "extra": params.split.extra + rest}  # whole patients would not come out
    everything = {**params.split.model_dump(), **more}
    code = (
        "import json; from pathlib import Path; from octrobust import config;"
        "from octrobust.data.arrays import prepare; from octrobust.data.split import split;"
        f"data = config.Data.model_validate(json.loads({json.dumps(data)!r}));"
        f"everything = config.Split.model_validate(json.loads({json.dumps(everything)!r}));"
        "splits, out, metrics = map(Path, ('data/all', 'data/large', 'large.json'));"
    )
    divide = f"split(Path({INDEX!r}), everything, data.classes, splits, metrics)"
    run_stage(checkout, [sys.executable, "-c", code + divide])
    draw = "prepare(Path('data/raw'), splits, data, out, metrics)"
    return run_stage(checkout, [sys.executable, "-c", code + draw])


if __name__ == "__main__":
    with one_line_errors():
        app()
