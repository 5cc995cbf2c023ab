"""The battery on one model: every attack, image by image, and what is left of the accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from octrobust.attack import distances
from octrobust.attack.suite import JUDGED, Attack, Sizes, judge
from octrobust.attack.suite import battery as attacks_on
from octrobust.config import Params
from octrobust.data.arrays import ImageSet, open_split
from octrobust.distributed.group import barrier, dealt
from octrobust.distributed.place import is_first
from octrobust.evaluation.flags import Flag, battery_flags
from octrobust.evaluation.robustness import (
    MINIMISED,
    curve,
    robust_accuracy,
    smallest,
    summary,
)
from octrobust.files import read_csv, sha256_file, write_csv, write_json
from octrobust.model.build import OCTClassifier
from octrobust.model.device import select_device
from octrobust.model.predict import float32, logits, predict
from octrobust.model.store import WEIGHTS, load_model
from octrobust.stages.attack import build_attack, spread_rows
from octrobust.stages.common import array_files, as_tensors, scratch_for

ROOMS = (".", "attack", "data", "distributed", "evaluation", "model", "stages")
COLUMNS = (*JUDGED, *distances.NAMES)
SHORTEST = 1e-7  # a gradient
LONG = "_long"  # how the name of a method with more steps ends
Found = dict[str, NDArray[Any]]  # of one attack, see `judge`
Series = tuple[str, str | None]  # method and norm


def battery(
    params: Params, arrays: Path, model: Path, records: Path, curves: Path, metrics: Path
) -> Path:
    """Run evaluate.battery on the model in folder `model`.

    Args:
        records: CSV, a row an image, attack and number of channels.
        curves: CSV, worst-case robust accuracy by distance and budget.
        metrics: JSON, accuracies under every attack, worst cases and flags.

    Returns:
        The folder of the finished work, to be removed once the result is recorded.
    """
    settings = params.evaluate.battery
    images = open_split(arrays, "test", params.data.image_size)
    rows = spread_rows(images, settings.images_per_class)
    scratch = scratch_for(
        f"battery-{model.name}",
        ROOMS,
        *array_files(arrays, "test"),
        sha256_file(model / WEIGHTS),
        [settings.model_dump(exclude={"models"}), params.attack.model_dump(), rows.tolist()],
    )
    device = select_device(params.compute)
    network = load_model(model, device)
    found: dict[str, dict[str, Found]] = {}
    parts: dict[str, Any] = {}
    flags: list[Flag] = []
    for channels in settings.channels:
        x, y = as_tensors(images, rows, channels, device)
        plan = _plan(params, network)
        right = predict(network, x) == images.targets[rows]
        clean = _Clean(x, y, torch.from_numpy(right).to(device))
        found[channels] = _run(network, plan, clean, scratch / channels, params.attack.beta)
        part = summary(
            {attack.name: (attack.kind, attack.norm, attack.budget) for attack in plan},
            found[channels],
            right,
            _patients(images, rows),
            {"l2": settings.l2, "linf": settings.linf},
            params.evaluate.confidence_level,
        )
        none = no_gradient(network, x, y)
        robust = {name: attack["accuracy"] for name, attack in part["attacks"].items()}
        robust |= _within_balls(found[channels], right, settings.l2)
        title = f"{model.name}, {channels}"
        flags += battery_flags(title, robust, float(right.mean()), none, len(rows))
        parts[channels] = {**part, "no_gradient": none}
    if not is_first():
        return scratch
    _write_records(records, found, rows)
    _write_curves(curves, found, right)
    write_json(
        metrics,
        {
            "model": model.name,
            "images": len(rows),
            "patients": len(set(_patients(images, rows)) - {""}),
            "confidence_level": params.evaluate.confidence_level,
            "channels": parts,
            "flags": [vars(flag) for flag in flags],
        },
    )
    return scratch


def _plan(params: Params, network: OCTClassifier) -> list[Attack]:
    settings = params.evaluate.battery
    sizes = Sizes(
        l2=tuple(sorted(settings.l2)),
        linf=tuple(sorted(settings.linf)),
        **settings.model_dump(exclude={"models", "images_per_class", "channels", "l2", "linf"}),
    )
    ead = {
        f"ead_{rule.lower()}": build_attack(
            network, params.attack.model_copy(update={"decision_rule": rule}), params.compute
        )
        for rule in ("EN", "L1")
    }
    return attacks_on(network, ead, sizes)


@dataclass(frozen=True)
class _Clean:
    """The images attacked, their classes, and where the network is right on them."""

    x: Tensor
    y: Tensor
    right: Tensor

    def at(self, rows: Tensor) -> _Clean:
        return _Clean(self.x[rows], self.y[rows], self.right[rows])


def _run(
    network: OCTClassifier, plan: list[Attack], clean: _Clean, folder: Path, beta: float
) -> dict[str, Found]:
    """Every attack's records; those finished before a kill are read from `folder`.

    Ranks take methods in turn: one method's attacks within one norm build on each other.
    """
    series = list(dict.fromkeys(_series(attack) for attack in plan))
    own = [attack for attack in plan if _series(attack) in dealt(series)]
    smaller: dict[Series, Found] = {}  # at the last budget
    for attack in tqdm(own, desc=f"battery, {folder.name}", unit="attack", leave=False):
        path = folder / f"{attack.name}.csv"
        if not path.exists():
            result = _attack(network, attack, clean, smaller.get(_series(attack)), beta)
            write_csv(path, _rows(result), COLUMNS)
        if attack.budget is not None and not attack.method.endswith(LONG):
            smaller[_series(attack)] = _parsed(read_csv(path))
    barrier()
    return {attack.name: _parsed(read_csv(folder / f"{attack.name}.csv")) for attack in plan}


def _series(attack: Attack) -> Series:
    return attack.method.removesuffix(LONG), attack.norm


def _attack(
    network: OCTClassifier, attack: Attack, clean: _Clean, before: Found | None, beta: float
) -> Found:
    """An image that the same attack turned within a smaller budget is not attacked again."""
    count = len(clean.x)
    left = np.ones(count, dtype=bool) if before is None else ~before["success"]
    result = {name: values.copy() for name, values in before.items()} if before else {}
    if left.any():
        some = clean.at(torch.from_numpy(np.flatnonzero(left)).to(clean.x.device))
        candidates = attack.run(some.x, some.y)
        fresh = judge(network, some.x, some.y, some.right, candidates, beta)
        for name, values in fresh.items():
            result.setdefault(name, np.empty(count, values.dtype))[left] = values
    return result


def _rows(found: Found) -> Iterator[dict[str, Any]]:
    for values in zip(*(found[name].tolist() for name in COLUMNS), strict=True):
        row = dict(zip(COLUMNS, values, strict=True))
        yield {k: int(v) if isinstance(v, bool) else "" if v != v else v for k, v in row.items()}


def read_records(path: Path, channels: str) -> tuple[NDArray[np.int64], dict[str, Found]]:
    """What `battery` wrote to `records`, of images with so many channels: rows of the test split
    (N,), and the records by attack, in order of these rows."""
    by_attack: dict[str, list[dict[str, str]]] = {}
    for row in read_csv(path):
        if row["channels"] == channels:
            by_attack.setdefault(row["attack"], []).append(row)
    rows = np.array([int(row["row"]) for row in next(iter(by_attack.values()))], dtype=np.int64)
    return rows, {name: _parsed(lines) for name, lines in by_attack.items()}


def _parsed(rows: list[dict[str, str]]) -> Found:
    flags = {name: np.array([row[name] == "1" for row in rows]) for name in JUDGED}
    measured = {
        name: np.array([float(row[name] or "nan") for row in rows]) for name in distances.NAMES
    }
    return {**flags, **measured}


def _patients(images: ImageSet, rows: NDArray[np.int64]) -> list[str]:
    return [images.patients[int(row)] for row in rows]


def no_gradient(network: OCTClassifier, x: Tensor, y: Tensor) -> float:
    """Share of images at which the cross-entropy's gradient is shorter than what attacks on it
    take for nothing, ART's 1e-7."""
    with torch.enable_grad(), float32():
        at = x.clone().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(logits(network, at).float(), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, at)
    return float((gradient.flatten(1).norm(dim=1) < SHORTEST).float().mean())


def _within_balls(
    found: dict[str, Found], right: NDArray[np.bool_], budgets: list[float]
) -> dict[str, float]:
    """What the hard-label attack leaves within each L2 budget, named as if it had one."""
    hard = found.get("hop_skip_jump")
    if hard is None:
        return {}
    least = smallest({"": hard}, "l2", right)
    left = robust_accuracy(least, budgets).tolist()
    return {f"hop_skip_jump_l2_{b:g}": value for b, value in zip(budgets, left, strict=True)}


def _write_records(path: Path, found: dict[str, dict[str, Found]], rows: NDArray[np.int64]) -> None:
    def lines() -> Iterator[dict[str, Any]]:
        for channels, attacks in found.items():
            for name, records in attacks.items():
                for row, values in zip(rows.tolist(), _rows(records), strict=True):
                    yield {"channels": channels, "attack": name, "row": row, **values}

    write_csv(path, lines(), ("channels", "attack", "row", *COLUMNS))


def _write_curves(path: Path, found: dict[str, dict[str, Found]], right: NDArray[np.bool_]) -> None:
    rows = [
        {"channels": channels, "distance": name, "budget": budget, "robust_accuracy": left}
        for channels, attacks in found.items()
        for name in MINIMISED
        for budget, left in curve(smallest(attacks, name, right))
    ]
    write_csv(path, rows, ("channels", "distance", "budget", "robust_accuracy"))
