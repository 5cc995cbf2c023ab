"""MLflow's model registry: the best defence of every experiment, the best of all by an alias."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from octrobust import __version__
from octrobust.tracking.records import Candidate

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

NAME = "octrobust"
ALIAS = "best"
_ABOUT = (
    "Retinal OCT classifiers of octrobust, hardened; a version is one experiment's best defence. "
    f"The alias {ALIAS} is at the one of highest robust accuracy on validation images among those "
    "measured as the newest was: same data, same split, same attack and budget. Not for clinical "
    "use."
)


def register(client: MlflowClient, run: Run, model: Candidate, folder: Path, card: str) -> None:
    """Make a version of the model in `folder`, once for its weights and how they were measured.

    Args:
        folder: weights and model.json, as `octrobust.model.store` writes them.
        card: Markdown, the version's description.
    """
    _ensure(client)
    run_id = run.info.run_id
    # The same model measured in the same way, in a report drawn anew, is no new version.
    known = [
        (one.tags.get("octrobust.weights"), one.tags.get("octrobust.measured"))
        for one in client.search_model_versions(f"name = '{NAME}'")
    ]
    if (model.weights_sha256, model.measured) not in known:
        place = f"model-{model.weights_sha256[:12]}"  # a run may have several, one after another
        with tempfile.TemporaryDirectory() as temporary:
            write_pyfunc(Path(temporary) / place, folder, model)
            client.log_artifacts(run_id, temporary)
        tags = {
            "octrobust.model": model.name,
            "octrobust.weights": model.weights_sha256,
            "octrobust.measured": model.measured,
            "octrobust.robust_accuracy": f"{model.robust_accuracy:.6g}",
        }
        source = f"{run.info.artifact_uri}/{place}"
        client.create_model_version(NAME, source, run_id, tags=tags, description=card)
    # Also where the version was there: a killed process may have left it without the alias.
    client.set_registered_model_alias(NAME, ALIAS, _best(client, model.measured))


def _ensure(client: MlflowClient) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(NAME, description=_ABOUT)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _best(client: MlflowClient, measured: str) -> str:
    """The version of highest robust accuracy among those measured so; of equals the newest."""
    alike = [
        one
        for one in client.search_model_versions(f"name = '{NAME}'")
        if one.tags.get("octrobust.measured") == measured
    ]
    best = max(alike, key=lambda o: (float(o.tags["octrobust.robust_accuracy"]), int(o.version)))
    return str(best.version)


def write_pyfunc(place: Path, folder: Path, model: Candidate) -> None:
    """As a `pyfunc` that loads through octrobust: no code, and no pickle, is stored.

    Its example is a synthetic scan: a patient's would be shown wherever the model goes.
    """
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models.signature import ModelSignature
    from mlflow.types import DataType
    from mlflow.types.schema import ColSpec, Schema

    from octrobust.model.served import COLUMN

    pyfunc.save_model(
        str(place),
        loader_module="octrobust.model.served",
        data_path=str(folder),
        model_config={"image_size": model.image_size, "classes": list(model.classes)},
        signature=ModelSignature(
            Schema([ColSpec(DataType.binary, COLUMN)]),
            Schema([ColSpec(DataType.float, label) for label in model.classes]),
        ),
        input_example=pd.DataFrame({COLUMN: [_synthetic_scan()]}),
        pip_requirements=[f"octrobust=={__version__}"],
        metadata={"not_for": "clinical use"},
    )


def _synthetic_scan() -> bytes:
    """A PNG file."""
    from io import BytesIO

    from PIL import Image

    from octrobust.data.phantom import scan

    file = BytesIO()
    Image.fromarray(scan("NORMAL", patient=1, number=1, seed=0)).save(file, "PNG")
    return file.getvalue()
