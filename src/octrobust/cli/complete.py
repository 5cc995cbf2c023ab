"""What the shell offers after a tab: nothing here may print, fail, or import anything heavy."""

from __future__ import annotations

from typing import Any

from octrobust.errors import UserError


def models(incomplete: str) -> list[str]:
    """Stored models of the project."""
    from octrobust.cli.base import project
    from octrobust.inspection.models import stored_models

    try:
        return [name for name in stored_models(project()) if name.startswith(incomplete)]
    except UserError:
        return []


def variants(incomplete: str) -> list[str]:
    """Of train.variants."""
    return [name for name in _parameters().get("train", {}).get("variants", {})
            if name.startswith(incomplete)]  # fmt: skip


def classes(incomplete: str) -> list[str]:
    """Of data.classes."""
    return [name for name in _parameters().get("data", {}).get("classes", [])
            if name.startswith(incomplete)]  # fmt: skip


def parameters(incomplete: str) -> list[tuple[str, str]]:
    """Parameters as `NAME=`, with the value that they have now."""
    from octrobust.experiments.grid import leaves

    return [
        (f"{name}=", f"now {value}")
        for name, value in leaves(_parameters())
        if name.startswith(incomplete) and not name.startswith("compute.")
    ]


def gpus(incomplete: str) -> list[str]:
    """Those that `octrobust plan` knows."""
    from octrobust.planning.devices import DEVICES

    return [name for name in DEVICES if name.lower().startswith(incomplete.lower())]


def _parameters() -> dict[str, Any]:
    from octrobust.cli.base import project
    from octrobust.files import read_yaml

    try:
        found = read_yaml(project() / "params.yaml")
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}
