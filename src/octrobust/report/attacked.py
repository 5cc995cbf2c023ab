"""Tables of the Elastic-Net attack: how far it went, and what it was told."""

from __future__ import annotations

from typing import Any

from octrobust.attack import speed
from octrobust.config import Params, Shortcuts
from octrobust.report.results import Numbers, Results
from octrobust.report.tables import Table
from octrobust.report.wording import NONE, duration, number, percent


def distortion_table(results: Results, params: Params) -> Table:
    """Median and quartiles of each distance over the successes."""
    rows: list[tuple[str, ...]] = []
    for key, label in (("l2", "L2"), ("l1", "L1"), ("linf", "L∞"), ("elastic_net", "Elastic net")):
        for model in (results.target, *results.hardened):
            if model not in results.attacked():
                continue
            found = results.distortion(model)
            rows.append((label, model, *_quartiles(found[key]), _succeeded(found)))
    return Table(
        ("Distance", "Made on", "Median", "Quartiles", "Successes of attacked"),
        rows,
        "Over successes alone, on pixels from 0 to 1; larger is better for the defender. The "
        f"elastic-net distance is L2² + β L1, β = {params.attack.beta:g}. Images that were wrong "
        "when clean are not attacked and not counted. Where the shares of successes differ, so do "
        "the images behind the medians: those that failed were the hard ones. Adaptive throughout.",
        bold=2,
    )


def _quartiles(statistics: Numbers | None) -> tuple[str, str]:
    if statistics is None:
        return NONE, NONE
    return (
        number(statistics["median"]),
        f"{number(statistics['q1'])} to {number(statistics['q3'])}",
    )


def _succeeded(found: Numbers) -> str:
    return f"{found['succeeded']} of {found['attacked']} ({percent(found['success_rate'])})"


def attack_settings(results: Results, params: Params) -> Table:
    """The attack's parameters, and what it did on each split."""
    settings = params.attack
    rows: list[tuple[str, ...]] = [
        ("attack", "Elastic-Net (EAD, Chen et al. 2018), untargeted, white-box"),
        ("made on", settings.target),
    ]
    apart = {"target", "images_per_class", "shortcuts"}
    if settings.shortcuts.solver == "projection":  # it sets both itself
        apart |= {"learning_rate", "initial_const"}
    for key, value in settings.model_dump(exclude=apart).items():
        rows.append((key, str(value)))
    rows.append(("shortcuts", _shortcuts(settings.shortcuts)))
    for split, found in results.attack.items():
        text = (
            f"{_succeeded(found)} succeeded, {percent(found['success_rate_8bit'])} of those "
            f"attacked also after rounding to 8 bits; {found['already_misclassified']} of "
            f"{found['images']} images were wrong when clean"
        )
        if "seconds" in found and "images_per_second" in found:
            rate = number(found["images_per_second"])
            text += f"; {duration(found['seconds'])}, {rate} images a second"
        rows.append((f"{split} split", text))
    return Table(
        ("Setting", "Value"),
        rows,
        "Names as in the paper and in Chen et al. More search steps and iterations find smaller "
        "changes, so an attack with few of them flatters the defence; the projection solver ends "
        "by itself once an image's distance has settled.",
    )


def shortcuts_taken(chosen: Shortcuts) -> dict[str, Any]:
    """What is unlike the published algorithm, by name."""
    usual = speed.Shortcuts()
    return {k: value for k, value in chosen.model_dump().items() if value != getattr(usual, k)}


def _shortcuts(chosen: Shortcuts) -> str:
    on = [f"{name} {value}" for name, value in shortcuts_taken(chosen).items()]
    if not on:
        return "none: the published algorithm"
    return ", ".join(on).replace("_", " ").replace(" True", "") + ": not the published algorithm"
