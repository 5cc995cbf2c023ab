"""Decoders side by side: images a second from a scan's file to the grey square that is stored.

`make bench` installs the peers; OpenCV and simplejpeg are among them. JSON and Markdown go to
benchmarks/results/.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer
from bench import decoding, machine, tables
from bench.images import phantoms

from octrobust import config
from octrobust.data.arrays import prepare, stored_side
from octrobust.data.index import IndexRow, parse_name, write_index
from octrobust.errors import UserError, one_line_errors
from octrobust.files import read_json, write_json

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
PACKAGES = ("octrobust", "pillow", "torchvision", "opencv-python-headless", "simplejpeg")
COMPARED = 32  # images whose pixels are compared


@app.command()
def main(
    sizes: Annotated[str, typer.Option(help="Sides of the network's input, px.")] = "80,224",
    patients: Annotated[int, typer.Option(help="Phantom patients a class, 4 scans each.")] = 25,
    folder: Annotated[Path | None, typer.Option(help="Real scans instead, at any depth.")] = None,
    turns: Annotated[int, typer.Option(help="Turns, each with every decoder.", min=1)] = 3,
    threads: Annotated[int, typer.Option(help="Images at a time; 0: all cores.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("benchmarks/results"),
) -> None:
    """Images a second of each decoder and of `prepare`, and how far the pixels are apart."""
    threads = threads or len(os.sched_getaffinity(0))
    paths = sorted((folder or phantoms(patients)).rglob("*.jp*g"))
    if not paths:
        raise UserError(f"{folder} holds no JPEG files")
    torch.set_num_threads(1)  # images go side by side, not parts of one
    document = {
        "kind": "decoders",
        "machine": machine.describe(threads, PACKAGES),
        "about": {"images": len(paths), "real": folder is not None, "turns": turns},
        "runs": [],
    }
    path = out / f"decoders-{'real' if folder else 'phantom'}.json"
    for size in (int(text) for text in sizes.split(",")):
        side = stored_side(size)
        apart = {
            name: decoding.difference(decoder, paths[:COMPARED], side)
            for name, decoder in decoding.DECODERS.items()
            if decoder is not decoding.decoding_alone
        }
        for turn in range(turns):
            for name, decoder in decoding.DECODERS.items():
                rate = decoding.rate(decoder, paths, side, threads)
                run = {"name": name, "size": size, "turn": turn, "images_per_second": rate}
                document["runs"].append({**run, "difference": apart.get(name)})
            run = {"name": decoding.PREPARE, "size": size, "turn": turn}
            run["images_per_second"] = _prepare_rate(paths, size, threads)
            document["runs"].append({**run, "difference": {"largest": 0, "mean": 0.0}})
            write_json(path, document)
            tables.write(path, document)
    typer.echo(path.with_suffix(".md").read_text(encoding="utf-8"))


def _prepare_rate(paths: list[Path], size: int, threads: int) -> float:
    """The stage itself, writing included."""
    root = Path(os.path.commonpath([path.parent for path in paths]))
    rows = []
    for path in paths:
        label = path.parent.name
        patient, number = parse_name(path.name, label)
        about = (path.relative_to(root).as_posix(), label, patient, number)
        rows.append(IndexRow(*about, sha256="", width=1, height=1, mode="L"))
    labels = sorted({row.label for row in rows})
    data = config.Data(
        source="folder",
        root=str(root),
        archive=None,
        sha256=None,
        classes=(labels[0], labels[-1]),
        image_size=size,
        max_quarantined=0,
        phantom=config.Phantom(patients_per_class=1, images_per_patient=1, seed=0),
    )
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        (room / "splits").mkdir()
        for split in config.SPLITS:
            write_index(room / "splits" / f"{split}.csv", rows if split == "train" else [])
        prepare(root, room / "splits", data, room / "arrays", room / "prepare.json", threads)
        seconds: float = read_json(room / "prepare.json")["seconds"]
    return len(rows) / seconds


if __name__ == "__main__":
    with one_line_errors():
        app()
