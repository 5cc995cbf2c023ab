"""Where the numbers come from: data, code, versions, times and parameters."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

import octrobust
from octrobust.config import Params
from octrobust.files import sha256_file
from octrobust.machine import processor
from octrobust.report.results import Results
from octrobust.report.wording import duration

PACKAGES = ("torch", "torchvision", "facenet-pytorch", "numpy", "scikit-learn", "dvc", "mlflow")


def settings(params: Params) -> str:
    """Every parameter that determines a result, as YAML."""
    values: dict[str, Any] = params.model_dump(mode="json", exclude={"compute"})
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def origins(project: Path, results: Results, given: Mapping[str, str]) -> list[tuple[str, str]]:
    """Terms and their descriptions; `given` are further ones (git revision)."""
    index = Path("data/raw/index.csv")
    times = [
        *((f"training {name}", one["train_seconds"]) for name, one in results.train.items()),
        *((f"attack on {name}", one.get("seconds")) for name, one in results.attack.items()),
    ]
    spent = ", ".join(f"{what} {duration(s)}" for what, s in times if s is not None)
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return [
        ("Data", f"{index}, sha256 {sha256_file(project / index)}; it lists that of every image"),
        *given.items(),
        ("Times", spent),
        ("Written", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, on {processor()}"),
        ("octrobust", octrobust.__version__),
        ("Python", platform.python_version()),
        ("Packages", versions),
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
