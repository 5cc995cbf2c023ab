"""Model cards: what RobustBench's have, and where model and numbers come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import jinja2

from octrobust.config import CLEAN, AttackSizes, Params
from octrobust.files import atomic_folder, digest, read_json, sha256_file, write_json, write_text
from octrobust.report.attacked import shortcuts_taken
from octrobust.report.results import Results, best_defence, main_budget
from octrobust.report.verdict import marks, verdict
from octrobust.report.wording import number, percent

TEMPLATES = Path(__file__).parent / "templates"
INTENDED = (
    "Research on adversarial robustness: comparing attacks, defences and ways to evaluate them on "
    "retinal OCT. Not for clinical use: not for diagnosis, triage or any decision about a patient."
)
BEST = "best.json"
EXPERIMENT = "experiment.md"
_WORDS = {
    "static": "adversarial training on a stored EAD set (the paper's way)",
    "duplicates": "control: trained on the clean images again in place of adversarial ones",
    "online": "adversarial training on examples made afresh every step (Madry et al. 2018)",
    "trades": "TRADES (Zhang et al. 2019)",
}


def card(
    project: Path,
    results: Results,
    params: Params,
    model: str,
    statement: str,
    provenance: Mapping[str, str],
) -> dict[str, Any]:
    """One model's card.

    Args:
        project: where models/ and data/ lie.
        model: the name of its folder.
        statement: what the data can and cannot speak about.
        provenance: revision and the like, as the report shows them.
    """
    stored = read_json(project / "models" / model / "model.json")
    made_by = stored["made_by"]
    defence = made_by.get("variant")
    battery = results.battery.get(model)
    return {
        "name": model,
        "task": f"{params.data.classes[1]} against {params.data.classes[0]}, retinal OCT B-scans",
        "architecture": stored["architecture"],
        "parameters": results.train[model].get("parameters"),
        "input": f"1 or 3 x {params.data.image_size} x {params.data.image_size} pixels in [0, 1]",
        "weights_sha256": stored["weights_sha256"],
        "defence": _WORDS.get(defence["method"], defence["method"]) if defence else None,
        "training": made_by,
        "data": {
            "source": params.data.source,
            "index_sha256": sha256_file(project / "data" / "raw" / "index.csv"),
            "images": results.ingest.get("images"),
            "split": {name: results.split.get(name) for name in ("train", "validation", "test")},
            "split_by": params.split.by,
        },
        "clean": _score(results, model, CLEAN),
        "elastic_net": {
            "threat_model": "white-box, untargeted, no budget (Chen et al. 2018)",
            "settings": params.attack.model_dump(exclude={"target", "images_per_class"}),
            "static": {
                source: _score(results, model, source)
                for source in results.attacked()
                if source != model
            },
            "adaptive": _score(results, model, model) if model in results.attacked() else None,
        },
        "battery": battery and _battery(params, battery),
        "flags": [
            flag
            for flag in results.flags()
            if flag["raised"] and flag["model"].split(",")[0] == model
        ],
        "provenance": dict(provenance),
        "intended_use": INTENDED,
        "limits": [
            statement,
            "Robust accuracies are upper bounds: a better attack can only lower them.",
            "Two classes; other diseases, scanners and artefacts were never seen.",
        ],
    }


def _battery(params: Params, battery: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "threat_model": "every attack on this model; worst case over all, image by image",
        "settings": params.evaluate.battery.model_dump(exclude={"models"}),
        "images": battery["images"],
        "confidence_level": battery["confidence_level"],
        **{
            channels: {key: part[key] for key in ("clean", "worst_case", "smallest")}
            for channels, part in battery["channels"].items()
        },
    }


def _score(results: Results, model: str, data: str) -> dict[str, Any]:
    found = results.score(model, data)
    kept = (
        *("n", "accuracy", "accuracy_low", "accuracy_high", "sensitivity", "specificity", "auc"),
        *("mcc", "brier", "ece"),
    )
    return {key: found[key] for key in kept}


def settings(params: Params, *, battery: bool) -> Iterator[tuple[str, str]]:
    """Every attack that a card's numbers are of, and what it was told; `battery`: whether that was
    run on the model."""
    ead, sizes = params.attack, params.evaluate.battery
    rules = f"decision rule {ead.decision_rule}"
    channels = str(ead.channels)
    if battery:
        rules += ", in the battery EN and L1"
        channels += ", in the battery " + " and ".join(sizes.channels)
    yield (
        "EAD",
        f"learning rate {ead.learning_rate:g}, {ead.binary_search_steps} search steps of at most "
        f"{ead.max_iter} iterations, first c {ead.initial_const:g}, beta {ead.beta:g}, confidence "
        f"{ead.confidence:g}; {rules}; channels: {channels}; precision {ead.precision}",
    )
    chosen = shortcuts_taken(ead.shortcuts)
    text = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in chosen.items())
    if not chosen:
        text = "none: the published algorithm"
    elif "solver" in chosen:
        text += (
            ": not the published algorithm; learning rate and first c count only for images "
            "on which this solver finds nothing"
        )
    else:
        text += ": not the published algorithm"
    yield "EAD's shortcuts", text
    if battery:
        yield from _battery_settings(sizes)


def _battery_settings(sizes: AttackSizes) -> Iterator[tuple[str, str]]:
    """Those of the battery beside EAD."""

    def unless(count: int, text: str) -> str:
        return text if count else "not run"

    starts = f"random starts: {sizes.restarts}"
    queries, rounds, draws = sizes.square_queries, sizes.hop_skip_jump_rounds, sizes.noise_draws
    yield "FGSM", "1 step of the whole budget"
    yield "PGD", f"{sizes.steps} steps from the image itself; {starts}"
    yield "PGD, long", "as PGD with four times the steps, at the middle budget of each norm"
    yield "APGD, cross-entropy", f"{sizes.steps} steps; random starts: {1 + sizes.restarts}"
    yield "Square (scores)", unless(queries, f"{queries} queries, L∞ alone")
    yield "DeepFool", f"at most {sizes.steps} steps, no budget"
    yield "HopSkipJump (labels)", unless(rounds, f"rounds: {rounds}, no budget")
    yield "noise", unless(draws, f"the worst of {draws} draws at the whole budget")


def write_cards(
    folder: Path,
    project: Path,
    results: Results,
    params: Params,
    statement: str,
    provenance: Mapping[str, str],
) -> None:
    """Leave NAME.json and NAME.md of every model in `folder`, whole; BEST, the best defence; and
    EXPERIMENT, all of it in a few lines."""
    # Markdown of our own numbers and of names that `config.Name` allows: nothing to escape but
    # what training was told, which has the user's paths in it.
    environment = jinja2.Environment(  # noqa: S701
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, number=number, cell=_cell)
    template = environment.get_template("card.md")
    with atomic_folder(folder) as temporary:
        for model in results.models:
            found = card(project, results, params, model, statement, provenance)
            write_json(temporary / f"{model}.json", found)
            training = list(_flat(found["training"]))
            told = list(settings(params, battery=found["battery"] is not None))
            text = template.render(card=found, training=training, told=told)
            write_text(temporary / f"{model}.md", text)
        write_json(temporary / BEST, _best(project, results, params))
        text = environment.get_template(EXPERIMENT).render(
            verdict=verdict(results, params), marks=marks(results, params), statement=statement
        )
        write_text(temporary / EXPERIMENT, text)


def _cell(value: object) -> str:
    """In a table of Markdown, as text."""
    return escape(str(value), quote=False).replace("|", "&#124;")


def _best(project: Path, results: Results, params: Params) -> dict[str, Any]:
    """What the model registry is told, `octrobust.tracking.records.Candidate`."""
    name, accuracy = best_defence(results, params)
    battery = params.evaluate.battery
    data = digest(project / "data" / "raw" / "index.csv", params.split.model_dump())
    how = f"{battery.channels[0]}, {battery.steps} steps, {battery.restarts} restarts"
    return {
        "name": name,
        "weights_sha256": read_json(project / "models" / name / "model.json")["weights_sha256"],
        "image_size": params.data.image_size,
        "classes": list(params.data.classes),
        "robust_accuracy": accuracy,
        "measured": f"validation, PGD L2 {main_budget(params)}, {how}, data {data}",
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by dotted name; what is not set is left out."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value
