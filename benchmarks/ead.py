"""Our Elastic-Net attack beside ART's: same network, images, iterations, side by side in turns.

    make repro && make bench

Writes benchmarks/results/ead.md and ead.json. Ratios of one run are worth more than its seconds.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from octrobust import config
from octrobust.attack import ElasticNet
from octrobust.attack.distances import elastic_net
from octrobust.data.arrays import open_split
from octrobust.errors import one_line_errors
from octrobust.files import write_json, write_text
from octrobust.model.build import OCTClassifier
from octrobust.model.device import select_device
from octrobust.model.store import load_model
from octrobust.stages.attack import build_attack, spread_rows

Crafter = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def crafters(model: OCTClassifier, params: config.Params, size: int) -> dict[str, Crafter]:
    """Each implementation as a function of images (N, 1, S, S) and labels to adversarial images."""
    from art.attacks.evasion import ElasticNet as ARTElasticNet
    from art.estimators.classification import PyTorchClassifier

    ours: ElasticNet = build_attack(model, params.attack, params.compute)
    side = params.data.image_size
    classifier = PyTorchClassifier(
        model,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=(1, side, side),
        nb_classes=2,
        clip_values=(0.0, 1.0),
        device_type=next(model.parameters()).device.type,
    )
    names = ("learning_rate", "binary_search_steps", "max_iter", "beta", "initial_const")
    same = {name: getattr(params.attack, name) for name in names}

    def art(batch_size: int) -> Crafter:
        attack = ARTElasticNet(classifier, batch_size=batch_size, verbose=False, **same)
        return lambda x, y: torch.from_numpy(attack.generate(x.numpy(), y.numpy()))

    return {
        "octrobust": ours.generate,
        "ART, batch 1 (as shipped)": art(1),
        f"ART, batch {size}": art(size),
    }


def measure(craft: Crafter, model: OCTClassifier, x: torch.Tensor, y: torch.Tensor) -> Any:
    started = time.perf_counter()
    x_adv = craft(x, y)
    seconds = time.perf_counter() - started
    with torch.no_grad():
        success = model(x_adv).argmax(1) != y
    distance = elastic_net(x, x_adv, 0.001)[success]
    median = float(distance.median()) if len(distance) else None
    return {"seconds": seconds, "success": float(success.float().mean()), "median": median}


def main(
    images: Annotated[int, typer.Option(help="Images attacked, all at once.")] = 8,
    steps: Annotated[int, typer.Option(help="Binary search steps.")] = 3,
    iterations: Annotated[int, typer.Option(help="FISTA iterations a step.")] = 10,
    repeats: Annotated[int, typer.Option(help="Turns, each with every implementation.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder for the tables.")] = Path("benchmarks/results"),
) -> None:
    """Time EAD implementations on the trained config_1 and the test images."""
    params = config.load()
    attack = params.attack.model_copy(update={"binary_search_steps": steps, "max_iter": iterations})
    params = params.model_copy(update={"attack": attack})
    model = load_model(Path("models") / attack.target, select_device(params.compute))
    test = open_split(Path("data/arrays"), "test", params.data.image_size)
    rows = spread_rows(test, (images + 1) // 2)[:images]
    x, y = torch.from_numpy(test.views(rows)), torch.from_numpy(test.targets[rows])
    with torch.no_grad():
        right = model(x).argmax(1) == y  # ART counts what was wrong before as a success
    x, y = x[right], y[right]
    runs: dict[str, list[Any]] = {}
    for _ in range(repeats):
        for name, craft in crafters(model, params, len(x)).items():
            runs.setdefault(name, []).append(measure(craft, model, x, y))
    _write(out, runs, len(x), params)


def _write(out: Path, runs: dict[str, list[Any]], images: int, params: config.Params) -> None:
    ours = [run["seconds"] for run in runs["octrobust"]]
    lines = [
        f"`python {' '.join(sys.argv)}`: {images} images of {params.data.image_size} px, "
        f"{params.attack.binary_search_steps} x {params.attack.max_iter} iterations, "
        f"{torch.get_num_threads()} threads, {platform.processor() or platform.machine()}, "
        f"torch {torch.__version__}, ART {metadata.version('adversarial-robustness-toolbox')}",
        "",
        "| implementation | seconds, median | times ours | success | median elastic-net distance |",
        "|---|---|---|---|---|",
    ]
    for name, found in runs.items():
        seconds = [run["seconds"] for run in found]
        ratios = np.divide(seconds, ours)
        median = found[-1]["median"]
        lines.append(
            f"| {name} | {statistics.median(seconds):.1f} | "
            f"{ratios.min():.1f} to {ratios.max():.1f} | {found[-1]['success']:.0%} | "
            f"{'none' if median is None else f'{median:.3f}'} |"
        )
    text = "\n".join(lines) + "\n"
    print(text)
    write_text(out / "ead.md", text)
    write_json(out / "ead.json", {"images": images, "runs": runs, "argv": sys.argv})


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
