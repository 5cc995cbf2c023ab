"""What is said below every answer."""

from __future__ import annotations

from octrobust.config import Params

DISCLAIMER = "Not for clinical use: not for diagnosis, triage or any decision about a patient."
_SOURCES = {
    "phantom": "The model was trained on synthetic images: what it says of a real scan means "
    "nothing.",
    "kermany": "The model was trained on Kermany 2018 (OCT2017): it knows no other scanner, clinic "
    "or disease.",
}
# Any other source is one that the user has, or has added.
_OWN = (
    "The model was trained on a folder of the user's own images: it knows no other scanner, clinic "
    "or disease."
)


def about_the_data(params: Params) -> str:
    """What the model was trained on, and what it can therefore not speak about."""
    return _SOURCES.get(params.data.source, _OWN)


def about_the_attack(params: Params) -> str:
    """The attack with the parameters that decide how near it comes."""
    one = params.attack
    solver = "FISTA" if one.shortcuts.solver == "fista" else "by projections"
    return (
        f"EAD ({solver}), made on this very model, no budget: decision rule {one.decision_rule}, "
        f"beta {one.beta:g}, {one.binary_search_steps} x {one.max_iter} iterations, confidence "
        f"{one.confidence:g}. A distance is an upper bound: a better attack may come nearer."
    )


def about_results(params: Params) -> str:
    """Under a picture of results."""
    data = {
        "phantom": "Synthetic images: these figures say nothing about patients.",
        "kermany": "Kermany 2018 (OCT2017): the figures say little about other sources.",
    }.get(params.data.source, "The user's own images: the figures hold for these only.")
    return f"{data} EAD has no budget. Not for clinical use."
