"""Images that a person names, in the form in which the pipeline shows them to a network."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from octrobust.data.arrays import MODES_8, MODES_16, ImageSet, decode, stored_side, to_grey
from octrobust.errors import UserError

# Pillow hands these to another program.
NOT_OPENED = {"EPS", "WMF"}


def read_views(paths: Sequence[Path], image_size: int) -> NDArray[np.float32]:
    """Evaluation views (N, 1, S, S) float32 in [0, 1], as `prepare` and `ImageSet` make them.

    Raises:
        UserError: a file is missing, is no image, is not whole, or shows one grey only; it is the
            first of them, and all are looked at before anything else is done.
    """
    side = stored_side(image_size)
    pixels = np.empty((len(paths), side, side), np.uint8)
    for number, path in enumerate(tqdm(paths, "read", unit="image", leave=False, disable=None)):
        _check(path)
        pixels[number] = decode(path, side)
    none = ("",) * len(paths)
    unknown = np.zeros(len(paths), np.int64)
    given = ImageSet("given", pixels, unknown, none, none, tuple(map(str, paths)), image_size)
    return given.views(slice(None))


def _check(path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name its images, as {path}/*.png")
    Image.init()
    formats = sorted(set(Image.OPEN) - NOT_OPENED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=formats) as image:
                image.verify()  # PNG's checksums, which load() passes over
            with Image.open(path, formats=formats) as image:
                _check_content(path, image)
        except UnidentifiedImageError:
            raise UserError(
                f"{path} is no image that Pillow reads, or is damaged at its start: export it as "
                "PNG, TIFF or JPEG"
            ) from None
        except UserError:
            raise
        except Exception as error:  # damaged bytes make Pillow's readers raise nearly anything
            why = getattr(error, "strerror", None) or error
            raise UserError(f"{path} cannot be read as an image ({why})") from None


def _check_content(path: Path, image: Image.Image) -> None:
    """What `ingest` refuses, is refused here as well."""
    # A JPEG's further frames (MPO) are previews; others are scans that would be lost.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise UserError(f"{path} holds {frames} images: save the one that is meant by itself")
    image.load()
    if image.mode in (*MODES_8, *MODES_16) and len(set(to_grey(image).getextrema())) == 1:
        raise UserError(f"{path} is one and the same grey throughout")
