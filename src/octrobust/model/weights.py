"""Where the network's first weights come from: facenet-pytorch's download, a file, or chance."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from octrobust.errors import UserError
from octrobust.files import sha256_file, user_path
from octrobust.model.torch_file import read_torch

PRETRAINED = ("vggface2", "casia-webface")


def load_weights(network: nn.Module, weights: str, parameter: str = "model.weights") -> None:
    """Fill `network` (an `InceptionResnetV1` with two outputs) from `weights`.

    Args:
        weights: ``vggface2`` or ``casia-webface`` (downloaded once to torch's cache), ``none``
            (left as initialised), or the path of a state dict (.safetensors, .pt, .pth). A last
            layer with another number of outputs stays as initialised.
        parameter: what named them, for messages.

    Raises:
        UserError: no network for a download; a missing, damaged, hostile or foreign file.
    """
    if weights == "none":
        return
    try:
        state = _pretrained(weights) if weights in PRETRAINED else _read(user_path(weights))
        _fill(network, weights, state)
    except UserError as error:
        raise UserError(f"{parameter}: {error}") from None


def _fill(network: nn.Module, weights: str, state: dict[str, Tensor]) -> None:
    own = network.state_dict()
    for key in ("logits.weight", "logits.bias"):
        if key in state and state[key].shape != own[key].shape:
            state[key] = own[key]
    for key in own:
        # Files saved before torch 0.4.1 lack these counters, which nothing here reads.
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, own[key])
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"'{weights}' does not fit Inception-ResNet-V1 ({reason[:200]})") from None


def weights_sha256(weights: str) -> str | None:
    """The checksum of a local weight file; None where `weights` names none."""
    if weights in (*PRETRAINED, "none"):
        return None
    path = user_path(weights)
    return sha256_file(path) if path.is_file() else None


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"'{path}' is no file and none of {', '.join(PRETRAINED)}, none")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else read_torch(path)
    except SafetensorError as error:
        raise UserError(f"'{path}' is damaged ({error})") from None
    except OSError as error:
        raise UserError(f"'{path}' cannot be read ({error.strerror})") from None
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise UserError(f"'{path}' is not a state dict (names to tensors)")
    for key, value in state.items():
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise UserError(f"'{path}': {key} is sparse, quantized or without values")
        if not value.isfinite().all():
            raise UserError(f"'{path}' has NaN or infinity in {key}")
    return dict(state)


def _pretrained(name: str) -> dict[str, Tensor]:
    from facenet_pytorch import InceptionResnetV1

    try:
        donor = InceptionResnetV1(pretrained=name, classify=True)
    except OSError as error:  # URLError and requests' errors are OSErrors
        raise UserError(
            f"'{name}' could not be downloaded ({type(error).__name__}); "
            "give a local .pt or .safetensors file instead, or 'none'"
        ) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(
            f"the cached download of '{name}' is damaged ({type(error).__name__}); "
            "delete it from torch's cache (TORCH_HOME/checkpoints) and run again"
        ) from None
    return dict(donor.state_dict())
