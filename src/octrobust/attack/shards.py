"""Adversarial sets on disk: compressed lossless shards with a record an image.

A shard appears whole or not at all; an unfinished set goes on at its next shard. What is
recorded is computed from the images as stored. Every file that is read has its sha256 beside it
or in the manifest.
"""

from __future__ import annotations

import time
import zipfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from octrobust.attack import distances
from octrobust.attack.elastic_net import ElasticNet
from octrobust.attack.in_flight import per_image
from octrobust.distributed.group import barrier, dealt, gather
from octrobust.distributed.place import is_first
from octrobust.errors import UserError
from octrobust.files import (
    atomic_folder,
    atomic_path,
    link_or_copy,
    new_array,
    read_json,
    rows_of,
    sha256_file,
    write_csv,
    write_json,
)
from octrobust.model.predict import predict

Array = NDArray[Any]

FLAGS = ("already_misclassified", "success", "success_8bit")
COLUMNS = (
    *("row", "target", "already_misclassified", "prediction_before", "prediction_after"),
    *("success", "success_8bit", *distances.NAMES, "const", "iterations"),
)


MANIFEST = {"shard_size", "shape", "shards", "records_sha256", "made_by"}
_AGAIN = "delete its folder and run `dvc repro`"


@dataclass(frozen=True)
class AdversarialSet:
    """A stored set.

    Attributes:
        records: column of records.csv to (N,) array; flags are bool, row, target and predictions
            int64, distances and const float64 with NaN where there is no success.
        manifest: attack parameters, shard names with their sha256.
    """

    folder: Path
    records: dict[str, Array]
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return len(self.records["row"])

    def load(self, positions: Sequence[int] | Array) -> NDArray[np.float32]:
        """Images at `positions` in the records, (n, C, S, S) float32 in [0, 1]."""
        wanted = np.asarray(positions, dtype=np.int64)
        size = self.manifest["shard_size"]
        images = np.empty((len(wanted), *self.manifest["shape"]), np.float32)
        for number in np.unique(wanted // size):
            here = wanted // size == number
            images[here] = self.shard(int(number))[wanted[here] % size]
        return images

    def shard(self, number: int) -> NDArray[np.float32]:
        """All images of one shard; a `UserError` where it is not the file that was stored."""
        shard = self.manifest["shards"][number]
        path = self.folder / shard["name"]
        _check_sha256(path, shard["sha256"])
        return read_shard(path)["x_adv"]

    def unpack(self, path: Path) -> NDArray[np.float32]:
        """All images as one memory map at `path`, for random access in training; of several
        ranks, the first writes it."""
        if is_first():
            self._write_whole(path)
        barrier()
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]

    def _write_whole(self, path: Path) -> None:
        shape = (len(self), *self.manifest["shape"])
        with atomic_path(path) as temporary:
            whole = new_array(temporary, np.float32, shape)
            for number in range(len(self.manifest["shards"])):
                start = number * self.manifest["shard_size"]
                images = self.shard(number)
                whole[start : start + len(images)] = images
            whole.flush()


def open_adversarial(folder: Path) -> AdversarialSet:
    """The set in `folder`, as `craft` left it.

    Raises:
        UserError: the manifest or the records are missing, or are not those that were stored.
    """
    path, manifest = folder / "records.csv", read_json(folder / "manifest.json")
    if not isinstance(manifest, dict) or not manifest.keys() >= MANIFEST:
        raise UserError(f"{folder / 'manifest.json'} is no adversarial set's: {_AGAIN}")
    _check_sha256(path, manifest["records_sha256"])
    columns: dict[str, array[Any]] = {name: array(_typecode(name)) for name in COLUMNS}
    for row in rows_of(path, COLUMNS):
        for column, values in columns.items():
            values.append(_number(column, row[column]))
    records: dict[str, Array] = {name: np.array(values) for name, values in columns.items()}
    records |= {name: records[name].astype(bool) for name in FLAGS}
    return AdversarialSet(folder, records, manifest)


def _typecode(column: str) -> str:
    """Of `array`: flags, distances and const, or whole numbers."""
    if column in FLAGS:
        return "b"
    return "d" if column in (*distances.NAMES, "const") else "q"


def _number(column: str, text: str) -> float | int:
    return float(text or "nan") if _typecode(column) == "d" else int(text)


@dataclass(frozen=True)
class Clean:
    """Images to attack: `views` gives rows as (n, 1, S, S) float32 in [0, 1]; targets (N,)."""

    views: Callable[[Array], NDArray[np.float32]]
    targets: NDArray[np.int64]
    rows: NDArray[np.int64]  # which of them, in this order


def craft(
    attack: ElasticNet,
    clean: Clean,
    *,
    channels: str,
    shard_size: int,
    unfinished: Path,
    out: Path,
    made_by: dict[str, Any],
    label: str = "attack",
) -> AdversarialSet:
    """Attack `clean` shard by shard and leave the set in `out`, whole.

    Ranks of a stage take unfinished shards in turn, and the first puts them together: the bytes do
    not depend on how many there are, or were before a kill.

    Args:
        channels: grey (one perturbation for all inputs, C = 1) or rgb (C = 3).
        shard_size: images a file; the images do not depend on it.
        unfinished: folder where finished shards wait; the caller keys it by everything that
            determines them, so that a killed run goes on here. The caller removes it.
        made_by: written to the manifest.
    """
    unfinished.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(clean.rows), shard_size)
    rows = [clean.rows[start : start + shard_size] for start in starts]
    paths = [unfinished / f"shard-{number:05d}.npz" for number in range(len(rows))]
    missing = _missing(paths, rows)
    own = dealt(missing)
    finished = len(clean.rows) - sum(len(rows[number]) for number in missing)
    total = finished + sum(len(rows[number]) for number in own)
    # Counted in fractions of an image, one an iteration, and shown as whole ones.
    shown = "{l_bar}{bar}| {n:.0f}/{total} images [{elapsed}<{remaining}]"
    with tqdm(total=total, initial=finished, desc=label, bar_format=shown) as bar:
        for number in own:
            path, started = paths[number], time.perf_counter()
            _write_shard(path, _attack(attack, clean, rows[number], channels, bar))
            cost = {"seconds": time.perf_counter() - started, **asdict(attack.spent)}
            note = {"sha256": sha256_file(path), "cost": cost}
            write_json(path.with_suffix(".json"), note)
            finished += len(rows[number])
            bar.n = float(finished)
            bar.refresh()
    barrier()
    if is_first():
        _assemble(paths, shard_size, made_by, out)
    barrier()
    return open_adversarial(out)


def _missing(paths: Sequence[Path], rows: Sequence[Array]) -> list[int]:
    """The numbers of the unfinished shards, the same on every rank."""
    numbers = dealt(range(len(paths)))
    own = [number for number in numbers if not _is_finished(paths[number], rows[number])]
    return sorted(number for part in gather(own) for number in part)


def crafting_cost(unfinished: Path) -> dict[str, float]:
    """What all shards took, over every resumed part: wall-clock ``seconds`` of each, added up
    (those of several ranks passed at the same time), and images passed through a network
    (``gradients``, ``screens``, ``verdicts``; see `octrobust.attack.speed`)."""
    costs = [read_json(path)["cost"] for path in unfinished.glob("shard-*.json")]
    names = ("seconds", "gradients", "screens", "verdicts")
    return {name: sum(cost[name] for cost in costs) for name in names}


def _attack(
    attack: ElasticNet, clean: Clean, rows: Array, channels: str, bar: tqdm[Any]
) -> dict[str, Array]:
    x = torch.from_numpy(clean.views(rows))
    if channels == "rgb":
        x = x.expand(-1, 3, -1, -1).contiguous()
    y = torch.from_numpy(clean.targets[rows])

    def advance(iterations: int) -> None:
        bar.update(iterations / (attack.binary_search_steps * attack.max_iter))

    result = attack.run(x, y, progress=advance)
    # With a confidence the attack goes on with images that are wrong already.
    stored = torch.where(per_image(result.already), x, result.x_adv).contiguous()
    before = predict(attack.model, x)
    after = predict(attack.model, stored)
    rounded = predict(attack.model, (stored * 255).round() / 255)
    already = before != clean.targets[rows]
    success = ~already & (after != clean.targets[rows])
    return {
        "x_adv": stored.numpy(),
        "row": rows,
        "target": clean.targets[rows],
        "already_misclassified": already,
        "prediction_before": before,
        "prediction_after": after,
        "success": success,
        "success_8bit": success & (rounded != clean.targets[rows]),
        **{
            name: distances.measure(name, x, stored, attack.beta).numpy()
            for name in distances.NAMES
        },
        "const": result.const.numpy(),
        "iterations": result.iterations.numpy(),
    }


def _write_shard(path: Path, arrays: dict[str, Array]) -> None:
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def read_shard(path: Path) -> dict[str, Array]:
    """The arrays of one shard.

    Raises:
        UserError: the file is missing or damaged (every array carries a checksum).
    """
    try:
        with np.load(path, allow_pickle=False) as shard:
            return {name: shard[name] for name in shard.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}): {_AGAIN}") from None


def _check_sha256(path: Path, expected: str) -> None:
    try:
        found = sha256_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {_AGAIN}") from None
    if found != expected:
        raise UserError(f"{path} is not the file that was stored, by its sha256: {_AGAIN}")


def _is_finished(path: Path, rows: Array) -> bool:
    """Whether the shard is the one that was noted as finished."""
    try:
        _check_sha256(path, read_json(path.with_suffix(".json"))["sha256"])
        return np.array_equal(read_shard(path)["row"], rows)
    except (UserError, KeyError, TypeError):
        return False


def _assemble(sources: Sequence[Path], shard_size: int, made_by: dict[str, Any], out: Path) -> None:
    for folder in {path.parent for path in sources}:
        list(folder.iterdir())  # on NFS: what other machines wrote there is seen from now on
    with atomic_folder(out) as temporary:
        shards, shape = [], (0, 0, 0)
        for source in sources:
            target = temporary / source.name
            link_or_copy(source, target)
            shape = read_shard(target)["x_adv"].shape[1:]
            shards.append({"name": target.name, "sha256": sha256_file(target)})
        records = temporary / "records.csv"
        write_csv(records, _records(temporary, shards), COLUMNS)
        write_json(
            temporary / "manifest.json",
            {
                "shard_size": shard_size,
                "shape": shape,
                "shards": shards,
                "records_sha256": sha256_file(records),
                "made_by": made_by,
            },
        )


def _records(folder: Path, shards: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        arrays = read_shard(folder / shard["name"])
        for i in range(len(arrays["row"])):
            row = {name: arrays[name][i] for name in COLUMNS}
            for name in FLAGS:
                row[name] = int(row[name])
            for name in (*distances.NAMES, "const"):
                row[name] = f"{float(row[name]):.9g}" if row["success"] else ""
            yield row
