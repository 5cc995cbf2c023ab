"""Our EAD against foolbox's: a second oracle, which follows the paper as ours does.

It has no rule L2.
"""

from __future__ import annotations

import pytest

from tests.parity.oracles import (
    BASE,
    TABLE,
    Settings,
    Trained,
    assert_the_same_attack,
    compare,
    foolbox,
)

CASES = [(network, row) for network, row in TABLE if row.get("decision_rule") != "L2"]


@pytest.mark.parametrize(
    ("network", "row"), CASES, indirect=["network"], ids=lambda v: str(v) if v else "base"
)
def test_the_same_attack_image_by_image(network: Trained, row: Settings) -> None:
    found = compare(foolbox, network, row)
    assert_the_same_attack(found, {**BASE, **row}["learning_rate"])
