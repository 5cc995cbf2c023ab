"""MLflow's model registry: the best defence of every experiment, the best of all by an alias."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octrobust.tracking.records import Candidate

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

NAME = "octrobust"
ALIAS = "best"
PLACE = "model"  # among a run's artifacts
_ABOUT = (
    "Retinal OCT classifiers of octrobust, hardened; a version is one experiment's best defence. "
    f"The alias {ALIAS} is at the one of highest worst-case robust accuracy among those measured "
    "on the same data by the same battery within the same budget. Not for clinical use."
)


def register(client: MlflowClient, run: Run, model: Candidate, folder: Path, card: str) -> None:
    """Make a version of the model in `folder`, once a run and weights, with its card and tags.

    Args:
        folder: weights and model.json, as `octrobust.model.store` writes them.
        card: Markdown, the version's description.
    """
    _ensure(client)
    run_id = run.info.run_id
    versions = client.search_model_versions(f"name = '{NAME}'")
    own = [one for one in versions if one.run_id == run_id]
    if any(one.tags.get("octrobust.weights") == model.weights_sha256 for one in own):
        return
    with tempfile.TemporaryDirectory() as temporary:
        _save(Path(temporary) / PLACE, folder, model)
        client.log_artifacts(run_id, temporary)
    tags = {
        "octrobust.model": model.name,
        "octrobust.weights": model.weights_sha256,
        "octrobust.measured": model.measured,
        "octrobust.robust_accuracy": f"{model.robust_accuracy:.6g}",
    }
    source = f"{run.info.artifact_uri}/{PLACE}"
    made = client.create_model_version(NAME, source, run_id, tags=tags, description=card)
    if _is_best(client, model):
        client.set_registered_model_alias(NAME, ALIAS, made.version)


def _ensure(client: MlflowClient) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(NAME, description=_ABOUT)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _is_best(client: MlflowClient, model: Candidate) -> bool:
    """True where the holder of the alias was measured in another way, or is no better."""
    from mlflow.exceptions import MlflowException

    try:
        holder: Any = client.get_model_version_by_alias(NAME, ALIAS)
    except MlflowException:
        return True
    if holder.tags.get("octrobust.measured") != model.measured:
        return True
    return model.robust_accuracy >= float(holder.tags["octrobust.robust_accuracy"])


def _save(place: Path, folder: Path, model: Candidate) -> None:
    """As a `pyfunc` that loads through octrobust: no code, and no pickle, is stored."""
    import numpy as np
    from mlflow import pyfunc
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    side = model.image_size
    pyfunc.save_model(
        str(place),
        loader_module="octrobust.model.served",
        data_path=str(folder),
        signature=ModelSignature(
            Schema([TensorSpec(np.dtype(np.float32), (-1, 1, side, side))]),
            Schema([TensorSpec(np.dtype(np.float32), (-1, 2))]),
        ),
        pip_requirements=["octrobust"],
        metadata={"classes": list(model.classes), "not_for": "clinical use"},
    )
