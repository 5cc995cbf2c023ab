"""`octrobust attack`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octrobust.cli import output
from octrobust.cli.base import MODELS, AsJson, app, examples, project
from octrobust.cli.complete import classes
from octrobust.cli.predict import Images, Model
from octrobust.errors import UserError, one_line_errors

if TYPE_CHECKING:
    from octrobust.config import Params
    from octrobust.inspection.attack import Attacked
    from octrobust.inspection.models import Stored

SETTINGS = "The attack (defaults: section attack of params.yaml)"


@app.command(
    rich_help_panel=MODELS,
    epilog=examples(
        ("octrobust attack scan.png", "before, after and difference as PNG in attacked/"),
        ("octrobust attack *.png --confidence 1", "further, so that it survives 8 bits"),
        ("octrobust attack scan.png --beta 0.1 --rule L1", "fewer pixels, each by more"),
    ),
)
def attack(
    images: Images,
    model: Model = None,
    out: Annotated[Path, typer.Option(help="Folder for the PNG files.")] = Path("attacked"),
    label: Annotated[
        str | None,
        typer.Option(
            help="True class of all images. The default is what the model says of each.",
            autocompletion=classes,
        ),
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="Weight of L1.", rich_help_panel=SETTINGS)
    ] = None,
    initial_const: Annotated[
        float | None,
        typer.Option(
            "--const", "--initial-const", help="First c of the search.", rich_help_panel=SETTINGS
        ),
    ] = None,
    max_iter: Annotated[
        int | None,
        typer.Option("--steps", "--max-iter", help="For each c.", rich_help_panel=SETTINGS),
    ] = None,
    binary_search_steps: Annotated[
        int | None, typer.Option(help="Values of c.", rich_help_panel=SETTINGS)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="First step size.", rich_help_panel=SETTINGS)
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="Logit margin by which it must be misclassified.", rich_help_panel=SETTINGS
        ),
    ] = None,
    decision_rule: Annotated[
        str | None,
        typer.Option("--rule", "--decision-rule", help="EN, L1 or L2.", rich_help_panel=SETTINGS),
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="grey or rgb.", rich_help_panel=SETTINGS)
    ] = None,
    solver: Annotated[
        str | None, typer.Option(help="fista or projection.", rich_help_panel=SETTINGS)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Attack scans with the Elastic-Net attack; before, after and difference as PNG.

    The attack is made on a stored model. A success is verified twice: by the
    network in float32, and on the PNG as it is written, read back. In the
    difference, middle grey is no change. Not for clinical use.
    """
    with one_line_errors():
        from octrobust.inspection.models import choose

        root = project()
        given = {
            "beta": beta,
            "initial_const": initial_const,
            "max_iter": max_iter,
            "binary_search_steps": binary_search_steps,
            "learning_rate": learning_rate,
            "confidence": confidence,
            "decision_rule": decision_rule,
            "channels": channels,
        }
        params = _parameters(root, given, solver)
        stored = choose(root, model)
        if label is not None and label not in stored.classes:
            raise UserError(f"--label: '{label}' is none of: {', '.join(stored.classes)}")
        if out.exists() and not out.is_dir():
            raise UserError(f"--out: {out} is a file, where a folder is needed")
        with output.waiting(f"{stored.name} reads {len(images)} images"):
            import numpy as np

            from octrobust.data.given import read_views
            from octrobust.inspection import attack as attacks
            from octrobust.inspection import network as ask

            x = read_views(images, stored.image_size)
            network = ask.load(stored, params)
        labels = (
            ask.outputs(network, x, "predict").argmax(1)
            if label is None
            else np.full(len(x), stored.classes.index(label))
        )
        found = attacks.attack(network, params, x, labels)
        files = attacks.write(out, images, found)
        told = _told(images, params, stored, found, files)
        output.write_json(told) if as_json else _show(told)


def _parameters(root: Path, given: dict[str, Any], solver: str | None) -> Params:
    """Those of params.yaml but for what was given, checked as those are."""
    from octrobust import config
    from octrobust.files import read_yaml

    config.load(root / "params.yaml")  # its own mistakes come first
    values = read_yaml(root / "params.yaml")
    values["attack"] |= {name: value for name, value in given.items() if value is not None}
    if solver is not None:
        values["attack"]["shortcuts"]["solver"] = solver
    return config.parse(values, "options")


def _told(
    paths: list[Path],
    params: Params,
    stored: Stored,
    found: list[Attacked],
    files: list[dict[str, str]],
) -> dict[str, Any]:
    """Everything, as `--json` has it."""
    from octrobust.inspection import words

    images = [
        {
            "image": str(path),
            "class": stored.classes[one.left],
            "before": stored.classes[one.predicted[0]],
            "after": stored.classes[one.predicted[1]],
            "already_misclassified": one.already,
            "success": one.success,
            "success_png": one.success_png,
            **{
                name: getattr(one, name) if one.success else None
                for name in ("l0", "l1", "l2", "linf")
            },
            "amplified": one.change.amplification if one.success else None,
            "files": written,
        }
        for path, one, written in zip(paths, found, files, strict=True)
    ]
    return {
        "model": stored.name,
        "chosen": stored.why,
        "attack": params.attack.model_dump(exclude={"target", "images_per_class"}),
        "about": words.about_the_attack(params),
        "images": images,
        "data": words.about_the_data(params),
        "use": words.DISCLAIMER,
    }


def _show(told: dict[str, Any]) -> None:
    columns = ("image", "before", "after", "success", "on the PNG", "L1", "L2", "L-infinity")
    table = output.new_table(*columns, "amplified", numbers=(*columns[5:], "amplified"))
    names = output.short([one["image"] for one in told["images"]])
    for name, one in zip(names, told["images"], strict=True):
        if one["success"]:
            figures = [f"{one[key]:.3g}" for key in ("l1", "l2", "linf")]
            verdict = ("yes", "yes" if one["success_png"] else "no")
        else:
            figures = ["", "", ""]
            verdict = ("wrong already" if one["already_misclassified"] else "none found", "")
        more = f"{one['amplified']} x" if one["success"] else ""
        table.add_row(name, one["before"], one["after"], *verdict, *figures, more)
    output.console().print(table)
    lost = sum(one["success"] and not one["success_png"] for one in told["images"])
    folder = Path(told["images"][0]["files"]["before"]).parent
    output.notes(
        f"{told['model']}, {told['chosen']}. Pictures are in {folder}/.",
        *(
            [f"{lost} no longer deceive once rounded to 8 bits: --confidence 1 goes further."]
            if lost
            else []
        ),
        told["about"],
        "Success: by the network in float32; on the PNG: once more on the file, read back.",
        told["data"],
        told["use"],
    )
