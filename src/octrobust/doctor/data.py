"""Parameters, the images that they name, and what the pipeline has made."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import util
from pathlib import Path

from octrobust import config
from octrobust.doctor.finding import Finding
from octrobust.errors import UserError
from octrobust.files import user_path
from octrobust.inspection.models import stored_models


def parameters(root: Path) -> Iterator[Finding]:
    try:
        config.load(root / "params.yaml")
        yield Finding("parameters", "ok", "params.yaml is valid")
    except UserError as error:
        yield Finding("parameters", "problem", str(error), "correct it, `octrobust check` again")


def images(params: config.Params) -> Iterator[Finding]:
    """What data.source needs."""
    data = params.data
    if data.source == "phantom":
        yield Finding("images", "ok", "synthetic, drawn from a seed: nothing to fetch")
    elif data.archive or data.root:
        key, text = ("archive", data.archive) if data.archive else ("root", data.root)
        path = user_path(text or "")
        there = path.is_file() if data.archive else path.is_dir()
        if there:
            yield Finding("images", "ok", f"data.{key}: {path}")
        else:
            what = f"data.{key}: {path} is not there"
            yield Finding("images", "problem", what, f"correct data.{key} in params.yaml")
    elif util.find_spec("kagglehub") is None:
        mend = "set data.root or data.archive, or run `uv pip install -e '.[kaggle]'`"
        yield Finding("images", "problem", "Kermany's set: no copy named, no kagglehub", mend)
    else:
        yield Finding("images", "ok", "Kermany's set, downloaded by `dvc repro`")


def weights(params: config.Params) -> Iterator[Finding]:
    from octrobust.model.weights import PRETRAINED  # brings torch along

    named = {"model.weights": params.model.weights}
    for name, way in params.harden.variants.items():
        if own := way.first_weights(""):
            named[f"harden.variants.{name}.starts_from"] = own
    for parameter, text in named.items():
        if text in PRETRAINED:
            what = f"{text}: downloaded by the first training that needs them"
            yield Finding("weights", "ok", what)
        elif text != "none":
            mend = f"correct {parameter} in params.yaml"
            try:
                path = user_path(text)
            except UserError as error:
                yield Finding("weights", "problem", f"{parameter}: {error}", mend)
                continue
            if path.is_file():
                yield Finding("weights", "ok", f"{parameter}: {path}")
            else:
                yield Finding("weights", "problem", f"{parameter}: {path} is not there", mend)


def results(root: Path) -> Iterator[Finding]:
    """What is there already; nothing of it has to be."""
    models, arrays = stored_models(root), (root / "data" / "arrays").is_dir()
    if models and arrays:
        yield Finding("results", "ok", f"data/arrays and {len(models)} models")
        return
    missing = [name for name, there in (("models", models), ("data/arrays", arrays)) if not there]
    mend = "run `dvc repro`, or `dvc pull` where a remote has them"
    yield Finding("results", "warning", f"{' and '.join(missing)}: not there yet", mend)
