"""A project with made-up results, as the stages before the report leave it, and its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from octrobust import config
from octrobust.attack.shards import COLUMNS as RECORD_COLUMNS
from octrobust.attack.shards import open_adversarial
from octrobust.data.arrays import COLUMNS as ARRAY_COLUMNS
from octrobust.data.arrays import open_split, stored_side
from octrobust.evaluation import robustness
from octrobust.evaluation.distortion import distortion, histogram
from octrobust.evaluation.flags import Flag
from octrobust.evaluation.metrics import classification
from octrobust.files import sha256_file, write_csv, write_json
from octrobust.report.page import build
from octrobust.stages.battery import FLAGS

SIDE = 80
IMAGES = 8  # of the test split, first half NORMAL
HOSTILE = 'CNV/CNV-"><img src=x onerror=alert(1)>$-1.jpeg'
CURVES = (
    *("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"),
    "learning_rate",
)
# The control is the most robust: it must not be chosen.
ROBUST = {"hardened_static": 0.2, "hardened_control": 0.9, "hardened_online": 0.8}


def write_arrays(folder: Path) -> None:
    side = stored_side(SIDE)
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 200, (IMAGES, side, side), dtype=np.uint8)
    np.save(folder / "test.npy", pixels)
    rows = []
    for i in range(IMAGES):
        label = "NORMAL" if i < IMAGES // 2 else "CNV"
        path = HOSTILE if label == "CNV" else f"{label}/{label}-{i}-1.jpeg"
        values = (i, path, label, f"<b>{i}</b>", int(i >= IMAGES // 2))
        rows.append(dict(zip(ARRAY_COLUMNS, values, strict=True)))
    write_csv(folder / "test.csv", rows, ARRAY_COLUMNS)


def write_adversarial(folder: Path, arrays: Path, succeeded: list[bool]) -> None:
    """Image i moves by 0.01 (i + 1) everywhere, so L2 grows with the row."""
    folder.mkdir(parents=True)
    images = open_split(arrays, "test", SIDE)
    clean = images.views(slice(None))
    steps = 0.01 * (1 + np.arange(IMAGES, dtype=np.float32))
    moved = clean + steps[:, None, None, None] * np.array(succeeded)[:, None, None, None]
    shards = []
    for number, start in enumerate(range(0, IMAGES, 5)):  # 5: the last shard is not full
        name = f"shard-{number:05d}.npz"
        np.savez_compressed(folder / name, x_adv=moved[start : start + 5].astype(np.float32))
        shards.append({"name": name, "sha256": sha256_file(folder / name)})
    rows = []
    for i, success in enumerate(succeeded):
        target = int(images.targets[i])
        row: dict[str, Any] = dict.fromkeys(RECORD_COLUMNS, 0)
        row |= {"row": i, "target": target, "prediction_before": target, "iterations": 10}
        row |= {"prediction_after": 1 - target if success else target}
        row |= {"success": int(success), "success_8bit": int(success)}
        distance = float(steps[i] * SIDE) if success else ""
        row |= dict.fromkeys(("l0", "l1", "l2", "elastic_net", "const"), distance)
        row["linf"] = float(steps[i]) if success else ""
        rows.append(row)
    write_csv(folder / "records.csv", rows, RECORD_COLUMNS)
    manifest = {"shard_size": 5, "shape": [1, SIDE, SIDE], "shards": shards, "made_by": {}}
    records = {"records_sha256": sha256_file(folder / "records.csv")}
    write_json(folder / "manifest.json", {**manifest, **records})


def score(correct: int) -> dict[str, Any]:
    targets = np.arange(100) % 2
    right = np.arange(100) < correct
    positive = np.where(right, targets, 1 - targets) * 0.8 + 0.1
    return classification(targets, positive, [""] * 100, 0.95)


def battery(model: str) -> dict[str, Any]:
    """Ten images, turned by PGD at growing distances."""
    distance = np.linspace(0.2, 3.0, 10)
    distance[-1] = np.nan
    success = np.isfinite(distance)
    found = dict.fromkeys(FLAGS, success)
    found |= dict.fromkeys(("l1", "l2", "linf", "elastic_net"), distance)
    budgets = {"l2": [0.25, 0.5, 1.0], "linf": [0.02]}
    plan = {"pgd_l2_1": ("white-box", "l2", 1.0), "ead_en": ("white-box", None, None)}
    attacks = dict.fromkeys(plan, found)
    right = np.ones(10, dtype=bool)
    part = robustness.summary(plan, attacks, right, [""] * 10, budgets, 0.95)
    flags = [vars(Flag("gradients vanish", model, True, "seen <b>20 %</b>"))]
    counts = {"images": 10, "patients": 5, "confidence_level": 0.95}
    return {**counts, "channels": {"grey": part}, "flags": flags}


def write_numbers(project: Path) -> None:
    records = open_adversarial(project / "data/adversarial/test").records
    found = distortion(records)
    sources = ("config_1", "config_2", "hardened_static", "hardened_control", "hardened_online")
    models: dict[str, Any] = {
        name: {"clean": score(clean)}
        | {source: score(3 if source == name else 60) for source in sources}
        | {"config_1": score(static)}
        for name, clean, static in (
            ("config_1", 97, 2),
            ("config_2", 96, 40),
            ("config_3", 95, 50),
            ("hardened_static", 94, 70),
            ("hardened_control", 96, 30),
            ("hardened_online", 93, 80),
        )
    }
    evaluation = {
        "target": "config_1",
        "corruptions": {name: {"blur": {"1": score(90), "3": score(50)}} for name in models},
        "flags": [],
        "classes": ["NORMAL", "CNV"],
        "positive": "CNV",
        "confidence_level": 0.95,
        "models": models,
        "distortion": dict.fromkeys(sources, found),
        "distortion_ratios": {
            "hardened_online": {"ratio": 4.5, "low": 3.0, "high": 6.0, "images": 7}
        },
        "validation_robust": {"l2": 0.5, "accuracy": ROBUST},
        "mcnemar": [
            {"on": on, "first": first, "second": "hardened_online", "p": 0.01}
            | {"first_only": 1, "second_only": 9, "p_adjusted": 0.02}
            for on, first in (
                ("clean", "config_1"),
                ("config_1", "config_2"),
                ("battery", "config_1"),
            )
        ],
    }
    metrics = project / "metrics"
    write_json(metrics / "evaluation.json", evaluation)
    for name in models:
        numbers = {"train_seconds": 61.0, "epochs": 2, "best_epoch": 1, "extra_key": 0}
        numbers |= {"validation_accuracy": 0.9}
        write_json(metrics / "train" / f"{name}.json", numbers)
        made_by: dict[str, Any] = {"model": {"weights": "a|<b>.pt"}}
        if name == "hardened_online":
            made_by = {"variant": {"method": "online"}}
        stored = {"architecture": "net", "weights_sha256": f"hash-of-{name}", "made_by": made_by}
        write_json(project / "models" / name / "model.json", stored)
        rows = [dict.fromkeys(CURVES, 0.5) | {"epoch": float(i)} for i in (1, 2)]
        write_csv(project / "plots" / "training" / f"{name}.csv", rows, CURVES)
    for name in ("config_1", "hardened_static", "hardened_control", "hardened_online"):
        write_json(metrics / "battery" / f"{name}.json", battery(name))
        lines = [
            {"channels": "grey", "distance": d, "budget": b, "robust_accuracy": 1 - b / 4}
            for d in ("l1", "l2", "linf", "elastic_net")
            for b in (0.0, 1.0, 2.0)
        ]
        write_csv(project / f"plots/robustness/{name}.csv", lines, tuple(lines[0]))
    for name in ("train", "test"):
        attack = {**found, "seconds": 5.0, "images_per_second": 1.6}
        write_json(metrics / "attack" / f"{name}.json", attack)
    ingest = {"images": 41, "patients": 7, "duplicates": 1, "quarantined": 2}
    write_json(metrics / "ingest.json", ingest)
    write_json(metrics / "split.json", {"test": {"images": 8, "patients": 4}})
    validation = {"success": True, "expectations": 31, "failed": 0, "patients_in_two_splits": 0}
    write_json(metrics / "validation.json", validation)
    bins = histogram(
        {
            "made on config_1": records["l2"][records["success"]],
            "made on hardened_static": np.empty(0),
        }
    )
    write_csv(project / "plots/distortion.csv", bins, ("set", "from", "to", "images"))
    calibration = {"from": 0.9, "to": 1.0, "confidence": 0.95, "accuracy": 0.9, "images": 8}
    lines = [
        {"model": "config_1", "made_on": made, **calibration} for made in ("clean", "config_1")
    ]
    write_csv(project / "plots/reliability.csv", lines, tuple(lines[0]))


def make_project(folder: Path, succeeded: list[bool]) -> Path:
    write_arrays(folder / "data/arrays")
    write_adversarial(folder / "data/adversarial/test", folder / "data/arrays", succeeded)
    write_csv(folder / "data/raw/index.csv", [], ("path",))
    write_numbers(folder)
    return folder


def run(project: Path, params: config.Params, **more: Any) -> str:
    page = project / "reports/index.html"
    figures = project / "reports/figures"
    cards = project / "reports/cards"
    build(project, params, page, project / "metrics/summary.json", figures, cards, **more)
    return page.read_text(encoding="utf-8")
