"""A stored model behind MLflow's `pyfunc`: image files in, probabilities out, no pickle of code."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from octrobust.data.given import read_view
from octrobust.errors import UserError
from octrobust.model.build import OCTClassifier
from octrobust.model.predict import probabilities
from octrobust.model.store import load_model

COLUMN = "image"  # of what is posted: whole PNG, JPEG or other image files, base64 in JSON


class Served:
    """What `mlflow.pyfunc.load_model` returns calls this."""

    def __init__(self, model: OCTClassifier, image_size: int, classes: tuple[str, str]) -> None:
        self._model, self._size, self._classes = model, image_size, list(classes)

    def predict(self, table: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Probabilities by class, a row an image file in the column `image` (bytes).

        Files are read as the pipeline reads them: grey, short side resized, centre square.

        Raises:
            ValueError: a file that is no image, or not whole; it is named by its row.
        """
        views = [self._view(row, file) for row, file in enumerate(table[COLUMN])]
        found = probabilities(self._model, torch.from_numpy(np.stack(views)))
        return pd.DataFrame(found, columns=self._classes)

    def _view(self, row: int, file: bytes) -> Any:
        try:
            return read_view(BytesIO(file), f"row {row} of '{COLUMN}'", self._size)
        except UserError as error:
            raise ValueError(str(error)) from None


def _load_pyfunc(path: str, model_config: Mapping[str, Any]) -> Served:
    """MLflow's own name for a loader; `path` is a model's folder as `save_model` wrote it."""
    first, second = model_config["classes"]
    return Served(load_model(Path(path)), int(model_config["image_size"]), (first, second))
