"""Which image is train, validation, test or extra: seeded, exact counts, whole patients."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octrobust import config
from octrobust.data.index import IndexRow, read_index, write_index
from octrobust.errors import UserError
from octrobust.files import atomic_folder, write_json

Ints = NDArray[np.int64]

DEALS = 32  # seeded deals tried before the solver is asked
SOLVER_SECONDS = 60.0


def split(
    index: Path, settings: config.Split, classes: Sequence[str], out: Path, metrics: Path
) -> None:
    """Write ``out/{train,validation,test,extra}.csv`` (the index's columns, sorted by path).

    Counts are exact, per class. By patient, both labels of one patient go to the same split, all
    patients are dealt out in proportion to what the splits need, and a split that gets more
    images than it needs takes as evenly from its patients as can be. The result depends on the
    seed and the index's content alone. Numbers go to `metrics`, JSON.

    Raises:
        UserError: images or patients do not suffice, or images have no patient.
    """
    rows = sorted((row for row in read_index(index) if row.label in classes), key=_path)
    _check_images(rows, settings, classes)
    rng = np.random.default_rng(settings.seed)
    if settings.by == "patient":
        chosen = _by_patient(rows, settings, classes, rng)
    else:
        chosen = _by_image(rows, settings, classes, rng)
    with atomic_folder(out) as folder:
        for name in config.SPLITS:
            write_index(folder / f"{name}.csv", sorted(chosen[name], key=_path))
    write_json(metrics, _summary(rows, chosen, classes))


def _path(row: IndexRow) -> str:
    return row.path


def _by_image(
    rows: Sequence[IndexRow],
    settings: config.Split,
    classes: Sequence[str],
    rng: np.random.Generator,
) -> dict[str, list[IndexRow]]:
    """The paper's own practice: images dealt singly, so that a patient may be in several splits."""
    chosen: dict[str, list[IndexRow]] = {name: [] for name in config.SPLITS}
    for label in classes:
        mine = [row for row in rows if row.label == label]
        order = iter(rng.permutation(len(mine)))
        for name, need in settings.counts().items():
            chosen[name] += [mine[next(order)] for _ in range(need)]
    return chosen


def _by_patient(
    rows: Sequence[IndexRow],
    settings: config.Split,
    classes: Sequence[str],
    rng: np.random.Generator,
) -> dict[str, list[IndexRow]]:
    _check_patients(rows, settings, classes)
    images: dict[str, dict[str, list[IndexRow]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(rows, key=_scan_order):
        images[row.patient][row.label].append(row)
    patients = sorted(images)
    sizes = np.array([[len(images[p][label]) for label in classes] for p in patients])
    needs = {name: need for name, need in settings.counts().items() if need}

    owner = _assign(sizes, np.array(list(needs.values())), rng)
    if owner is None:
        raise UserError(
            f"split: whole patients cannot be given to the splits: {_have(rows, classes)}; "
            f"needed in each class: {_need(settings)}; ask for fewer images or set split.by: image"
        )
    chosen: dict[str, list[IndexRow]] = {name: [] for name in config.SPLITS}
    for number, (name, need) in enumerate(needs.items()):
        members = [patients[i] for i in np.flatnonzero(owner == number)]
        for label in classes:
            chosen[name] += _thin([images[p][label] for p in members], need, rng)
    return chosen


def _scan_order(row: IndexRow) -> tuple[int, str]:
    """Neighbouring scans of a patient stand side by side: 2 before 10."""
    return (int(row.image) if row.image.isdecimal() else 0, row.path)


def _assign(sizes: Ints, needs: Ints, rng: np.random.Generator) -> Ints | None:
    """A split for every patient that covers every need, or None if there is none.

    sizes: (patients, classes) images; needs: (splits,) images per class; returns (patients,)
    numbers of splits. The first of some seeded deals that covers is taken; tight cases, which
    deals miss, go to an exact solver.
    """
    # A patient counts for what it would give if all splits were one, so that no split is filled
    # by one patient with a hundred scans.
    limits = [max(_level(held, needs.sum()), 1) for held in sizes.T]
    useful = np.minimum(sizes, limits)
    # Strata by doublings of the size, large first: every split gets large and small patients
    # alike, and the small ones even out the counts at the end.
    stratum = -np.floor(np.log2(useful.sum(axis=1)))
    for _ in range(DEALS):
        owner = _deal(useful, needs, np.lexsort((rng.random(len(sizes)), stratum)))
        held = np.array([sizes[owner == number].sum(axis=0) for number in range(len(needs))])
        if (held >= needs[:, None]).all():
            return owner
    return _solve(sizes, needs, rng)


def _deal(sizes: Ints, needs: Ints, order: Ints) -> Ints:
    """Give each patient, in order, to the split furthest behind its share of what was dealt."""
    share = (needs / needs.sum())[:, None]
    weight = sizes / sizes.sum(axis=0)  # a patient with both labels counts in both
    dealt = np.zeros(sizes.shape[1])
    held = np.zeros((len(needs), sizes.shape[1]))
    owner = np.empty(len(sizes), np.int64)
    for patient in order:
        dealt += sizes[patient]
        owner[patient] = np.argmax((share * dealt - held) @ weight[patient])
        held[owner[patient]] += sizes[patient]
    return owner


def _solve(sizes: Ints, needs: Ints, rng: np.random.Generator) -> Ints | None:
    """The same question as an integer programme: exact, so a tight case is found or refuted."""
    from scipy.optimize import LinearConstraint, milp
    from scipy.sparse import eye_array, kron

    patients, splits = len(sizes), len(needs)
    once = kron(eye_array(patients), np.ones((1, splits)), format="csr")
    cover = kron(sizes.T, eye_array(splits), format="csr")
    result = milp(
        rng.random(patients * splits),  # any solution will do: a random cost makes it seeded
        integrality=np.ones(patients * splits),
        bounds=(0, 1),
        constraints=[
            LinearConstraint(once, 1, 1),
            LinearConstraint(cover, np.tile(needs, sizes.shape[1]), np.inf),
        ],
        options={"mip_rel_gap": 1.0, "time_limit": SOLVER_SECONDS},
    )
    if result.x is None:
        return None
    owner: Ints = np.asarray(result.x).reshape(patients, splits).argmax(axis=1)
    return owner


def _level(available: Ints, need: int) -> int:
    """The most that each may give at most without exceeding `need` together."""
    limits = range(int(available.max()) + 1)
    return bisect_right(limits, need, key=lambda most: np.minimum(available, most).sum()) - 1


def _thin(
    groups: Sequence[Sequence[IndexRow]], need: int, rng: np.random.Generator
) -> list[IndexRow]:
    """Take `need` images as evenly from all groups as can be, spread over each one's scans."""
    available = np.array([len(group) for group in groups])
    level = _level(available, need)
    take = np.minimum(available, level)
    more = rng.permutation(np.flatnonzero(available > level))
    take[more[: need - take.sum()]] += 1
    chosen = []
    for group, count in zip(groups, take, strict=True):
        # Evenly spaced from a random start, as neighbouring scans are near duplicates.
        start = rng.integers(len(group)) if group else 0
        chosen += [group[(start + i * len(group)) // count] for i in range(count)]
    return chosen


def _check_images(rows: Sequence[IndexRow], settings: config.Split, classes: Sequence[str]) -> None:
    total = sum(settings.counts().values())
    if any(sum(row.label == label for row in rows) < total for label in classes):
        raise UserError(
            f"split: too few images: {_have(rows, classes)}; needed in each class: "
            f"{_need(settings)}; lower the split's counts in params.yaml or add images"
        )


def _check_patients(
    rows: Sequence[IndexRow], settings: config.Split, classes: Sequence[str]
) -> None:
    unknown = [row.path for row in rows if not row.patient]
    if unknown:
        raise UserError(
            f"split: {len(unknown)} of {len(rows)} images have no patient ({unknown[0]}"
            f"{', ...' if len(unknown) > 1 else ''}): name files CLASS-PATIENT-N.ext "
            "or set split.by: image"
        )
    splits = sum(need > 0 for need in settings.counts().values())
    if any(len(_patients(rows, label)) < splits for label in classes):
        raise UserError(
            f"split: too few patients: {_have(rows, classes)}; needed in each class: one patient "
            f"at least for each of {splits} splits; add patients or set split.by: image"
        )


def _patients(rows: Sequence[IndexRow], label: str | None = None) -> set[str]:
    return {row.patient for row in rows if row.patient and label in (None, row.label)}


def _have(rows: Sequence[IndexRow], classes: Sequence[str]) -> str:
    each = (
        f"{label} {sum(row.label == label for row in rows)} images of "
        f"{len(_patients(rows, label))} patients"
        for label in classes
    )
    return "available: " + ", ".join(each)


def _need(settings: config.Split) -> str:
    counts = settings.counts()
    parts = ", ".join(f"{name} {need}" for name, need in counts.items() if need)
    return f"{sum(counts.values())} images ({parts})"


def _summary(
    rows: Sequence[IndexRow], chosen: Mapping[str, Sequence[IndexRow]], classes: Sequence[str]
) -> dict[str, Any]:
    used = [row for name in chosen for row in chosen[name]]
    homes: dict[str, set[str]] = defaultdict(set)
    for name, mine in chosen.items():
        for patient in _patients(mine):
            homes[patient].add(name)
    summary: dict[str, Any] = {name: _counts(mine, classes) for name, mine in chosen.items()}
    summary["unused"] = {
        "images": len(rows) - len(used),
        "patients": len(_patients(rows) - _patients(used)),
    }
    summary["patients_in_two_splits"] = sum(len(names) > 1 for names in homes.values())
    return summary


def _counts(rows: Sequence[IndexRow], classes: Sequence[str]) -> dict[str, Any]:
    per_class = {
        label: {
            "images": sum(row.label == label for row in rows),
            "patients": len(_patients(rows, label)),
        }
        for label in classes
    }
    return {"images": len(rows), "patients": len(_patients(rows)), "classes": per_class}
