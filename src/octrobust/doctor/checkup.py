"""All checks, cheap ones first."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from octrobust import config
from octrobust.doctor import data, installation, machine, stores
from octrobust.doctor.finding import Check, Finding
from octrobust.errors import UserError


def checkup(root: Path | None, here: Path) -> dict[str, Check]:
    """What to look at, by name.

    Args:
        root: the project; None: there is none around `here`, and its checks are left out.
    """
    params = None
    if root:
        try:
            params = config.load(root / "params.yaml")
        except UserError:  # a finding of its own
            params = None
    checks: dict[str, Check] = {
        "python": installation.python,
        "environment": installation.on_the_path,
        "packages": installation.packages,
    }
    if root:
        checks |= {
            "code": partial(installation.which_code, root),
            "parameters": partial(data.parameters, root),
            "results": partial(data.results, root),
            "git": partial(stores.git, root),
            "MLflow": partial(stores.mlflow, root),
        }
    if params:
        checks |= {
            "images": partial(data.images, params),
            "weights": partial(data.weights, params),
        }
    checks["disk"] = partial(machine.disk, root or here)
    if root:
        checks["scratch"] = partial(machine.scratch, root)
        checks["DVC"] = partial(stores.dvc, root)
    checks["torch"] = installation.torch_and_torchvision
    checks["device"] = partial(machine.device, params.compute if params else None)
    if root is None:
        what = f"{here} is in no octrobust project: git, DVC, MLflow and data were not looked at"
        mend = "cd into your clone, and call it again"
        checks["project"] = lambda: [Finding("project", "warning", what, mend)]
    return checks
