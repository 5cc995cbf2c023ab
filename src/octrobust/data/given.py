"""Images that a person names, in the form in which the pipeline shows them to a network."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from octrobust.data.arrays import MODES_8, MODES_16, formats, to_grey, view_of
from octrobust.errors import UserError


def read_views(paths: Sequence[Path], image_size: int) -> NDArray[np.float32]:
    """Evaluation views (N, 1, S, S) float32 in [0, 1] of image files.

    Raises:
        UserError: as `read_view`, of the first file that is bad.
    """
    bar = tqdm(paths, "read", unit="image", leave=False, disable=None)
    return np.stack([read_view(path, str(path), image_size) for path in bar])


def read_view(source: Path | BinaryIO, name: str, image_size: int) -> NDArray[np.float32]:
    """The evaluation view (1, S, S) float32 in [0, 1] of one image file, as a split would give it.

    Args:
        name: what errors call it.

    Raises:
        UserError: it is missing, is no image, is not whole, or shows one grey only.
    """
    if isinstance(source, Path):
        if not source.exists():
            raise UserError(f"{name} does not exist")
        if source.is_dir():
            raise UserError(f"{name} is a folder: name its images, as {name}/*.png")
    _check(source, name)
    return view_of(source, image_size)


def _check(source: Path | BinaryIO, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(source, formats=formats()) as image:
                image.verify()  # PNG's checksums, which load() passes over
            with Image.open(source, formats=formats()) as image:
                _check_content(name, image)
        except UnidentifiedImageError:
            raise UserError(
                f"{name} is no image that Pillow reads, or is damaged at its start: export it as "
                "PNG, TIFF or JPEG"
            ) from None
        except UserError:
            raise
        except Exception as error:  # damaged bytes make Pillow's readers raise nearly anything
            why = getattr(error, "strerror", None) or error
            raise UserError(f"{name} cannot be read as an image ({why})") from None


def _check_content(name: str, image: Image.Image) -> None:
    """What `ingest` refuses, is refused here as well."""
    # A JPEG's further frames (MPO) are previews; others are scans that would be lost.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise UserError(f"{name} holds {frames} images: save the one that is meant by itself")
    image.load()
    if image.mode in (*MODES_8, *MODES_16) and len(set(to_grey(image).getextrema())) == 1:
        raise UserError(f"{name} is one and the same grey throughout")
