"""Where things stand, and how they are written: whole or not at all."""

from __future__ import annotations

import csv
import errno
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import DTypeLike
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from octrobust.errors import UserError

MemoryMap = np.memmap[Any, np.dtype[Any]]
# Unfinished files and folders; .dvcignore keeps them out of every hash.
PARTIAL = ".partial-"
_TEMPORARY_EXPERIMENTS = (".dvc", "tmp", "exps")


def project_home(start: Path | None = None) -> Path:
    """The user's own checkout, also from inside a queued or temporary DVC experiment.

    DVC runs those in a copy under ``.dvc/tmp/exps/`` that it throws away afterwards, so the
    tracking store and scratch files are anchored at the checkout that owns that folder.
    """
    here = (start or Path.cwd()).resolve()
    parts = here.parts
    for i in range(len(parts) - 2):
        if parts[i : i + 3] == _TEMPORARY_EXPERIMENTS:
            return Path(*parts[:i])
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").exists():
            return folder
    return here


def user_path(text: str) -> Path:
    """A path from params.yaml: relative ones start at the user's own checkout, since a queued
    experiment runs in a copy elsewhere.

    Raises:
        UserError: ``~name`` of nobody here.
    """
    try:
        return project_home() / Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"'{text}': there is no such home folder") from None


def scratch(name: str) -> Path:
    """A folder for unfinished work, outside every DVC out (DVC deletes outs before a stage)."""
    folder = project_home() / ".octrobust" / "scratch" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def atomic_path(path: Path, *, of_many: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes `path`'s place only on success.

    Args:
        of_many: in a folder of so many files that to look there for what a kill left would take
            longer than to write one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not of_many:
        _remove_stale(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    temporary.chmod(0o644)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` for work that leads to it; gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path)))
    temporary.chmod(0o755)  # mkdtemp's 0o700 would shut others out of the results
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; it takes `path`'s place only on success.

    Raises:
        NotADirectoryError: at once, where `path` is a file.
    """
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_dir():  # somebody's file: not ours to remove
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    with partial_folder(path) as temporary:
        yield temporary
        _exchange(temporary, path)


def _exchange(new: Path, path: Path) -> None:
    """A kill finds the old folder, none, or the new one: never a part of one."""
    former = new.with_name(f"{new.name}.former")
    try:
        if path.exists():
            try:
                path.rename(former)
            except OSError:  # of another file system below this one, as in a container's image
                shutil.rmtree(path)
        new.replace(path)
    finally:
        if former.exists() and not path.exists():
            former.rename(path)
        shutil.rmtree(former, ignore_errors=True)


def _prefix(path: Path) -> str:
    """Of the unfinished form of `path`; it names the process that is at it, and where."""
    return f"{PARTIAL}{path.name}.{_host()}-{os.getpid()}."


def _host() -> str:
    """One word; containers on one machine, which number their processes anew, differ by it."""
    name = platform.node()
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]  # of long names only the ends may differ
    word = re.sub(r"\W", "_", name)[:24]
    return f"{word}_{mark}"


def _remove_stale(path: Path) -> None:
    """What a killed process of this host left of `path`'s unfinished forms."""
    beginning = f"{PARTIAL}{path.name}.{_host()}-"
    for stale in path.parent.glob(f"{glob.escape(beginning)}*"):
        owner = stale.name.removeprefix(beginning).partition(".")[0]
        with suppress(FileNotFoundError):  # its owner was quicker
            if owner.isdigit() and not _at_work(int(owner), stale.stat().st_mtime):
                shutil.rmtree(stale, ignore_errors=True) if stale.is_dir() else stale.unlink()


def _at_work(process: int, since: float) -> bool:
    """Whether it is alive, and no later one of the same number."""
    try:
        found = psutil.Process(process)
        return found.status() != psutil.STATUS_ZOMBIE and found.create_time() <= since + 1
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def new_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> MemoryMap:
    """A new .npy file as a memory map to be filled. Its space is taken at once: a page that finds
    the disk full later would end the process without a word (SIGBUS)."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write sorted, indented JSON; NaN and infinity are refused, since no reader agrees on them."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises a `UserError` where the file is missing or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run `dvc repro` first") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): run `dvc repro`") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): delete it and run again") from None


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, str]]:
    """The rows of a table with a header.

    Args:
        columns: what the header must be; None: anything.

    Raises:
        UserError: the file is missing, damaged, or another table.
    """
    return list(rows_of(path, columns))


def rows_of(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, str]]:
    """The same, a row at a time: a long table's rows take some kilobytes each."""
    try:
        with path.open(newline="", encoding="utf-8") as source:
            reader = csv.DictReader(source, strict=True)
            _check_header(path, reader.fieldnames, columns)
            for number, row in enumerate(reader, 1):
                if None in row or None in row.values():
                    raise UserError(
                        f"{path} is damaged: row {number} has not the header's columns: "
                        "run `dvc repro`"
                    )
                yield row
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run `dvc repro` first") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): run `dvc repro`") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a table ({error}): run `dvc repro`") from None


def _check_header(path: Path, found: Sequence[str] | None, columns: Sequence[str] | None) -> None:
    if not found or (columns is not None and tuple(found) != tuple(columns)):
        needs = f"the columns {', '.join(columns)}" if columns else "a line with its columns"
        raise UserError(f"{path} is another table: it needs {needs}: run `dvc repro`")


def read_yaml(path: Path) -> Any:
    """A YAML file's content, as DVC reads it: YAML 1.2, in which ``1e-3`` is a number and ``no`` a
    string, and with no key twice.

    Raises:
        UserError: the file is missing or is no such YAML.
    """
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run from the project's root") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{path} is not valid YAML: {where}{error.problem}") from None
    except Exception as error:  # for a tag that does not fit its value, whatever comes up
        raise UserError(f"{path} is not valid YAML: {error or type(error).__name__}") from None


def sha256_file(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def digest(*parts: Any) -> str:
    """A short key of everything that determines a result (JSON-able values, bytes or paths).

    Raises:
        UserError: a path is missing.
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            try:
                total.update(sha256_file(part).encode())
            except FileNotFoundError:
                raise UserError(f"{part} does not exist: run `dvc repro` first") from None
        elif isinstance(part, bytes):
            total.update(part)
        else:
            total.update(json.dumps(part, sort_keys=True, default=str).encode())
        total.update(b"\0")
    return total.hexdigest()[:16]


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file; on another file system a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
