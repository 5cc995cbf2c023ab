"""What is said of two models at once: tests, ratios, controls, and which defence is best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octrobust.attack.pgd import Pgd, Views
from octrobust.attack.shards import AdversarialSet
from octrobust.config import BATTERY, CLEAN, Params, middle
from octrobust.data.arrays import ImageSet
from octrobust.evaluation.flags import Flag, constant_flag, control_flag
from octrobust.evaluation.intervals import difference_interval, mcnemar, median_ratio
from octrobust.evaluation.robustness import robust_within, smallest
from octrobust.model.build import OCTClassifier
from octrobust.model.predict import predict
from octrobust.stages.attack import spread_rows
from octrobust.stages.battery import read_records
from octrobust.stages.common import as_tensors, blocks

# (N,) bool by model and test set: where the model is right; a set's rows of the test split, (N,).
Right = Mapping[str, Mapping[str, NDArray[np.bool_]]]
Rows = Mapping[str, NDArray[np.int64]]


def tests(
    right: Right, target: str, survivors: Mapping[str, NDArray[np.bool_]]
) -> Iterator[dict[str, Any]]:
    """McNemar's of every two models; p_adjusted is Benjamini and Hochberg's, over all of them.

    On clean images; on the set made on `target`, which is left out there, since it is adaptive to
    it alone; and on what each kept in its battery (adaptive to each).
    """
    from scipy.stats import false_discovery_control

    on = {
        CLEAN: {name: by_set[CLEAN] for name, by_set in right.items()},
        target: {name: by_set[target] for name, by_set in right.items() if name != target},
        BATTERY: survivors,
    }
    found = [
        {"on": data, "first": first, "second": second} | mcnemar(kept[first], kept[second])
        for data, kept in on.items()
        for first, second in combinations(kept, 2)
    ]
    adjusted = false_discovery_control([one["p"] for one in found])
    for one, p in zip(found, adjusted.tolist(), strict=True):
        yield {**one, "p_adjusted": p}


def distortion_ratios(
    params: Params, sets: Mapping[str, AdversarialSet], patients: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    """The median L2 that EAD needs on each hardened model over what it needs on attack.target, on
    the images where it succeeded on both; with intervals over patients."""
    base = _successes(sets[params.attack.target])
    ratios = {}
    for name in params.hardened():
        own = _successes(sets[name]) if name in sets else {}
        both = sorted(own.keys() & base.keys())
        if both:
            ratios[name] = median_ratio(
                np.array([own[row] for row in both]),
                np.array([base[row] for row in both]),
                [patients[row] for row in both],
                params.evaluate.confidence_level,
            )
    return ratios


def _successes(found: AdversarialSet) -> dict[int, float]:
    """L2 by row of the split."""
    rows, success, l2 = (found.records[name] for name in ("row", "success", "l2"))
    return dict(zip(rows[success].tolist(), l2[success].tolist(), strict=True))


def pgd_accuracies(
    params: Params, network: OCTClassifier, images: ImageSet, budgets: Sequence[float]
) -> list[float]:
    """Accuracy under PGD made on the network, within each L2 budget: on so many images as the
    battery takes, with its steps and restarts, in the first of its channels."""
    battery = params.evaluate.battery
    rows = spread_rows(images, battery.images_per_class)
    device = next(network.parameters()).device
    views, right = Views(network), np.zeros(len(budgets), dtype=np.int64)
    for block in blocks(len(rows)):
        x, y = as_tensors(images, rows[block], battery.channels[0], device)
        for number, budget in enumerate(budgets):
            attack = Pgd(views, "L2", budget, battery.steps, battery.restarts, battery.seed)
            right[number] += (predict(network, attack(x, y)) == images.targets[rows[block]]).sum()
    return (right / len(rows)).tolist()  # type: ignore[no-any-return]


def flags(
    params: Params,
    right: Right,
    rows: Rows,
    predicted: Mapping[str, NDArray[np.int64]],
    patients: Sequence[str],
    survivors: Mapping[str, NDArray[np.bool_]],
    attacked: NDArray[np.int64],
) -> Iterator[Flag]:
    """Those that need more than one model's battery.

    Args:
        right, rows: of the test sets, the clean one and by the model each was made on.
        predicted: (N,) classes given to the clean test images.
        survivors, attacked: what the battery left of each model's, see `survivors_of`.
    """
    for name in params.hardened():
        yield constant_flag(name, predicted[name])
    target = params.attack.target
    for control in params.controls()[:1]:
        for name in params.hardened():
            if name != control:
                what = f"EAD made on {target} (static)"
                own, other = right[name][target], right[control][target]
                yield _against(params, name, what, own, other, patients, rows[target])
        if control in survivors:
            budget = middle(params.evaluate.battery.l2)
            what = f"worst of the battery within L2 {budget:g} (adaptive)"
            for name, own in survivors.items():
                if name in params.hardened() and name != control:
                    yield _against(params, name, what, own, survivors[control], patients, attacked)


def survivors_of(
    params: Params, right: Right, batteries: Path
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.bool_]]]:
    """What no attack of the battery turned within its middle L2 budget, in the first of its
    channels.

    Args:
        batteries: folder of the battery's records, MODEL.csv.

    Returns:
        Rows of the test split (N,), the same for every model; by model (N,) bool.
    """
    settings = params.evaluate.battery
    rows, kept = np.empty(0, dtype=np.int64), {}
    for name in settings.models:
        rows, found = read_records(batteries / f"{name}.csv", settings.channels[0])
        least = smallest(found, "l2", right[name][CLEAN][rows])
        kept[name] = robust_within(least, middle(settings.l2))
    return rows, kept


def _against(
    params: Params,
    name: str,
    what: str,
    own: NDArray[np.bool_],
    other: NDArray[np.bool_],
    patients: Sequence[str],
    rows: NDArray[np.int64],
) -> Flag:
    clusters = [patients[int(row)] for row in rows]
    level = params.evaluate.confidence_level
    interval = difference_interval(own, other, clusters, level)
    return control_flag(name, what, float(own.mean() - other.mean()), *interval)
