"""The report's tables as rows of text; the template only lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octrobust.config import CLEAN, PAPERS, Params
from octrobust.report import paper
from octrobust.report.results import Numbers, Results
from octrobust.report.wording import NONE, duration, percent, with_interval


@dataclass(frozen=True)
class Table:
    """Cells are text; the first column of a row is its heading. `reading` says how to read it;
    `bold` is the column that carries our number, `marked` the row not to be overlooked."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    reading: str
    bold: int | None = None
    marked: int | None = None


def made_on(model: str, source: str) -> str:
    """What the attacked images were made on, and what that makes the measurement."""
    if source == model:
        return f"adaptive: made on {model} itself"
    return f"static: made on {source}"


def headline_table(results: Results, params: Params) -> Table:
    """The paper's accuracies beside ours, with what each was measured under."""
    target, confidence = results.target, results.evaluation["confidence_level"]
    in_notebooks = percent(paper.NOTEBOOK_HARDENED_CLEAN, 2)
    plan = [(_frozen(params, name), name, CLEAN, _printed(name)) for name in params.train.variants]
    plan.append((target, target, target, percent(paper.ACCURACY_ATTACKED, 2)))
    for model in sorted(results.hardened, key=lambda name: name != PAPERS):
        printed = (NONE, NONE, NONE)
        if model == PAPERS:
            static = percent(paper.ACCURACY_HARDENED, 2)
            printed = ("not measured", static, f"not printed; {in_notebooks} in the notebooks")
        # The worse number first, then the better ones beside it.
        sets = (model if model in results.attacked() else None, target, CLEAN)
        plan += [
            (model, model, data, text) for data, text in zip(sets, printed, strict=True) if data
        ]
    rows = [
        (
            f"{title}, {'clean' if data == CLEAN else f'EAD, no budget, {made_on(model, data)}'}",
            published,
            with_interval(results.score(model, data)),
            str(results.score(model, data)["n"]),
        )
        for title, model, data, published in plan
    ]
    return Table(
        ("Accuracy of", "Paper", f"Here ({percent(confidence, 0)} interval)", "Images"),
        rows,
        "Higher is better. Accuracies compare only as far as the data do. A static set was made on "
        "another model, so it says little about an attacker who knows this one; the adaptive row "
        "does. EAD is unbounded: it looks for the smallest change, so that a working one leaves an "
        "accuracy near 0 on any model, and what a defence is worth shows in the budgets and the "
        f"distances below.{_control(params)}{_untouched(results.distortion(target))}",
        bold=2,
        marked=len(params.train.variants) + 1,
    )


def _frozen(params: Params, name: str) -> str:
    frozen = params.train.variants[name].freeze_through
    return f"{name} ({f'frozen through {frozen}' if frozen else 'nothing frozen'})"


def _printed(name: str) -> str:
    published = paper.TABLE_1.get(name)
    return percent(published.accuracy, 2) if published else NONE


def _control(params: Params) -> str:
    controls = params.controls()
    if not controls:
        return ""
    return (
        f" {controls[0]} is trained on the same images again in place of adversarial ones: what it "
        "reaches is no defence's doing."
    )


def _untouched(static: Numbers) -> str:
    """A warning where part of the static set is not adversarial at all."""
    failed = static["attacked"] - static["succeeded"]
    if not failed:
        return ""
    return (
        f" Beware: the attack failed on {failed} of the {static['attacked']} images of the static "
        "set. Those stand in it unchanged and count as correct for any model that is right on the "
        "clean image; more search steps or iterations would leave fewer of them."
    )


def training_table(results: Results) -> Table:
    """How long each model trained, and the epoch that was kept."""
    rows = []
    for name, one in results.train.items():
        published = paper.TABLE_1.get(name)
        rows.append(
            (
                name,
                duration(published.train_seconds) if published else NONE,
                duration(one["train_seconds"]),
                f"{one['best_epoch']} of {one['epochs']}",
                percent(one["validation_accuracy"]),
            )
        )
    return Table(
        ("Model", "Time, paper", "Time, here", "Epoch kept", "Validation accuracy, clean"),
        rows,
        "Times compare only on one machine with one number of images and epochs. What the paper "
        "calls its first 9 and 11 layers are the children through repeat_1 and repeat_2.",
        bold=2,
    )


def model_table(results: Results) -> Table:
    """Sensitivity, specificity, AUC and confusion of every model on every test set."""
    positive = results.evaluation["positive"]
    rows = []
    for model in results.models:
        for data in results.main_sets(model):
            score = results.score(model, data)
            (tn, fp), (fn, tp) = score["confusion"]
            rows.append(
                (
                    model,
                    "clean" if data == CLEAN else made_on(model, data),
                    with_interval(score),
                    percent(score["sensitivity"]),
                    percent(score["specificity"]),
                    *(_decimals(score[name]) for name in ("auc", "mcc", "ece", "brier")),
                    f"{tp}/{fn}/{tn}/{fp}",
                )
            )
    return Table(
        (
            "Model",
            "Test images",
            "Accuracy",
            "Sensitivity",
            "Specificity",
            "AUC",
            "MCC",
            "ECE",
            "Brier",
            "TP/FN/TN/FP",
        ),
        rows,
        f"{positive} is the positive class: sensitivity is the share of {positive} images "
        "found, specificity that of the others left alone. An AUC under 0.5 ranks worse than "
        "chance, which is what an attack aims at. ECE (over ten bins) and Brier score are of the "
        "probabilities: 0 is best. Attacked: EAD without a budget.",
        bold=2,
    )


def _decimals(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"
