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
from octrobust.attack.suite import JUDGED, Attack, judge
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
from octrobust.stages.common import arithmetic, array_files, as_tensors, blocks, scratch_for

ROOMS = (".", "attack", "data", "distributed", "evaluation", "model", "stages")
# What PGD turns within a budget when it is run on every image, also on those that it turned within
# a smaller one; of other attacks, what counts for them.
ALONE = "success_alone"
FLAGS = (*JUDGED, ALONE)
COLUMNS = (*FLAGS, *distances.NAMES)
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
        The folder of the finished work, to be kept until dvc.lock has the result.
    """
    settings = params.evaluate.battery
    images = open_split(arrays, "test", params.data.image_size)
    rows = spread_rows(images, settings.images_per_class)
    device = select_device(params.compute)
    scratch = scratch_for(
        f"battery-{model.name}",
        ROOMS,
        *array_files(arrays, "test"),
        sha256_file(model / WEIGHTS),
        [settings.model_dump(exclude={"models"}), params.attack.model_dump(), rows.tolist()],
        arithmetic(params.attack.precision, device),
    )
    network = load_model(model, device)
    found: dict[str, dict[str, Found]] = {}
    parts: dict[str, Any] = {}
    flags: list[Flag] = []
    for channels in settings.channels:
        plan = _plan(params, network)
        right, none = np.empty(len(rows), dtype=bool), 0.0
        found[channels] = {attack.name: {} for attack in plan}
        for number, block in enumerate(blocks(len(rows))):
            clean = _clean(network, images, rows[block], channels)
            right[block] = clean.right.cpu().numpy()
            folder = scratch / channels / str(number)
            fresh = _run(network, plan, clean, folder, params.attack.beta)
            _put(found[channels], fresh, block, len(rows))
            none += no_gradient(network, clean.x, clean.y) * len(clean.y) / len(rows)
        part = summary(
            {attack.name: (attack.kind, attack.norm, attack.budget) for attack in plan},
            found[channels],
            right,
            _patients(images, rows),
            {"l2": settings.l2, "linf": settings.linf},
            params.evaluate.confidence_level,
        )
        title = f"{model.name}, {channels}"
        flags += _flags(title, plan, part, found[channels], right, none, settings.l2)
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


def _flags(
    title: str,
    plan: list[Attack],
    part: dict[str, Any],
    found: dict[str, Found],
    right: NDArray[np.bool_],
    vanishing: float,
    l2: list[float],
) -> Iterator[Flag]:
    """Those of images with so many channels, whose summary is `part`."""
    robust = {name: attack["accuracy"] for name, attack in part["attacks"].items()}
    robust |= _within_balls(found, right, l2)
    alone = {
        attack.name: float((right & ~found[attack.name][ALONE]).mean())
        for attack in plan
        if attack.method == "pgd"
    }
    return battery_flags(title, robust, alone, float(right.mean()), vanishing, len(right))


def _put(whole: dict[str, Found], fresh: dict[str, Found], block: slice, count: int) -> None:
    """A block's records into those of all `count` images."""
    for name, found in fresh.items():
        for column, values in found.items():
            whole[name].setdefault(column, np.empty(count, values.dtype))[block] = values


def _plan(params: Params, network: OCTClassifier) -> list[Attack]:
    ead = {
        f"ead_{rule.lower()}": build_attack(
            network, params.attack.model_copy(update={"decision_rule": rule}), params.compute
        )
        for rule in ("EN", "L1")
    }
    return attacks_on(network, ead, params.evaluate.battery)


@dataclass(frozen=True)
class _Clean:
    """The images attacked, their classes, and where the network is right on them."""

    x: Tensor
    y: Tensor
    right: Tensor

    def at(self, rows: Tensor) -> _Clean:
        return _Clean(self.x[rows], self.y[rows], self.right[rows])


def _clean(
    network: OCTClassifier, images: ImageSet, rows: NDArray[np.int64], channels: str
) -> _Clean:
    x, y = as_tensors(images, rows, channels, next(network.parameters()).device)
    right = predict(network, x) == images.targets[rows]
    return _Clean(x, y, torch.from_numpy(right).to(x.device))


def _run(
    network: OCTClassifier, plan: list[Attack], clean: _Clean, folder: Path, beta: float
) -> dict[str, Found]:
    """Every attack's records; those finished before a kill are read from `folder`.

    Ranks take methods in turn: one method's attacks within one norm build on each other.
    """
    series = list(dict.fromkeys(_series(attack) for attack in plan))
    own = [attack for attack in plan if _series(attack) in dealt(series)]
    smaller: dict[Series, Found] = {}  # at the last budget
    title = f"battery, {folder.parent.name} {folder.name}"
    for attack in tqdm(own, desc=title, unit="attack", leave=False):
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
    """An image that the same attack turned within a smaller budget counts as turned; only PGD is
    run on it again, so that a larger budget that does less is seen."""
    count = len(clean.x)
    left = np.ones(count, dtype=bool) if before is None else ~before["success"]
    asked = np.ones(count, dtype=bool) if attack.method == "pgd" else left
    result = {name: values.copy() for name, values in before.items()} if before else {}
    alone = ~left
    if asked.any():
        some = clean.at(torch.from_numpy(np.flatnonzero(asked)).to(clean.x.device))
        candidates = attack.run(some.x, some.y)
        fresh = judge(network, some.x, some.y, some.right, candidates, beta)
        alone[asked] = fresh["success"]
        for name, values in fresh.items():
            result.setdefault(name, np.empty(count, values.dtype))[left] = values[left[asked]]
    return {**result, ALONE: alone}


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
    flags = {name: np.array([row[name] == "1" for row in rows]) for name in FLAGS}
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
