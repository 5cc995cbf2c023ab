"""The columns that MLflow's table of runs opens with.

It cuts a name after some twelve letters and sorts columns by name: so the headline is logged a
second time, under short names in the order in which to read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from octrobust.config import middle

SHORT = {
    "accuracy_config_1": "1 clean",
    "accuracy_attacked": "2 attacked",
    "accuracy_hardened": "3 static",
    "accuracy_hardened_adaptive": "4 adaptive",
}
DEFENDED = "5 defended"
# Of the attack on the test split, medians over what it turned.
DISTANCES = {"l2.median": "6 L2", "l1.median": "7 L1", "l0.median": "8 L0"}
HEADLINE = (
    "params.`attack.beta`",
    *(f"metrics.`{name}`" for name in (*SHORT.values(), DEFENDED, DISTANCES["l2.median"])),
)
ATTACK = "attack@test"


def shortened(metrics: Mapping[str, float], best: str | None) -> dict[str, float]:
    """The summary's headline under its short names.

    Args:
        metrics: of ``metrics/summary.json``.
        best: the best defence, chosen on validation images: of it the worst case of the battery
            within the middle L2 budget.
    """
    found = {SHORT[name]: value for name, value in metrics.items() if name in SHORT}
    within = re.compile(rf"robust_accuracy_l2_([\d.e+-]+)_{re.escape(best or '')}")
    matches = [(within.fullmatch(name), value) for name, value in metrics.items()]
    left = {float(match[1]): value for match, value in matches if match}
    return found | ({DEFENDED: left[middle(list(left))]} if left else {})


def of_attack(metrics: Mapping[str, float]) -> dict[str, float]:
    """What the attack alone tells of an experiment: accuracy under it, and how far it went.

    Args:
        metrics: of ``metrics/attack/test.json``, by dotted names.
    """
    found = {short: metrics[name] for name, short in DISTANCES.items() if name in metrics}
    if {"images", "attacked", "succeeded"} <= metrics.keys():
        left = metrics["attacked"] - metrics["succeeded"]
        found[SHORT["accuracy_attacked"]] = left / metrics["images"]
    return found
