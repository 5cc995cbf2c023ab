"""Wheel and sdist: all of the package, its types among it, and nothing else."""

from __future__ import annotations

from pathlib import Path

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from scripts import dist
from tests.conftest import ROOT


def test_they_hold_what_they_should(tmp_path: Path) -> None:
    """The checks of `make dist` end with an error where they find one."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    dist.check_wheel(Path(wheel))
    (sdist,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    dist.check_sdist(Path(sdist))
