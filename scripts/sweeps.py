"""Run the sweeps of docs/how-to/sweeps.md in a checkout, and keep what came of them:

    python -m scripts.sweeps CHECKOUT NAME PRESET

takes a clone in which the attacked model is trained, with its parameters committed, runs the attack
alone along each of `QUESTIONS` by DVC's queue, and writes docs/explanation/results/sweep-NAME.json
and docs/images/sweep-NAME-QUESTION.png. Experiments that the clone has are removed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from octrobust import config
from octrobust.errors import UserError, one_line_errors
from octrobust.files import write_json
from scripts.blocks import RESULTS, ROOT
from scripts.keep import provenance

# By question: what is typed after `octrobust sweep`, the axis first.
FISTA = ("attack.shortcuts.solver=fista", "attack.images_per_class.test=16")
QUESTIONS = {
    "beta": ("attack.beta=0.0001,0.001,0.01,0.1",),
    "const": ("attack.initial_const=0.001,0.1,10", *FISTA),
    "steps": ("attack.binary_search_steps=3,6,9", "attack.max_iter=5,10,30", *FISTA),
}


def main(checkout: Path, name: str, preset: Path) -> None:
    _run(checkout, "dvc", "repro", "attack@test")
    made = checkout / "metrics" / "attack" / "test.json"
    found = {question: _sweep(checkout, name, question) for question in QUESTIONS}
    told = provenance(checkout, preset, made, "octrobust sweep")
    target = config.load(checkout / "params.yaml").attack.target
    kept = {"provenance": told, "target": target, "questions": found}
    write_json(RESULTS / f"sweep-{name}.json", kept)


def _sweep(checkout: Path, name: str, question: str) -> dict[str, Any]:
    _run(checkout, "dvc", "exp", "remove", "--all-commits")
    _run(checkout, "dvc", "exp", "remove", "--queue")
    grid = QUESTIONS[question]
    _run(checkout, "octrobust", "sweep", *grid, "--attack-only")
    ended = json.loads(_run(checkout, "octrobust", "sweep", "run", "--json"))
    bad = {key: state for key, state in ended.items() if state != "success"}
    if bad or not ended:
        raise UserError(f"{checkout}: {question}: not all experiments ended well: {bad}")
    axis = grid[0].partition("=")[0]
    picture = ROOT / "docs" / "images" / f"sweep-{name}-{question}.png"
    drawn = _run(checkout, "octrobust", "sweep", "draw", axis, "--out", str(picture), "--json")
    told: dict[str, Any] = json.loads(drawn)
    return {"typed": " ".join(grid), "parameter": axis, "lines": told["lines"]}


def _run(checkout: Path, *command: str) -> str:
    """What it prints; `dvc` and `octrobust` as of that checkout."""
    module = {"octrobust": "octrobust.cli"}.get(command[0], command[0])
    done = subprocess.run(
        [sys.executable, "-m", module, *command[1:]],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout / "src")},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"{checkout}: `{' '.join(command)}` ended with {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    with one_line_errors():
        main(Path(sys.argv[1]).resolve(), sys.argv[2], Path(sys.argv[3]))
