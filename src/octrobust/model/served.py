"""A stored model behind MLflow's `pyfunc`: images in, probabilities out, and no pickle of code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from octrobust.model.build import OCTClassifier
from octrobust.model.predict import probabilities
from octrobust.model.store import load_model


class Served:
    """What `mlflow.pyfunc.load_model` returns calls this."""

    def __init__(self, model: OCTClassifier) -> None:
        self._model = model

    def predict(self, images: NDArray[Any], params: dict[str, Any] | None = None) -> Any:  # noqa: ARG002
        """Probabilities (N, 2) float32 of (N, 1 or 3, S, S) images in [0, 1].

        Raises:
            ValueError: another shape, or pixels outside [0, 1].
        """
        x = np.asarray(images, dtype=np.float32)
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ValueError(f"images of shape {x.shape}, where (N, 1 or 3, S, S) is needed")
        if not (x.min() >= 0 and x.max() <= 1):
            raise ValueError("pixels outside [0, 1]: divide 8-bit ones by 255")
        return probabilities(self._model, torch.from_numpy(np.ascontiguousarray(x)))


def _load_pyfunc(path: str) -> Served:
    """MLflow's own name for a loader; `path` is a model's folder as `save_model` wrote it."""
    return Served(load_model(Path(path)))
