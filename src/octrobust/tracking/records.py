"""Run records: everything a tracking run will hold, as files in a spool."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from octrobust import files

Kind = Literal["stage", "summary"]
# A larger file is DVC's to keep; its name goes into the tag `octrobust.left_out`.
LARGEST_ARTIFACT = 32 * 2**20
_NOT_IN_A_NAME = re.compile(r"[^\w\-. :/]")


class Dataset(BaseModel):
    """A data-set version: `digest` is the md5 in dvc.lock, `path` relative to the project."""

    model_config = ConfigDict(frozen=True)

    name: str
    digest: str
    path: str


class Candidate(BaseModel):
    """An experiment's best defence, for the model registry.

    `robust_accuracy` is on validation images; `measured` names what else it depends on: only equal
    ones compare.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    name: str
    weights_sha256: str
    image_size: int
    classes: tuple[str, str]
    robust_accuracy: float
    measured: str


class Record(BaseModel):
    """One finished stage, ready to be logged; times in seconds since the epoch.

    `experiment` is the key that children and summary of one experiment share. `content` names the
    metrics file by path and bytes, so that `track` can tell what a store lacks. `curves` holds
    (name, step, value). `headline` is for the experiment's own run, with `params`, as soon as the
    stage has ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    stage: str
    kind: Kind
    experiment: str
    experiment_name: str
    content: str
    started: float
    finished: float
    params: dict[str, str]
    metrics: dict[str, float]
    headline: dict[str, float] = {}
    curves: list[tuple[str, int, float]]
    tags: dict[str, str]
    datasets: list[Dataset]
    best: Candidate | None = None


def spool(home: Path) -> Path:
    return home / ".octrobust" / "records"


def attachments(home: Path, record: Record) -> Path:
    """The folder of files to attach, laid out as in the project; it may not exist."""
    return spool(home) / record.id / "files"


def model_folder(home: Path, record: Record) -> Path:
    """The files of `record.best`."""
    return spool(home) / record.id / "model"


def write(
    home: Path,
    record: Record,
    attach: Mapping[Path, Path],
    project: Path = Path(),
) -> None:
    """Put `record` and copies of the files or folders in `attach` (source: relative target)
    into the spool, whole or not at all; the model of `project` that `record.best` names as well,
    without a copy where the disk allows it."""
    with files.atomic_folder(spool(home) / record.id) as folder:
        if record.best:
            (folder / "model").mkdir()
            for source in (project / "models" / record.best.name).iterdir():
                files.link_or_copy(source, folder / "model" / source.name)
        for source, target in attach.items():
            copy = folder / "files" / target
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy, dirs_exist_ok=True)
            else:
                shutil.copyfile(source, copy)
        files.write_text(folder / "record.json", record.model_dump_json())


def pending(home: Path) -> tuple[list[Record], list[str]]:
    """Records waiting in the spool, oldest first, and the names of those that cannot be read."""
    good, bad = [], []
    for path in spool(home).glob("[!.]*/record.json"):  # a dot marks one that is being written
        try:
            good.append(Record.model_validate_json(path.read_bytes()))
        except FileNotFoundError:  # another process has just logged it
            continue
        except (OSError, ValidationError):
            bad.append(path.parent.name)
    return sorted(good, key=lambda record: (record.started, record.id)), sorted(bad)


def pending_of(home: Path, experiment: str, stage: str) -> Iterator[Record]:
    """Those of one stage; quick, as every stage asks, and hundreds may wait."""
    named = (json.dumps(experiment).encode(), json.dumps(stage, ensure_ascii=False).encode())
    for path in spool(home).glob("[!.]*/record.json"):
        try:
            content = path.read_bytes()
            if all(name in content for name in named):
                record = Record.model_validate_json(content)
                if (record.experiment, record.stage) == (experiment, stage):
                    yield record
        except (OSError, ValidationError):  # logged meanwhile; a damaged one is `pending`'s to name
            continue


def remove(home: Path, record: Record) -> None:
    """Unless another was put in its place meanwhile, as by a stage that was killed and run again
    while a process of its first time was still logging."""
    folder = spool(home) / record.id
    if Record.model_validate_json((folder / "record.json").read_bytes()) != record:
        return
    # The record itself goes last: whoever is killed before that leaves one that is found again.
    for part in folder.iterdir():
        if part.is_dir():
            shutil.rmtree(part)
    shutil.rmtree(folder)


def too_large(path: Path) -> bool:
    parts = [path] if path.is_file() else (part for part in path.rglob("*") if part.is_file())
    return sum(part.stat().st_size for part in parts) > LARGEST_ARTIFACT


def content(path: Path, project: Path) -> str:
    """A metrics file's identity: its place in the project and its bytes."""
    return files.digest(relative(path, project).as_posix(), path)


def relative(path: Path, project: Path) -> Path:
    """`path` as seen from the project; from outside it, the bare name."""
    resolved = (project / path).resolve()
    root = project.resolve()
    return resolved.relative_to(root) if resolved.is_relative_to(root) else Path(resolved.name)


def params_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Nested parameters as dotted names; what is not a string is written as JSON."""
    return {
        _name(key): value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in _flat(values)
    }


def metrics_of(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of nested metrics as dotted names; booleans as 0 and 1."""
    return {
        _name(key): float(value)
        for key, value in _flat(values)
        if isinstance(value, (bool, int, float)) and math.isfinite(value)
    }


def curves_of(paths: Sequence[Path]) -> list[tuple[str, int, float]]:
    """Every finite number of the CSV files' columns as (name, step, value).

    The step is the column `epoch`, or the row's number where there is none. Names start with
    ``curves/`` so that a curve never mixes with a metric of the same name.
    """
    points = []
    for path in paths:
        prefix = "curves/" if len(paths) == 1 else f"curves/{path.stem}/"
        for number, row in enumerate(files.read_csv(path)):
            step = int(float(row.pop("epoch", number)))
            for column, cell in row.items():
                value = _number(cell)
                if value is not None:
                    points.append((_name(prefix + column), step, value))
    return points


def same_value(one: str, other: str) -> bool:
    """Of two parameters as `params_of` writes them: 1 and 1.0 are the same."""
    number = _number(one)
    return one == other or (number is not None and number == _number(other))


def _number(cell: str | None) -> float | None:
    try:
        value = float(cell or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _name(name: str) -> str:
    return _NOT_IN_A_NAME.sub("_", name)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
