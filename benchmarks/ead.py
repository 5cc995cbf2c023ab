"""Elastic-Net attacks side by side: ART, foolbox, torchattacks, advertorch and ours.

Every implementation runs in a process of its own, on the same network, images and parameters, in
turns. JSON and Markdown go to benchmarks/results/. `make bench` installs the peers and runs the
whole suite.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import torch
import typer
from bench import implementations, machine, parts, readme, suite, tables
from bench.implementations import PEER_ROWS, Parameters, pick
from bench.network import Pool, stored, trained
from bench.runs import Setting

from octrobust.errors import UserError, one_line_errors
from octrobust.files import read_json

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__
)
RESULTS = Path("benchmarks/results")

Size = Annotated[int, typer.Option(help="Side of the images, px; at least 75.", min=75)]
Images = Annotated[int, typer.Option(help="Images attacked.", min=2)]
Batch = Annotated[int | None, typer.Option(help="Images at once; all by default.", min=1)]
Steps = Annotated[int, typer.Option(help="Binary search steps.", min=1)]
Iterations = Annotated[int, typer.Option(help="Iterations a search step.", min=1)]
Rate = Annotated[float, typer.Option(help="Learning rate.")]
Beta = Annotated[float, typer.Option(help="Weight of L1.")]
Const = Annotated[float, typer.Option(help="First constant of the search.")]
Channels = Annotated[str, typer.Option(help="grey: one perturbation for all three; or rgb.")]
Repeats = Annotated[int, typer.Option(help="Turns, each with every implementation.", min=1)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int, typer.Option(help="Threads a worker; 0: all cores.", min=0)]
Precision = Annotated[str, typer.Option(help="Of our search: auto, fp32, tf32 or bf16.")]
Only = Annotated[list[str] | None, typer.Option(help="Only this implementation; repeat it.")]
ModelFolder = Annotated[Path | None, typer.Option(help="A network as the pipeline stores it.")]
Arrays = Annotated[Path, typer.Option(help="With --model: the pipeline's arrays.")]
Split = Annotated[str, typer.Option(help="With --model: the split attacked.")]
Out = Annotated[Path, typer.Option(help="Folder of the results.")]


@app.command()
def compare(
    size: Size = 96,
    images: Images = 16,
    batch: Batch = None,
    steps: Steps = 9,
    iterations: Iterations = 25,
    learning_rate: Rate = 0.5,
    beta: Beta = 0.001,
    initial_const: Const = 0.001,
    channels: Channels = "grey",
    repeats: Repeats = 2,
    device: Device = "auto",
    threads: Threads = 0,
    precision: Precision = "auto",
    only: Only = None,
    model: ModelFolder = None,
    arrays: Arrays = Path("data/arrays"),
    split: Split = "test",
    out: Out = RESULTS,
) -> None:
    """All implementations with the same parameters: time, passes, success, distances, memory."""
    parameters = Parameters(learning_rate, steps, iterations, beta, initial_const)
    setting = _setting(size, images, batch, channels, parameters, device, threads, repeats)
    ours = implementations.our_rows(precision, setting.device == "cuda")
    rows = pick((*PEER_ROWS, *ours), only or [])
    parts.compare(setting, _pool(model, arrays, split, size), rows, out)


@app.command()
def quality(
    size: Size = 80,
    images: Images = 16,
    batch: Batch = None,
    steps: Steps = 9,
    budgets: Annotated[str, typer.Option(help="Iterations a step, with commas.")] = "5,10,25",
    slow_up_to: Annotated[int, typer.Option(help="Largest budget of ART's rows.")] = 10,
    limit: Annotated[
        list[str] | None, typer.Option(help="Largest budget of a row, NAME=N; repeat it.")
    ] = None,
    learning_rate: Rate = 0.5,
    beta: Beta = 0.001,
    initial_const: Const = 0.001,
    channels: Channels = "grey",
    repeats: Repeats = 1,
    device: Device = "auto",
    threads: Threads = 0,
    precision: Precision = "auto",
    only: Only = None,
    model: ModelFolder = None,
    arrays: Arrays = Path("data/arrays"),
    split: Split = "test",
    out: Out = RESULTS,
) -> None:
    """Time to quality: the median elastic-net distance that each reaches, over time."""
    each = _budgets(budgets)
    parameters = Parameters(learning_rate, steps, max(each), beta, initial_const)
    setting = _setting(size, images, batch, channels, parameters, device, threads, repeats)
    ours = implementations.quality_rows(precision)
    rows = pick((*PEER_ROWS, implementations.TUNED_PEER, *ours), only or [])
    limits = {row.name: slow_up_to for row in PEER_ROWS if row.library == "art"}
    given = dict(map(_limit, limit or []))
    pick((*PEER_ROWS, implementations.TUNED_PEER, *ours), list(given))  # refuses an unknown name
    limits |= given
    parts.quality(setting, _pool(model, arrays, split, size), rows, each, limits, out)


@app.command()
def ablation(
    size: Size = 80,
    images: Images = 32,
    batch: Batch = 16,
    steps: Steps = 9,
    iterations: Iterations = 10,
    learning_rate: Rate = 0.5,
    beta: Beta = 0.001,
    initial_const: Const = 0.001,
    channels: Channels = "grey",
    repeats: Repeats = 2,
    device: Device = "auto",
    threads: Threads = 0,
    precision: Precision = "auto",
    only: Only = None,
    model: ModelFolder = None,
    arrays: Arrays = Path("data/arrays"),
    split: Split = "test",
    out: Out = RESULTS,
) -> None:
    """Ours without each speed-up alone, and with each shortcut alone."""
    parameters = Parameters(learning_rate, steps, iterations, beta, initial_const)
    setting = _setting(size, images, batch, channels, parameters, device, threads, repeats)
    bf16 = machine.has_bf16(setting.device)
    rows = pick(implementations.ablation_rows(iterations, precision, bf16), only or [])
    parts.ablation(setting, _pool(model, arrays, split, size), rows, out)


@app.command()
def floor(
    size: Size = 224,
    batch: Annotated[int, typer.Option(help="Images at once, and attacked.", min=2)] = 16,
    best_of: Annotated[int, typer.Option(help="Timings of a convolution.", min=1)] = 3,
    peer: Annotated[list[str] | None, typer.Option(help="A peer too; repeat it.")] = None,
    channels: Channels = "grey",
    repeats: Repeats = 1,
    device: Device = "auto",
    threads: Threads = 0,
    out: Out = RESULTS,
) -> None:
    """The share of the arithmetic floor that our search loop reaches."""
    parameters = parts.FLOOR_PARAMETERS
    setting = _setting(size, batch, batch, channels, parameters, device, threads, repeats)
    peers = pick(PEER_ROWS, peer) if peer else ()
    parts.floor(setting, trained(size), best_of, peers, out)


@app.command()
def profile(
    size: Size = 224,
    images: Images = 16,
    steps: Steps = 1,
    iterations: Iterations = 10,
    learning_rate: Rate = 0.5,
    beta: Beta = 0.001,
    initial_const: Const = 1.0,
    channels: Channels = "grey",
    device: Device = "auto",
    threads: Threads = 0,
    precision: Precision = "auto",
    out: Out = RESULTS,
) -> None:
    """Where our attack's time goes, by torch's profiler."""
    parameters = Parameters(learning_rate, steps, iterations, beta, initial_const)
    setting = _setting(size, images, None, channels, parameters, device, threads, repeats=1)
    rows = implementations.our_rows(precision, cuda=False)
    parts.profile(setting, trained(size), rows, out)


@app.command()
def passes(
    size: Size = 80,
    batch: Annotated[int, typer.Option(help="Images at once.", min=2)] = 16,
    channels: Channels = "grey",
    device: Device = "auto",
    threads: Threads = 0,
    out: Out = RESULTS,
) -> None:
    """What one pass costs, as the speed-ups come on one by one; torch.compile beside them."""
    setting = _setting(size, batch, batch, channels, Parameters(), device, threads, repeats=1)
    parts.passes(setting, trained(size), out)


@app.command()
def memory(
    size: Size = 80,
    batch: Annotated[int, typer.Option(help="Images at once and in a shard.", min=2)] = 32,
    counts: Annotated[str, typer.Option(help="Numbers of images, with commas.")] = "256,1024,4096",
    linear: Annotated[
        str, typer.Option(help="The same on a linear network, with commas.")
    ] = "1024,15000",
    channels: Channels = "grey",
    device: Device = "auto",
    threads: Threads = 0,
    out: Out = RESULTS,
) -> None:
    """Peak memory of our attack through the pipeline's shards, by number of images."""
    parameters = Parameters(binary_search_steps=1, max_iter=2, initial_const=1.0)
    setting = _setting(size, batch, batch, channels, parameters, device, threads, repeats=1)
    parts.memory(setting, trained(size), _budgets(counts), _budgets(linear), out)


@app.command("suite")
def run_suite(device: Device = "auto", threads: Threads = 0, out: Out = RESULTS) -> None:
    """Everything, as `make bench` runs it: some three hours on two cores."""
    suite.run(_device(device), _threads(threads), out)


@app.command("readme")
def write_readme(out: Out = RESULTS) -> None:
    """Write the tables and the page over them anew, from the JSON files."""
    for path in sorted(out.glob("*.json")):
        tables.write(path, read_json(path))
    readme.write(out)


def _setting(
    size: int,
    images: int,
    batch: int | None,
    channels: str,
    parameters: Parameters,
    device: str,
    threads: int,
    repeats: int,
) -> Setting:
    if channels not in ("grey", "rgb"):
        raise UserError(f"--channels: grey or rgb, not '{channels}'")
    return Setting(
        *(size, images, batch or images, channels, parameters),
        *(_device(device), _threads(threads), repeats),
    )


def _pool(model: Path | None, arrays: Path, split: str, size: int) -> Pool:
    return stored(model, arrays, split, size) if model else trained(size)


def _device(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device: auto, cpu or cuda, not '{device}'")
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise UserError("--device cuda: torch finds no CUDA device here; use cpu")
    return "cuda" if there and device != "cpu" else "cpu"


def _threads(threads: int) -> int:
    return threads or len(os.sched_getaffinity(0))


def _budgets(text: str) -> tuple[int, ...]:
    try:
        found = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise UserError(f"'{text}': whole numbers with commas, as 5,10,25") from None
    if found[0] < 1:
        raise UserError(f"'{text}': numbers from 1")
    return found


def _limit(text: str) -> tuple[str, int]:
    name, _, value = text.rpartition("=")
    if not name or not value.isdigit():
        raise UserError(f"--limit '{text}': NAME=ITERATIONS, as foolbox=25")
    return name, int(value)


if __name__ == "__main__":
    with one_line_errors():
        app()
