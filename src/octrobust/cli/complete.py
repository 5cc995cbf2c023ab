"""What the shell offers after a tab: nothing here may print, fail, or import anything heavy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from octrobust.errors import UserError


def models(incomplete: str) -> list[str]:
    """Stored models of the project."""
    from octrobust.cli.base import project
    from octrobust.inspection.models import stored_models

    try:
        return _beginning(incomplete, stored_models(project()))
    except UserError:
        return []


def variants(incomplete: str) -> list[str]:
    """Of train.variants."""
    return _beginning(incomplete, _parameters().get("train", {}).get("variants", {}))


def classes(incomplete: str) -> list[str]:
    """Of data.classes."""
    return _beginning(incomplete, _parameters().get("data", {}).get("classes", []))


def parameters(incomplete: str) -> list[str]:
    """Parameters with the value that they have now, to be gone on from."""
    from octrobust.experiments.grid import leaves, typed

    found = {name: value for name, value in leaves(_parameters()) if name[:8] != "compute."}
    return [f"{name}={typed(found[name])}" for name in _beginning(incomplete, found)]


def gpus(incomplete: str) -> list[str]:
    """Those that `octrobust plan` knows."""
    from octrobust.planning.devices import DEVICES

    return _beginning(incomplete, DEVICES)


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _parameters() -> dict[str, Any]:
    from octrobust.cli.base import project
    from octrobust.files import read_yaml

    try:
        found = read_yaml(project() / "params.yaml")
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}
