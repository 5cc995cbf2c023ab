"""Near duplicates by perceptual hash: the same pairs as comparing all with all."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.spatial.distance import pdist, squareform

from octrobust.data.look_alikes import BITS, look_alikes, perceptual_hash
from octrobust.data.phantom import scan


def hashes_of(bits: np.ndarray) -> list[str]:
    return [row.tobytes().hex() for row in np.packbits(bits, axis=1)]


@pytest.mark.parametrize("most", [0, 3, 6])
def test_every_near_pair_is_found_and_no_other(most: int) -> None:
    rng = np.random.default_rng(most)
    bits = rng.integers(0, 2, (300, BITS)).astype(np.uint8)
    for row in range(0, 300, 3):  # a neighbour at every distance about the limit, 0 included
        bits[row + 1] = bits[row]
        flipped = rng.permutation(BITS)[: (row // 3) % (most + 3)]
        bits[row + 1, flipped] ^= 1
    apart = np.rint(squareform(pdist(bits, "hamming")) * BITS).astype(int)
    near = [[i, j, apart[i, j]] for i in range(300) for j in range(i + 1, 300)]
    wanted = [pair for pair in near if pair[2] <= most]
    assert wanted
    assert look_alikes(hashes_of(bits), most).tolist() == wanted


def test_an_empty_hash_is_like_nothing() -> None:
    assert look_alikes(["", "00" * 8, "", "00" * 7 + "01"]).tolist() == [[1, 3, 1]]
    assert len(look_alikes(["", ""])) == 0


def test_a_hash_of_another_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="no hash of 64 bits"):
        look_alikes(["abc"])


def test_across_keeps_pairs_of_two_groups() -> None:
    hashes, groups = ["0" * 16, "0" * 16, "", "0" * 15 + "3"], ["train", "train", "test", "test"]
    assert look_alikes(hashes, across=groups).tolist() == [[0, 3, 2], [1, 3, 2]]


def test_many_equal_hashes_are_all_paired() -> None:
    """More candidates than are compared at once."""
    pairs = look_alikes(["ab" * 8] * 700)
    assert len(pairs) == 700 * 699 // 2
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert not pairs[:, 2].any()


def test_one_scan_in_other_bytes_looks_alike_and_another_patient_does_not() -> None:
    picture = Image.fromarray(scan("CNV", 1, 1, seed=3))
    smaller = picture.resize((picture.width // 2, picture.height // 2))
    brighter = ImageEnhance.Brightness(picture).enhance(1.1)
    other = Image.fromarray(scan("CNV", 2, 1, seed=3))
    hashes = [perceptual_hash(each) for each in (picture, smaller, brighter, other)]
    assert {tuple(pair[:2]) for pair in look_alikes(hashes).tolist()} == {(0, 1), (0, 2), (1, 2)}
