"""Ways to turn a scan's file into the grey square that `prepare` stores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.implementations import peers
from octrobust.data.arrays import decode, to_grey

Decoder = Callable[[Path, int], NDArray[np.uint8]]  # a file and a side R to (R, R)
REFERENCE = "Pillow, as `prepare`"
PREPARE = "`prepare` itself, files written"


def _cv2() -> Any:
    with peers():
        import cv2

    cv2.setNumThreads(1)  # the threads are the pool's
    return cv2


def _geometry(width: int, height: int, side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size after resizing and corner of the square, as `decode` has them."""
    short = min(width, height)
    size = (int(side * width / short), int(side * height / short))
    return size, (round((size[0] - side) / 2), round((size[1] - side) / 2))


def _resized(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Pillow's antialiased resize, then the square."""
    image = Image.fromarray(pixels)
    size, (left, top) = _geometry(*image.size, side)
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR).crop(box))


def pillow_draft(path: Path, side: int) -> NDArray[np.uint8]:
    """Decoded at a half, quarter or eighth where that is still large enough."""
    with Image.open(path) as image:
        image.draft("L", (side, side))
        return _resized(np.asarray(to_grey(image)), side)


def torchvision_decoder(path: Path, side: int) -> NDArray[np.uint8]:
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2 import functional as F

    data = torch.from_numpy(np.fromfile(path, np.uint8))
    grey = decode_jpeg(data, mode=ImageReadMode.GRAY)
    size, (left, top) = _geometry(grey.shape[2], grey.shape[1], side)
    resized = F.resize(grey, [size[1], size[0]], antialias=True)
    return resized[0, top : top + side, left : left + side].numpy()


def opencv(path: Path, side: int) -> NDArray[np.uint8]:
    cv2 = _cv2()
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    size, (left, top) = _geometry(grey.shape[1], grey.shape[0], side)
    resized = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return resized[top : top + side, left : left + side]  # type: ignore[no-any-return]


def opencv_reduced(path: Path, side: int) -> NDArray[np.uint8]:
    """Decoded at a half or a quarter where that is still large enough (scans are 496 px high)."""
    cv2 = _cv2()
    flags = {1: cv2.IMREAD_GRAYSCALE, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2}
    flags[4] = cv2.IMREAD_REDUCED_GRAYSCALE_4
    grey = cv2.imread(str(path), flags[max(n for n in flags if 496 // n >= side or n == 1)])
    size, (left, top) = _geometry(grey.shape[1], grey.shape[0], side)
    resized = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return resized[top : top + side, left : left + side]  # type: ignore[no-any-return]


def opencv_then_pillow(path: Path, side: int) -> NDArray[np.uint8]:
    cv2 = _cv2()
    return _resized(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), side)


def turbo_then_pillow(path: Path, side: int) -> NDArray[np.uint8]:
    with peers():
        import simplejpeg

    grey = simplejpeg.decode_jpeg(path.read_bytes(), colorspace="GRAY")
    return _resized(grey[:, :, 0], side)


def decoding_alone(path: Path, side: int) -> NDArray[np.uint8]:
    """No resize: what no way to the same pixels can do without."""
    with peers():
        import simplejpeg

    grey = simplejpeg.decode_jpeg(path.read_bytes(), colorspace="GRAY")
    return np.zeros((side, side), np.uint8) if grey is None else grey[:side, :side, 0]


DECODERS: dict[str, Decoder] = {
    REFERENCE: decode,
    "Pillow, draft": pillow_draft,
    "torchvision": torchvision_decoder,
    "OpenCV": opencv,
    "OpenCV, reduced": opencv_reduced,
    "OpenCV, Pillow's resize": opencv_then_pillow,
    "simplejpeg, Pillow's resize": turbo_then_pillow,
    "simplejpeg, no resize (a bound)": decoding_alone,
}


def rate(decoder: Decoder, paths: Sequence[Path], side: int, threads: int) -> float:
    """Images a second by so many threads at once."""
    decoder(paths[0], side)
    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda path: decoder(path, side), paths):
            pass
    return len(paths) / (time.perf_counter() - started)


def difference(decoder: Decoder, paths: Sequence[Path], side: int) -> dict[str, float]:
    """From `decode`, in grey levels: the largest, and the mean of all pixels."""
    pairs = [(decoder(path, side).astype(int), decode(path, side).astype(int)) for path in paths]
    apart = np.stack([abs(mine - reference) for mine, reference in pairs])
    return {"largest": int(apart.max()), "mean": float(apart.mean())}
