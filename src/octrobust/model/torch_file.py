"""torch's own files, read without running anything in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from octrobust.errors import UserError


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote to `path`: tensors and plain values, on the CPU.

    Raises:
        UserError: the file is damaged, or holds anything else (nothing in it is run).
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # on damaged bytes torch's reader raises whatever comes up
        raise UserError(
            f"'{path}' is damaged or holds more than tensors; nothing in it was run "
            f"({type(error).__name__})"
        ) from None
