"""Our EAD against ART's own implementation: an oracle that others wrote."""

from __future__ import annotations

import pytest

from tests.parity.oracles import (
    BASE,
    TABLE,
    Settings,
    Trained,
    assert_the_same_attack,
    compare,
    mended_art,
    shipped_art,
)

# ART as shipped has no confidence, so that one such row is enough; and where the first constant
# is smaller it finds what it finds from a larger one.
SHIPPED = [
    (network, row)
    for network, row in TABLE
    if "initial_const" not in row and ("confidence" not in row or len(row) == 1)
]


def name(value: object) -> str:
    return str(value) if value else "base"


@pytest.mark.parametrize(("network", "row"), TABLE, indirect=["network"], ids=name)
def test_the_same_attack_image_by_image(network: Trained, row: Settings) -> None:
    """Against ART with its two departures from the paper mended."""
    rate = {**BASE, **row}["learning_rate"]
    assert_the_same_attack(compare(mended_art, network, row), rate)


@pytest.mark.parametrize(("network", "row"), SHIPPED, indirect=["network"], ids=name)
def test_no_worse_than_art_as_shipped(network: Trained, row: Settings) -> None:
    """Success no lower; median and geometric mean of the distances at most 10 % larger.

    ART's iterates stand still where the paper's go on shrinking, which now and then serves it: at
    rate 0.5 and beta 0.1 our median was 1.065 and our geometric mean 1.044 of ART's, where mended
    ART had ours to the digit. Elsewhere both lay between 0.80 and 1.042. ART ignores `confidence`:
    at 5 none of its examples has the margin, there is no distance to compare, and what is left
    is that ours all have it.
    """
    found = compare(shipped_art, network, row)
    assert found.our_success.sum() >= found.their_success.sum()
    assert found.our_success.all()
    if "confidence" not in row:
        assert found.their_success.all()
        assert found.median_ratio <= 1.1
        assert found.geometric_ratio <= 1.1
