"""Which stored model is asked. No torch in here: the shell's completion calls it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from octrobust.errors import UserError
from octrobust.files import read_json

CARD = "model.json"
BEST = Path("reports", "cards", "best.json")


@dataclass(frozen=True)
class Stored:
    """A model of the project; `why` it is this one. classes: names by label; image_size: the side
    of the network's input."""

    name: str
    folder: Path
    why: str
    classes: tuple[str, ...]
    image_size: int


def stored_models(project: Path) -> list[str]:
    """Names, in alphabetical order."""
    return sorted(path.parent.name for path in (project / "models").glob(f"*/{CARD}"))


def choose(project: Path, name: str | None) -> Stored:
    """The model of this name; None: the best defence, as the report chose it by validation images.

    Raises:
        UserError: there is none.
    """
    known = stored_models(project)
    if not known:
        raise UserError(
            f"{project / 'models'} holds no model: `dvc repro` makes them, `dvc pull` fetches them"
        )
    why = "as asked"
    if name is None:
        name, why = _best(project, known)
    # As the shell completes a folder.
    name = name.rstrip("/").removeprefix("models/")
    if name not in known:
        raise UserError(f"--model: '{name}' is none of: {', '.join(known)}")
    folder = project / "models" / name
    made_by = read_json(folder / CARD).get("made_by", {})
    try:
        return Stored(name, folder, why, tuple(made_by["classes"]), int(made_by["image_size"]))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{folder / CARD} is no model's card: run `dvc repro`") from None


def _best(project: Path, known: list[str]) -> tuple[str, str]:
    path = project / BEST
    if not path.exists():
        raise UserError(
            f"{BEST} does not exist, which names the best hardened model: run `dvc repro`, or name "
            f"one by --model: {', '.join(known)}"
        )
    best = read_json(path)
    accuracy, how = best["robust_accuracy"], best["measured"].partition(", data ")[0]
    return best["name"], f"the best hardened model: {100 * accuracy:.1f} % robust on {how}"
