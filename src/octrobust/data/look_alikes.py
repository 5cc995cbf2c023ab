"""Near duplicates: images that look alike, whatever their bytes, by a perceptual hash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

BITS = 64
PHASH = r"[0-9a-f]{16}"
# Of 191 real B-scans no two of different patients differ in fewer than 8 bits.
ALIKE = 6
_BANDS, _WIDTH = 4, 16  # bands of so many bits
_AT_ONCE = 2**18  # pairs compared
_ONES = np.array([number.bit_count() for number in range(256)], dtype=np.uint8)

Ints = NDArray[np.int64]


def perceptual_hash(grey: Image.Image) -> str:
    """The pHash of an 8-bit grey image (low frequencies of its cosine transform against their
    median, as the library ImageHash has it): 64 bits as 16 hexadecimal digits."""
    return str(imagehash.phash(grey))


def look_alikes(
    hashes: Sequence[str], most: int = ALIKE, across: Sequence[str] | None = None
) -> Ints:
    """All pairs of places in `hashes` that differ in at most `most` bits.

    Empty hashes are like nothing. Of two hashes that differ in `most` bits one band of four differs
    in a quarter of them at most, so a hash is compared with those alone whose band is as near: a
    few of 65,536 values, not all images.

    Args:
        hashes: N strings of 16 hexadecimal digits.
        across: N names of groups; only pairs of two groups count. None: all do.

    Returns:
        (P, 3) int64, in order: first and second place, bits apart.

    Raises:
        ValueError: a hash that is not hexadecimal, or of another length.
    """
    places = np.array([i for i, text in enumerate(hashes) if text], dtype=np.int64)
    words = _words([hashes[i] for i in places])
    groups = None if across is None else np.unique(across, return_inverse=True)[1][places]
    found = [np.empty(0, np.int64)]  # first place times their number, plus second
    for pair in _candidates(words, most // _BANDS):
        wanted = pair[0] < pair[1]
        if groups is not None:
            wanted &= groups[pair[0]] != groups[pair[1]]
        first, second = pair[0][wanted], pair[1][wanted]
        near = _apart(words[first], words[second]) <= most
        found.append(np.unique(first[near] * len(words) + second[near]))
    first, second = np.divmod(np.unique(np.concatenate(found)), max(len(words), 1))
    return np.stack([places[first], places[second], _apart(words[first], words[second])], 1)


def _words(hashes: Sequence[str]) -> NDArray[np.uint64]:
    for text in hashes:
        if len(text) != BITS // 4:
            raise ValueError(f"{text!r} is no hash of {BITS} bits")
    return np.array([int(text, 16) for text in hashes], dtype=np.uint64)


def _apart(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> Ints:
    """Bits that differ, (n,)."""
    bytes_apart = (first ^ second).view(np.uint8).reshape(-1, BITS // 8)
    apart: Ints = _ONES[bytes_apart].sum(1, dtype=np.int64)
    return apart


def _candidates(words: NDArray[np.uint64], radius: int) -> Iterator[tuple[Ints, Ints]]:
    """Rows whose bands differ in `radius` bits at most: both ways round, some more than once."""
    flips = [sum(1 << bit for bit in bits) for bits in _subsets(radius)]
    for band in range(_BANDS):
        values = (words >> np.uint64(band * _WIDTH)).astype(np.uint16)
        order = np.argsort(values, kind="stable")
        ranked = values[order]
        for flip in flips:
            wanted = values ^ np.uint16(flip)
            low, high = (np.searchsorted(ranked, wanted, side) for side in ("left", "right"))
            yield from _expanded(order, low, high - low)


def _subsets(largest: int) -> Iterator[tuple[int, ...]]:
    for size in range(largest + 1):
        yield from combinations(range(_WIDTH), size)


def _expanded(order: Ints, low: Ints, counts: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Row i with order[low[i]], ..., order[low[i] + counts[i] - 1], some rows at a time."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, before + _AT_ONCE, "right")), start + 1)
        rows, some = np.arange(start, stop), counts[start:stop]
        within = np.arange(some.sum()) - np.repeat(total[start:stop] - some - before, some)
        yield np.repeat(rows, some), order[np.repeat(low[start:stop], some) + within]
        start = stop
