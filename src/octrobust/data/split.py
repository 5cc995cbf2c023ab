"""Which image is train, validation, test or extra: seeded, exact counts, whole patients."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octrobust import config
from octrobust.data.index import IndexRow, index_rows, write_index
from octrobust.errors import UserError
from octrobust.files import atomic_folder, write_json

Ints = NDArray[np.int64]

DEALS = 32  # seeded deals tried before the solver is asked
SOLVER_SECONDS = 60.0
_LARGEST = 2**62  # of a scan's number; names may have longer ones


@dataclass(frozen=True, eq=False)
class _Images:
    """The index's N images of the classes, in order of their paths, without their rows.

    Attributes:
        index: the file; in_order: whether its rows are in that order.
        place: (N,) which row of these classes it is, as the file has them.
        label: (N,) place in `classes`. patient: (N,) place in `patients`, which are in order.
        scan: (N,) its number among the patient's scans, 0 where unknown.
    """

    index: Path
    classes: Sequence[str]
    in_order: bool
    place: Ints
    label: Ints
    patient: Ints
    scan: Ints
    patients: Sequence[str]

    def __len__(self) -> int:
        return len(self.label)

    def known(self, which: Any = slice(None)) -> int:
        """How many patients have images among `which`."""
        return sum(bool(self.patients[i]) for i in np.unique(self.patient[which]))

    def rows(self, chosen: Ints) -> Iterator[IndexRow]:
        """The rows of `chosen`, in order of their paths."""
        wanted = np.zeros(len(self), dtype=bool)
        wanted[self.place[chosen]] = True
        rows = (row for row, take in zip(self._all(), wanted, strict=True) if take)
        return rows if self.in_order else iter(sorted(rows, key=_path))

    def _all(self) -> Iterator[IndexRow]:
        return (row for row in index_rows(self.index) if row.label in self.classes)


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
    images = _read(index, classes)
    _check_images(images, settings)
    rng = np.random.default_rng(settings.seed)
    deal = _by_patient if settings.by == "patient" else _by_image
    chosen = deal(images, settings, rng)
    with atomic_folder(out) as folder:
        for name in config.SPLITS:
            write_index(folder / f"{name}.csv", images.rows(chosen[name]))
    write_json(metrics, _summary(images, chosen))


def _path(row: IndexRow) -> str:
    return row.path


def _read(index: Path, classes: Sequence[str]) -> _Images:
    """What dealing needs of every image: some bytes, where its row would take half a kilobyte."""
    label, patient, scan = array("q"), array("q"), array("q")
    names: dict[str, int] = {}
    in_order, last = True, ""
    for row in index_rows(index):
        if row.label not in classes:
            continue
        in_order, last = in_order and last <= row.path, row.path
        label.append(classes.index(row.label))
        patient.append(names.setdefault(row.patient, len(names)))
        scan.append(min(int(row.image), _LARGEST) if row.image.isdecimal() else 0)
    place = np.arange(len(label))
    if not in_order:
        paths = [row.path for row in index_rows(index) if row.label in classes]
        place = np.array(sorted(place.tolist(), key=paths.__getitem__))
    patients = sorted(names)
    rank = np.empty(len(names), dtype=np.int64)
    rank[[names[name] for name in patients]] = np.arange(len(names))
    parts = (np.array(label)[place], rank[np.array(patient)][place], np.array(scan)[place])
    return _Images(index, classes, in_order, place, *parts, patients)


def _by_image(images: _Images, settings: config.Split, rng: np.random.Generator) -> dict[str, Ints]:
    """The paper's own practice: images dealt singly, so that a patient may be in several splits."""
    chosen: dict[str, list[Ints]] = {name: [] for name in config.SPLITS}
    for label in range(len(images.classes)):
        mine = np.flatnonzero(images.label == label)
        mine, start = mine[rng.permutation(len(mine))], 0
        for name, need in settings.counts().items():
            chosen[name].append(mine[start : start + need])
            start += need
    return {name: np.concatenate(parts) for name, parts in chosen.items()}


def _by_patient(
    images: _Images, settings: config.Split, rng: np.random.Generator
) -> dict[str, Ints]:
    _check_patients(images, settings)
    classes = len(images.classes)
    # Images by patient, then label; neighbouring scans stand side by side: 2 before 10.
    group = images.patient * classes + images.label
    order = np.lexsort((images.scan, group))
    sizes = np.bincount(group, minlength=len(images.patients) * classes).reshape(-1, classes)
    first = (np.cumsum(sizes) - sizes.ravel()).reshape(sizes.shape)
    needs = {name: need for name, need in settings.counts().items() if need}

    owner = _assign(sizes, np.array(list(needs.values())), rng)
    if owner is None:
        raise UserError(
            f"split: whole patients cannot be given to the splits: {_have(images)}; "
            f"needed in each class: {_need(settings)}; ask for fewer images or set split.by: image"
        )
    chosen: dict[str, list[Ints]] = {name: [np.empty(0, np.int64)] for name in config.SPLITS}
    for number, (name, need) in enumerate(needs.items()):
        members = np.flatnonzero(owner == number)
        for label in range(classes):
            taken = _thin(sizes[members, label], need, rng)
            starts = first[members, label]
            chosen[name] += [order[start + some] for start, some in zip(starts, taken, strict=True)]
    return {name: np.concatenate(parts) for name, parts in chosen.items()}


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


def _thin(available: Ints, need: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Of groups of so many images, which to take: `need` in all, as evenly from all groups as can
    be, spread over each one's scans."""
    level = _level(available, need)
    take = np.minimum(available, level)
    more = rng.permutation(np.flatnonzero(available > level))
    take[more[: need - take.sum()]] += 1
    for size, count in zip(available, take, strict=True):
        # Evenly spaced from a random start, as neighbouring scans are near duplicates.
        start = rng.integers(size) if size else 0
        yield (start + np.arange(count) * size) // max(count, 1)


def _check_images(images: _Images, settings: config.Split) -> None:
    total = sum(settings.counts().values())
    if np.bincount(images.label, minlength=len(images.classes)).min() < total:
        raise UserError(
            f"split: too few images: {_have(images)}; needed in each class: "
            f"{_need(settings)}; lower the split's counts in params.yaml or add images"
        )


def _check_patients(images: _Images, settings: config.Split) -> None:
    unknown = np.flatnonzero(images.patient == 0) if images.patients[0] == "" else np.empty(0, int)
    if len(unknown):
        path = next(images.rows(unknown[:1])).path
        raise UserError(
            f"split: {len(unknown)} of {len(images)} images have no patient ({path}"
            f"{', ...' if len(unknown) > 1 else ''}): name files CLASS-PATIENT-N.ext "
            "or set split.by: image"
        )
    splits = sum(need > 0 for need in settings.counts().values())
    if any(images.known(images.label == label) < splits for label in range(len(images.classes))):
        raise UserError(
            f"split: too few patients: {_have(images)}; needed in each class: one patient "
            f"at least for each of {splits} splits; add patients or set split.by: image"
        )


def _have(images: _Images) -> str:
    each = (
        f"{name} {(mine := images.label == label).sum()} images of {images.known(mine)} patients"
        for label, name in enumerate(images.classes)
    )
    return "available: " + ", ".join(each)


def _need(settings: config.Split) -> str:
    counts = settings.counts()
    parts = ", ".join(f"{name} {need}" for name, need in counts.items() if need)
    return f"{sum(counts.values())} images ({parts})"


def _summary(images: _Images, chosen: Mapping[str, Ints]) -> dict[str, Any]:
    used = np.concatenate(list(chosen.values()))
    homes = np.zeros((len(images.patients), len(chosen)), dtype=bool)
    for number, mine in enumerate(chosen.values()):
        homes[images.patient[mine], number] = True
    named = np.array([bool(name) for name in images.patients])
    return {
        **{name: _counts(images, mine) for name, mine in chosen.items()},
        "unused": {
            "images": len(images) - len(used),
            "patients": int((named & ~homes.any(1)).sum()),
        },
        "patients_in_two_splits": int((named & (homes.sum(1) > 1)).sum()),
    }


def _counts(images: _Images, mine: Ints) -> dict[str, Any]:
    per_class = {}
    for label, name in enumerate(images.classes):
        of_class = mine[images.label[mine] == label]
        per_class[name] = {"images": len(of_class), "patients": images.known(of_class)}
    return {"images": len(mine), "patients": images.known(mine), "classes": per_class}
