"""Python and the packages."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import octrobust
from octrobust.doctor.finding import Finding

SET_UP = "run `make setup` in the clone"


def python() -> Iterator[Finding]:
    version, wanted = platform.python_version(), metadata.metadata("octrobust")["Requires-Python"]
    if SpecifierSet(wanted).contains(version, prereleases=True):
        yield Finding("python", "ok", f"{version} ({sys.prefix})")
    else:
        mend = "run `make PYTHON=python3.11 setup` (or newer)"
        yield Finding("python", "problem", f"{version}, where {wanted} is needed", mend)


def on_the_path() -> Iterator[Finding]:
    """DVC's stages are started as `python`, whichever that is."""
    found = shutil.which("python")
    if found and Path(found).parent.resolve() == Path(sys.executable).parent.resolve():
        yield Finding("environment", "ok", "activated")
        return
    own = Path(sys.prefix, "bin", "activate")
    mend = f"run `source {own}`, once in a terminal"
    what = f"`python` is {found or 'nothing'} here, and that is what `dvc repro` runs stages by"
    yield Finding("environment", "warning", what, mend)


def packages() -> Iterator[Finding]:
    """Against the ranges of pyproject.toml."""
    wanted = [Requirement(text) for text in metadata.requires("octrobust") or []]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = 0
    for one in wanted:
        try:
            version = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            yield Finding(one.name, "problem", "is not installed", SET_UP)
        else:
            if one.specifier.contains(version, prereleases=True):
                continue
            what = f"{version}, where {one.specifier} is needed"
            yield Finding(one.name, "problem", what, SET_UP)
        wrong += 1
    if not wrong:
        version = octrobust.__version__
        yield Finding("packages", "ok", f"octrobust {version}; all {len(wanted)} in their ranges")


def torch_and_torchvision() -> Iterator[Finding]:
    """A pair that does not belong together fails at the import, or at the first operator."""
    versions = {name: metadata.version(name) for name in ("torch", "torchvision")}
    what = " and ".join(f"{name} {version}" for name, version in versions.items())
    for text in metadata.requires("torchvision") or []:
        one = Requirement(text)
        if one.name == "torch" and not one.specifier.contains(versions["torch"], prereleases=True):
            what = f"{what}, which needs torch {one.specifier}"
            yield Finding("torch", "problem", what, SET_UP)
            return
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:  # ImportError, RuntimeError: operator does not exist, OSError ...
        mend = f"{SET_UP}: both must be of one build (CUDA or CPU)"
        first = (str(error).splitlines() or [""])[0]
        yield Finding("torch", "problem", f"{what} do not work together ({first})", mend)
        return
    yield Finding("torch", "ok", what)


def which_code(root: Path) -> Iterator[Finding]:
    """Whether the code that runs is the checkout's own."""
    own, used = root / "src" / "octrobust", Path(octrobust.__file__).parent
    if own.is_dir() and own.resolve() != used.resolve():
        mend = f"activate this checkout's own environment (`make setup` makes {root / '.venv'})"
        what = f"of {used}, not of this checkout"
        yield Finding("code", "warning", what, mend)
    elif not os.access(root, os.W_OK):
        yield Finding("code", "problem", f"{root} cannot be written to", "change its owner")
