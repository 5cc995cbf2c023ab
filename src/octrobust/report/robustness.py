"""The battery's tables: what is left within a budget, attack by attack, and the flags."""

from __future__ import annotations

from dataclasses import dataclass

from octrobust.config import CLEAN, Params
from octrobust.report.results import Numbers, Results, best_defence, main_budget
from octrobust.report.tables import Table
from octrobust.report.wording import NBSP, NONE, interval, number, percent, with_interval


def worst_table(results: Results, params: Params) -> Table:
    """What any attack of the battery leaves, by budget, model and number of channels."""
    models = list(results.battery)
    rows: list[tuple[str, ...]] = []
    for channels in params.evaluate.battery.channels:
        parts = {name: results.battery[name]["channels"][channels] for name in models}
        rows.append((channels, "none: clean", *(_left(parts[name]["clean"]) for name in models)))
        for distance, symbol in (("l2", "L2"), ("linf", "L∞")):
            for budget in next(iter(parts.values()))["worst_case"][distance]:
                cells = (parts[name]["worst_case"][distance][budget] for name in models)
                shown = (f"{_left(one)}, {one['hardest']}" for one in cells)
                rows.append((channels, f"{symbol} {budget}", *shown))
        for key, label in (("smallest", "any attack"), ("smallest_ead", "EAD alone")):
            medians = (number(parts[name][key]["l2"]["median"]) for name in models)
            rows.append((channels, f"median L2, {label}", *medians))
    one = next(iter(results.battery.values()))
    return Table(
        ("Channels", "Budget", *models),
        rows,
        f"Worst case over every attack of the battery, image by image, on {one['images']} test "
        f"images{_of_patients(one)}; beside it the attack that turned most within the budget "
        "(of equals two, a single step and noise last). "
        "Higher is better. Intervals resample patients. Adaptive throughout: every attack is run "
        "on the model itself. The median L2 is what was needed at most, over the images right when "
        "clean: PGD and the like end at their budgets.",
    )


def _of_patients(numbers: Numbers) -> str:
    return f" of {numbers['patients']} patients" if numbers["patients"] else ""


def _left(score: Numbers) -> str:
    return f"{percent(score['accuracy'], 0)} {interval(score['low'], score['high'], 0)}"


@dataclass(frozen=True)
class Cell:
    """A square of the heat-map: accuracy as a fraction, and what stands in small below it."""

    accuracy: float
    detail: str
    adaptive: bool


def heat_map(results: Results) -> dict[str, list[Cell]]:
    """Source × victim: for each model a cell for every one that a test set was made on."""
    return {
        model: [
            _cell(results.score(model, source), adaptive=model == source)
            for source in results.attacked()
        ]
        for model in results.models
    }


def _cell(score: Numbers, *, adaptive: bool) -> Cell:
    ends = interval(score["accuracy_low"], score["accuracy_high"], 0)
    return Cell(score["accuracy"], f"{ends}, n{NBSP}={NBSP}{score['n']}", adaptive)


def tests_table(results: Results, params: Params) -> Table:
    """McNemar's of every two models."""
    names = {
        CLEAN: CLEAN,
        results.target: f"EAD made on {results.target} (static)",
        "battery": f"worst of the battery, L2 {main_budget(params)} (adaptive on each)",
    }
    rows = [
        (
            f"{one['first']} and {one['second']}",
            names[one["on"]],
            f"{one['first_only']} and {one['second_only']}",
            f"{one['p']:.2g}",
            f"{one['p_adjusted']:.2g}",
        )
        for one in results.evaluation["mcnemar"]
    ]
    return Table(
        ("Models", "Test images", "Only the one is right, only the other", "p", "p adjusted"),
        rows,
        "McNemar's exact test; adjusted over all rows by Benjamini and Hochberg. It takes images "
        "as independent, which those of one patient are not: p is too small. The flags compare "
        "with intervals over patients.",
    )


def ratio_table(results: Results, params: Params) -> Table:
    """How much farther EAD must go on a hardened model."""
    validated = results.evaluation["validation_robust"]["accuracy"]
    best, _ = best_defence(results, params)
    rows = []
    for name in results.hardened:
        one = results.evaluation["distortion_ratios"].get(name)
        ratio, images = NONE, NONE
        if one:
            ends = f"({number(one['low'])} to {number(one['high'])})".replace(" ", NBSP)
            ratio, images = f"{number(one['ratio'])} x {ends}", str(one["images"])
        title = f"{name} (chosen as the best)" if name == best else name
        rows.append((title, ratio, images, percent(validated[name], 0)))
    return Table(
        (
            "Model",
            f"Median L2 that EAD needs, over {results.target}'s",
            "Images",
            f"Validation, PGD L2 {main_budget(params)}",
        ),
        rows,
        "The ratio of medians over the test images that EAD turned on both, adaptive on each, with "
        "its interval over patients. The last column is on validation images: the best defence is "
        "chosen by it, controls apart, so that the test images only measure it.",
        bold=1,
    )


def battery_table(results: Results, params: Params) -> Table:
    """What each attack alone leaves."""
    models = list(results.battery)
    rows = []
    for channels in params.evaluate.battery.channels:
        parts = {name: results.battery[name]["channels"][channels] for name in models}
        for attack, how in next(iter(parts.values()))["attacks"].items():
            left = (_alone(part["attacks"][attack]) for part in parts.values())
            rows.append((attack, channels, how["kind"], *left))
    return Table(
        ("Attack", "Channels", "Sees", *models),
        rows,
        "METHOD_NORM_BUDGET; those without a budget look for the smallest change, and what they "
        "leave says whether they succeed, not at what cost. APGD, Square, DeepFool and HopSkipJump "
        "are ART's. An image turned within a smaller budget by the same attack counts as turned; "
        "PGD is run on those again, and where that alone turns fewer, it is said.",
    )


def _alone(attack: Numbers) -> str:
    """What an attack leaves, and what it leaves without what it turned within smaller budgets."""
    missed = attack["succeeded"] - attack["succeeded_alone"]
    if not missed:
        return percent(attack["accuracy"], 0)
    return f"{percent(attack['accuracy'], 0)} (run alone it leaves {missed} more)"


def realism_table(results: Results) -> Table:
    """How many of EAD's successes an image file could hold."""
    rows = []
    for model, numbers in results.battery.items():
        for channels, part in numbers["channels"].items():
            for attack, how in part["attacks"].items():
                if not attack.startswith("ead"):
                    continue
                of = how["succeeded"]
                survive = (how[f"succeeded_{kind}"] for kind in ("8bit", "jpeg", "grey"))
                shares = (f"{n} ({percent(n / of if of else None, 0)})" for n in survive)
                rows.append((model, f"{attack}, {channels}", str(of), *shares))
    return Table(
        (
            "Model",
            "Attack",
            "Successes",
            "After 8 bits",
            "After JPEG, quality 90",
            "As one channel",
        ),
        rows,
        "A value between two grey levels cannot exist in a file, nor three different channels in "
        "an OCT scan. EAD stops just beyond the decision boundary, so rounding alone undoes many; "
        "an attacker who wants to survive it asks for a higher confidence.",
        bold=2,
    )


def corruption_table(results: Results) -> Table:
    """Accuracy on corrupted clean images."""
    found = results.evaluation["corruptions"]
    kinds = next(iter(found.values()))
    rows = [
        (
            f"{kind} {severity}",
            *(with_interval(found[model][kind][severity]) for model in results.models),
        )
        for kind, values in kinds.items()
        for severity in values
    ]
    return Table(
        ("Corruption", *results.models),
        rows,
        "Accuracy on clean test images corrupted without intent: a defence must not cost it. The "
        "number is the severity, from 1 (mild) to 5, after Hendrycks and Dietterich 2019. "
        "Intervals resample patients.",
    )


def flag_table(results: Results, *, raised: bool) -> Table:
    """Signs that the evaluation fools itself: the raised ones, or those that are clear."""
    rows = [
        (flag["name"], flag["model"], flag["seen"])
        for flag in results.flags()
        if flag["raised"] == raised
    ]
    if raised:
        reading = (
            "A raised flag does not say that a number is wrong, but that it must not be quoted "
            "without an explanation. docs/explanation/flags.md says what each means and what to do."
        )
    else:
        reading = "Looked for, and not found."
    return Table(("Flag", "Model", "Seen"), rows, reading)
