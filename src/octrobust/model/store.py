"""Models on disk: safetensors for the weights, JSON for what made them. No pickle."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from octrobust.errors import UserError
from octrobust.files import atomic_folder, read_json, sha256_file, write_json
from octrobust.model.build import OCTClassifier, freeze_through

WEIGHTS = "model.safetensors"
CARD = "model.json"
NEEDED = {"standardisation", "dropout", "freeze_through", "weights_sha256"}  # of the card


def save_model(folder: Path, model: OCTClassifier, made_by: dict[str, Any]) -> None:
    """Write `folder` whole: the network's tensors and a JSON of what made them.

    The same model and `made_by` give the same bytes: no time stamps, no machine names.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.network.state_dict().items()}
    with atomic_folder(folder) as temporary:
        try:
            save_file(tensors, temporary / WEIGHTS)
        except SafetensorError as error:
            raise OSError(errno.EIO, f"cannot be written ({error})", str(folder)) from error
        card = {
            "architecture": "facenet_pytorch.InceptionResnetV1",
            "outputs": 2,
            "standardisation": model.standardisation,
            "dropout": model.network.get_submodule("dropout").p,
            "freeze_through": model.frozen[-1] if model.frozen else None,
            "weights_sha256": sha256_file(temporary / WEIGHTS),
            "made_by": made_by,
        }
        write_json(temporary / CARD, card)


def load_model(folder: Path, device: torch.device | str = "cpu") -> OCTClassifier:
    """The classifier saved in `folder`, in eval mode on `device`.

    Raises:
        UserError: the folder is missing, or its weights are not those that its card is of.
    """
    card = read_json(folder / CARD)
    if not isinstance(card, dict) or not card.keys() >= NEEDED:
        raise UserError(f"{folder / CARD} is no model's card: run the stage again")
    path = folder / WEIGHTS
    try:
        found = sha256_file(path)
        if found != card["weights_sha256"]:
            raise UserError(f"{path} is not the file of {CARD}, by its sha256: run the stage again")
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}): run the stage again"
        ) from None
    model = OCTClassifier(card["standardisation"], card["dropout"])
    try:
        model.network.load_state_dict(tensors)
    except RuntimeError:
        raise UserError(f"{path} is of another network: run the stage again") from None
    freeze_through(model, card["freeze_through"])
    return model.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
