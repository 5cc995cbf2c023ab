"""`octrobust predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octrobust.cli import output
from octrobust.cli.base import MODELS, AsJson, app, examples, project
from octrobust.cli.complete import models
from octrobust.errors import one_line_errors

if TYPE_CHECKING:
    from octrobust.config import Params
    from octrobust.inspection.attack import Attacked
    from octrobust.inspection.models import Stored
    from octrobust.inspection.network import Calibration

Images = Annotated[
    list[Path], typer.Argument(metavar="IMAGE", help="Scans, in any format that Pillow reads.")
]
Model = Annotated[
    str | None,
    typer.Option(
        help="One of models/. The default is the best hardened model of the project.",
        autocompletion=models,
    ),
]


@app.command(
    rich_help_panel=MODELS,
    epilog=examples(
        ("octrobust predict scan.png", "class and calibrated probabilities"),
        ("octrobust predict scan.png --nearest", "and how far the nearest adversarial image is"),
        ("octrobust predict *.tif --model config_1 --json", "another model, for a script"),
    ),
)
def predict(
    images: Images,
    model: Model = None,
    nearest: Annotated[
        bool,
        typer.Option(
            "--nearest", help="Also attack each image, and say how near an adversarial one lies."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Probabilities of a scan's classes, from a stored model. Not for clinical use.

    The image is prepared as the pipeline prepares its own: grey, resized, its
    centre square. The probabilities are calibrated by the validation images in
    data/arrays (temperature scaling).
    """
    with one_line_errors():
        from octrobust import config
        from octrobust.inspection.models import choose

        root = project()
        params = config.load(root / "params.yaml")
        stored = choose(root, model)
        with output.waiting(f"{stored.name} reads {len(images)} images"):
            from octrobust.data.given import read_views
            from octrobust.evaluation.calibration import calibrated
            from octrobust.inspection import network as ask

            x = read_views(images, stored.image_size)
            network = ask.load(stored, params)
        logits = ask.outputs(network, x, "predict")
        calibration = ask.calibrate(network, stored, root / "data" / "arrays")
        answers: dict[str, Any] = {
            "labels": logits.argmax(1),
            "probabilities": calibrated(logits, calibration.temperature),
            "uncalibrated": calibrated(logits, 1.0),
        }
        found: list[Attacked] | None = None
        if nearest:
            from octrobust.inspection.attack import attack

            found = attack(network, params, x, answers["labels"])
        told = _told(images, params, stored, calibration, answers, found)
        output.write_json(told) if as_json else _show(told)


def _told(
    paths: list[Path],
    params: Params,
    stored: Stored,
    calibration: Calibration,
    answers: dict[str, Any],
    found: list[Attacked] | None,
) -> dict[str, Any]:
    """Everything, as `--json` has it."""
    from octrobust.inspection import words

    def by_class(values: Any) -> dict[str, float]:
        return dict(zip(stored.classes, values.tolist(), strict=True))

    images = []
    for i, path in enumerate(paths):
        one: dict[str, Any] = {
            "image": str(path),
            "predicted": stored.classes[int(answers["labels"][i])],
            "probabilities": by_class(answers["probabilities"][i]),
            "uncalibrated": by_class(answers["uncalibrated"][i]),
        }
        if found:
            one["nearest"] = _nearest(found[i], stored.classes)
        images.append(one)
    return {
        "model": stored.name,
        "chosen": stored.why,
        "calibration": {
            "temperature": calibration.temperature,
            "validation_images": calibration.images,
            "missing": calibration.missing,
        },
        "images": images,
        "attack": words.about_the_attack(params) if found else None,
        "data": words.about_the_data(params),
        "use": words.DISCLAIMER,
    }


def _nearest(one: Attacked, classes: tuple[str, ...]) -> dict[str, Any] | None:
    """None where the attack found nothing."""
    if not one.success:
        return None
    return {
        "predicted": classes[one.predicted[1]],
        "l1": one.l1,
        "l2": one.l2,
        "linf": one.linf,
        "grey_levels_largest": 255 * one.linf,
        "grey_levels_root_mean_square": 255 * one.root_mean_square,
        "as_png": one.success_png,
    }


def _show(told: dict[str, Any]) -> None:
    classes = tuple(told["images"][0]["probabilities"])
    attacked = "nearest" in told["images"][0]
    columns = ["image", "predicted", *classes]
    columns += ["nearest: L2", "L-infinity", "grey levels, largest", "grey levels, rms"] * attacked
    table = output.new_table(*columns, numbers=tuple(columns[2:]))
    names = output.short([one["image"] for one in told["images"]])
    for name, one in zip(names, told["images"], strict=True):
        cells = [name, one["predicted"]]
        cells += map(_percent, one["probabilities"].values())
        table.add_row(*cells, *(_cells(one["nearest"]) if attacked else ()))
    output.console().print(table)
    calibration = told["calibration"]
    output.notes(
        f"{told['model']}, {told['chosen']}.",
        f"Not calibrated: {calibration['missing']}."
        if calibration["missing"]
        else f"Calibrated on {calibration['validation_images']} validation images (temperature "
        f"{calibration['temperature']:.2f}); for images like those only.",
        *(
            [told["attack"], "Grey levels are of 255; rms: root mean square over all pixels."]
            if attacked
            else []
        ),
        told["data"],
        told["use"],
    )


def _percent(probability: float) -> str:
    """Never a certainty."""
    if probability < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if probability > 0.9995 else f"{100 * probability:.1f} %"


def _cells(nearest: dict[str, Any] | None) -> tuple[str, ...]:
    if nearest is None:
        return ("none found", "", "", "")
    levels = (nearest["grey_levels_largest"], nearest["grey_levels_root_mean_square"])
    return (f"{nearest['l2']:.3g}", f"{nearest['linf']:.3g}", *(f"{n:.3g}" for n in levels))
