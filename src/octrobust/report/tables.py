"""The report's tables as rows of text; the template only lays them out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from octrobust.attack import speed
from octrobust.config import PAPERS, SPLITS, Params, Shortcuts
from octrobust.report import paper
from octrobust.report.results import CLEAN, Numbers, Results, main_budget, main_channels
from octrobust.report.wording import NONE, duration, interval, number, percent

BUDGET = "unbounded: EAD looks for the smallest change"


@dataclass(frozen=True)
class Table:
    """Cells are text; the first column of a row is its heading. `reading` says how to read it."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    reading: str


@dataclass(frozen=True)
class Tile:
    """A headline accuracy with its interval; fractions. `published` is None where not printed."""

    title: str
    accuracy: float
    low: float
    high: float
    images: int
    published: float | None


def with_interval(score: Numbers) -> str:
    """97.0 % (91.5 to 99.0)."""
    return f"{percent(score['accuracy'])} {interval(score['accuracy_low'], score['accuracy_high'])}"


def _here(results: Results) -> str:
    return f"Here ({percent(results.evaluation['confidence_level'], 0)} interval)"


def made_on(model: str, source: str) -> str:
    """What the attacked images were made on, and what that makes the measurement."""
    if source == model:
        return f"adaptive: made on {model} itself"
    return f"static: made on {source}"


def tiles(results: Results, params: Params) -> list[Tile]:
    """The accuracies a reader wants first: those of the paper's kind, the adaptive one right
    beside the static one, and then what is left within a budget."""
    target = results.target
    published = paper.TABLE_1.get(target)
    plan = (
        (f"{target}, clean", target, CLEAN, published.accuracy if published else None),
        (f"{target}, EAD", target, target, paper.ACCURACY_ATTACKED),
        (f"{PAPERS}, clean", PAPERS, CLEAN, None),
        (f"{PAPERS}, static EAD", PAPERS, target, paper.ACCURACY_HARDENED),
        (f"{PAPERS}, adaptive EAD", PAPERS, PAPERS, None),
    )
    shown = []
    for title, model, data, printed in plan:
        score = results.score(model, data)
        interval = (score["accuracy_low"], score["accuracy_high"])
        shown.append(Tile(title, score["accuracy"], *interval, score["n"], printed))
    budget = main_budget(params)
    for model, numbers in results.battery.items():
        worst = main_channels(numbers)["worst_case"]["l2"][budget]
        title = f"{model}, worst of the battery within L2 {budget}"
        values = (worst["accuracy"], worst["low"], worst["high"])
        shown.append(Tile(title, *values, numbers["images"], None))
    return shown


def clean_table(results: Results, params: Params) -> Table:
    """The paper's Table 1 beside ours."""
    rows = []
    for name, variant in params.train.variants.items():
        published = paper.TABLE_1.get(name)
        frozen = variant.freeze_through
        ours = f"frozen through {frozen}" if frozen else "nothing frozen"
        rows.append(
            (
                f"{name}: {ours}",
                percent(published.accuracy, 2) if published else NONE,
                with_interval(results.score(name, CLEAN)),
                str(results.score(name, CLEAN)["n"]),
                duration(published.train_seconds) if published else NONE,
                duration(results.train[name]["train_seconds"]),
            )
        )
    return Table(
        (
            "Clean accuracy",
            "Paper",
            _here(results),
            "Test images",
            "Training time, paper",
            "Training time, here",
        ),
        rows,
        "Higher is better. Accuracies compare only as far as the data do, times only on one "
        "machine with one number of images and epochs. What the paper calls its first 9 and 11 "
        "layers are the children through repeat_1 and repeat_2.",
    )


def robust_table(results: Results, params: Params) -> Table:
    """The paper's two accuracies beside ours, with what each was measured under."""
    target = results.target
    clean = f"not printed; {percent(paper.NOTEBOOK_HARDENED_CLEAN, 2)} in the notebooks"
    plan = [(f"{target} (undefended)", target, target, percent(paper.ACCURACY_ATTACKED, 2))]
    for model in sorted(results.hardened, key=lambda name: name != PAPERS):
        ours = model != PAPERS
        plan.append((model, model, target, NONE if ours else percent(paper.ACCURACY_HARDENED, 2)))
        if model in results.attacked():
            plan.append((model, model, model, NONE if ours else "not measured"))
        plan.append((model, model, CLEAN, NONE if ours else clean))
    rows = []
    for title, model, data, published in plan:
        score = results.score(model, data)
        attacked = data != CLEAN
        rows.append(
            (
                title,
                "Elastic-Net (EAD)" if attacked else "none: clean images",
                BUDGET if attacked else NONE,
                made_on(model, data) if attacked else NONE,
                published,
                with_interval(score),
                str(score["n"]),
            )
        )
    return Table(
        (
            "Accuracy of",
            "Attack",
            "Budget",
            "Aimed at",
            "Paper",
            _here(results),
            "Test images",
        ),
        rows,
        "Higher is better. A static set was made on another model, so it says little about an "
        "attacker who knows this one; the adaptive row does. An attack without a budget that "
        "works leaves an accuracy near 0 on any model: what a defence is worth shows in the "
        f"distortion and in the budgets below.{_control(params)}"
        f"{_untouched(results.distortion(target))}",
    )


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
        "the images behind the medians: those that failed were the hard ones.",
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
        "probabilities: 0 is best.",
    )


def _decimals(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


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
            f"{_succeeded(found)} succeeded, {percent(found['success_rate_8bit'])} also after "
            f"rounding to 8 bits; {found['already_misclassified']} of {found['images']} images "
            "were wrong when clean"
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


def _shortcuts(chosen: Shortcuts) -> str:
    usual = speed.Shortcuts()
    on = [f"{k} {value}" for k, value in chosen.model_dump().items() if value != getattr(usual, k)]
    if not on:
        return "none: the published algorithm"
    return ", ".join(on).replace("_", " ").replace(" True", "") + ": not the published algorithm"


def data_table(results: Results) -> Table:
    """Images and patients by split and class."""
    classes = results.evaluation["classes"]
    rows = []
    for split in SPLITS:
        counts = results.split.get(split)
        if not counts:
            continue
        by_class = counts.get("classes", {})
        each = [_images(by_class.get(label)) for label in classes]
        rows.append((split, str(counts["images"]), *each, _patients(counts.get("patients"))))
    return Table(
        ("Split", "Images", *classes, "Patients"),
        rows,
        "Train fits the models, validation picks the epoch, test gives every number above, and "
        "extra brings further originals for the hardening.",
    )


def _images(counts: object) -> str:
    found = counts.get("images") if isinstance(counts, dict) else counts
    return NONE if found is None else str(found)


def _patients(count: int | None) -> str:
    return str(count) if count else "unknown"


def facts(results: Results) -> Iterable[tuple[str, str]]:
    """What ingest found and what was checked, as terms and their descriptions."""
    found = results.ingest
    for key, label in (
        ("images", "Images"),
        ("patients", "Patients"),
        ("duplicates", "Duplicates left out"),
        ("quarantined", "Unreadable, quarantined"),
    ):
        if key in found:
            value = found[key]
            yield label, str(len(value) if isinstance(value, (list, dict)) else value)
    both = results.split.get("patients_in_two_splits")
    if both is None:
        both = results.validation.get("patients_in_two_splits")
    if both is not None:
        yield "Patients in two splits", str(both)
    if "look_alikes_in_two_splits" in results.validation:
        pairs, strangers = (
            results.validation[f"look_alikes_{which}"]
            for which in ("in_two_splits", "of_two_patients")
        )
        yield (
            "Look-alikes in two splits",
            f"{pairs} pairs, {strangers} of them of two patients, by a perceptual hash",
        )
