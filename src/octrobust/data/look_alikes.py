"""Near duplicates: images that look alike, whatever their bytes, by a perceptual hash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

BITS = 64
PHASH = r"[0-9a-f]{16}"
# Of 191 real B-scans no two of different patients differ in fewer than 8 bits.
ALIKE = 6


def perceptual_hash(grey: Image.Image) -> str:
    """The pHash of an 8-bit grey image (low frequencies of its cosine transform against their
    median, as the library ImageHash has it): 64 bits as 16 hexadecimal digits."""
    return str(imagehash.phash(grey))


def look_alikes(hashes: Sequence[str], most: int = ALIKE) -> list[tuple[int, int, int]]:
    """All pairs (first, second, bits) of places in `hashes` that differ in at most `most` bits.

    Empty hashes are like nothing. Two hashes that differ in `most` bits agree in one of
    ``most + 1`` bands, so only images that share a band are compared: no step looks at all pairs.

    Raises:
        ValueError: a hash that is not hexadecimal, or of another length.
    """
    places = np.array([i for i, text in enumerate(hashes) if text], dtype=np.int64)
    bits = _bits([hashes[i] for i in places])
    found: dict[tuple[int, int], int] = {}
    for band in np.array_split(np.arange(BITS), most + 1):
        for members in _groups(bits[:, band]):
            for first, others in zip(members, _after(members), strict=True):
                apart = (bits[first] != bits[others]).sum(1)
                near = apart <= most
                for second, count in zip(others[near], apart[near], strict=True):
                    found[int(places[first]), int(places[second])] = int(count)
    return sorted((first, second, count) for (first, second), count in found.items())


def _bits(hashes: Sequence[str]) -> NDArray[np.bool_]:
    """(N, 64), most significant first."""
    for text in hashes:
        if len(text) != BITS // 4:
            raise ValueError(f"{text!r} is no hash of {BITS} bits")
    raw = b"".join(map(bytes.fromhex, hashes))
    return np.unpackbits(np.frombuffer(raw, np.uint8)).reshape(-1, BITS).astype(bool)


def _groups(band: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """Rows that agree in every column, in order; those alone are left out."""
    if not len(band):
        return
    _, group, sizes = np.unique(band, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(group.ravel(), kind="stable")
    for members in np.split(order, np.cumsum(sizes)[:-1]):
        if len(members) > 1:
            yield members


def _after(members: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [members[i + 1 :] for i in range(len(members))]


def across(pairs: Sequence[tuple[int, int, int]], of: Sequence[str]) -> list[tuple[int, int, int]]:
    """Those pairs whose images are in different groups, `of` naming each image's."""
    return [pair for pair in pairs if of[pair[0]] != of[pair[1]]]
