"""A fit's unfinished state on disk, written whole, read without running anything in it."""

from __future__ import annotations

import errno
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from tqdm import tqdm

from octrobust.errors import UserError
from octrobust.files import atomic_path
from octrobust.model.torch_file import read_torch

# Which of its errors are the disk's, by what they mention.
_OF_THE_DISK = ("PytorchStreamWriter", "inline_container", "iostream")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch's writer hides what the disk said
            if not any(said in str(error) for said in _OF_THE_DISK):
                raise
            raise OSError(errno.EIO, "cannot be written; is the disk full?", str(path)) from error


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state at `path`, or None where there is none that can be read."""
    if not path.exists():
        return None
    try:
        _check(path)
        state: dict[str, Any] = read_torch(path)
    except UserError as error:
        tqdm.write(f"checkpoint cannot be used, starting over: {error}")
        return None
    tqdm.write(f"resuming after epoch {len(state['history'])}")
    return state


def _check(path: Path) -> None:
    """torch writes a checksum of every tensor, and does not look at it."""
    try:
        with ZipFile(path) as parts:
            damaged = parts.testzip()
    except (BadZipFile, EOFError, zlib.error) as error:
        raise UserError(f"'{path}' is damaged ({error})") from None
    if damaged:
        raise UserError(f"'{path}' is damaged (the checksum of {damaged} is another)")
