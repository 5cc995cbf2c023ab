"""What is said of two models, and of two budgets: tests, controls, and attacks run alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from scipy.stats import false_discovery_control
from torch import Tensor

from octrobust.attack.suite import Attack
from octrobust.attack.through_art import Candidates
from octrobust.config import Params, load
from octrobust.evaluation.intervals import mcnemar
from octrobust.files import write_csv
from octrobust.stages import battery, compare

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 12
PATIENTS = [f"patient {i // 2}" for i in range(IMAGES)]


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Params:
    told = yaml.safe_load((ROOT / "params.yaml").read_text())
    told["evaluate"]["battery"] |= {
        "models": ["config_1", "hardened_static", "hardened_control"],
        "l2": [0.25, 0.5, 1.0],
        "channels": ["grey"],
    }
    path = tmp_path_factory.mktemp("compare") / "params.yaml"
    path.write_text(yaml.safe_dump(told))
    return load(path)


def first(count: int) -> NDArray[np.bool_]:
    return np.arange(IMAGES) < count


RIGHT = {
    "config_1": {"clean": first(12), "config_1": first(0)},
    "hardened_static": {"clean": first(10), "config_1": first(10)},
    "hardened_control": {"clean": first(12), "config_1": first(2)},
    "hardened_online": {"clean": first(12), "config_1": first(2)},
}


def test_a_model_is_not_tested_against_others_on_the_set_made_on_it() -> None:
    survivors = {"config_1": first(1), "hardened_static": first(9)}
    found = list(compare.tests(RIGHT, "config_1", survivors))
    pairs = [(one["on"], one["first"], one["second"]) for one in found]
    assert sum(on == "clean" for on, *_ in pairs) == 6
    assert [pair for pair in pairs if pair[0] == "config_1"] == [
        ("config_1", "hardened_static", "hardened_control"),
        ("config_1", "hardened_static", "hardened_online"),
        ("config_1", "hardened_control", "hardened_online"),
    ]
    assert found[-1]["on"] == "battery"
    assert found[-1]["p"] == mcnemar(first(1), first(9))["p"]
    adjusted = false_discovery_control([one["p"] for one in found])
    assert [one["p_adjusted"] for one in found] == adjusted.tolist()


def records(folder: Path, model: str, l2: list[float]) -> None:
    """A battery of one attack, on the test images 10, 8, ... 0; no distance: it found nothing."""
    rows = [
        dict.fromkeys(battery.FLAGS, int(np.isfinite(distance)))
        | dict.fromkeys(("l0", "l1", "l2", "linf", "elastic_net"), distance)
        | {"channels": "grey", "attack": "pgd_l2_1", "row": row}
        for row, distance in zip(range(10, -1, -2), l2, strict=True)
    ]
    rows = [{key: "" if value != value else value for key, value in row.items()} for row in rows]
    write_csv(folder / f"{model}.csv", rows, ("channels", "attack", "row", *battery.COLUMNS))


NAN = float("nan")


def test_what_outlives_the_battery_is_found_by_its_rows(params: Params, tmp_path: Path) -> None:
    for name in ("config_1", "hardened_control"):
        records(tmp_path, name, [0.1] * 6)
    # Image 10, beyond the middle budget, is wrong when clean; 8 is within; 6 was never turned; 4 a
    # rounding beyond.
    records(tmp_path, "hardened_static", [0.6, 0.4, NAN, 0.500001, NAN, 0.51])
    rows, kept = compare.survivors_of(params, RIGHT, tmp_path)
    assert rows.tolist() == [10, 8, 6, 4, 2, 0]
    assert kept["hardened_static"].tolist() == [False, False, True, False, True, True]
    assert not kept["hardened_control"].any()


class Brightness(torch.nn.Module):
    """Class 1 where an image is bright on the whole."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x.mean((1, 2, 3)) - 0.5
        return torch.stack([-bright, bright], dim=1)


@pytest.mark.parametrize("method", ["pgd", "apgd"])
def test_pgd_alone_is_run_on_what_it_turned_within_less(method: str) -> None:
    """The larger budget brightens the second image alone; the smaller one had the first."""
    x, y = torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64)
    clean = battery._Clean(x, y, torch.ones(3, dtype=torch.bool))
    asked: list[int] = []

    def brighten(number: int) -> Candidates:
        def run(some: Tensor, classes: Tensor) -> Tensor:
            asked.append(len(some))
            found = some.clone()
            found[number - (3 - len(some))] = 1.0
            return found

        return run

    found: dict[str, Any] | None = None
    for budget, number in ((1.0, 0), (2.0, 1)):
        attack = Attack(method, "white-box", "l2", budget, brighten(number))
        found = battery._attack(Brightness(), attack, clean, found, 0.001)  # type: ignore[arg-type]
    assert found is not None
    assert found["success"].tolist() == [True, True, False]
    again = method == "pgd"
    assert found["success_alone"].tolist() == [not again, True, False]
    assert asked == [3, 3 if again else 2]


def flags(params: Params, survivors: dict[str, Any]) -> dict[tuple[str, str], compare.Flag]:
    rows = {"clean": np.arange(IMAGES), "config_1": np.arange(IMAGES)}
    predicted = dict.fromkeys(params.hardened(), np.arange(IMAGES) % 2)
    attacked = np.array([10, 8, 6, 4, 2, 0])
    found = compare.flags(params, RIGHT, rows, predicted, PATIENTS, survivors, attacked)
    return {
        (flag.model, flag.seen.partition(":")[0]): flag
        for flag in found
        if flag.name == "no better than a control"
    }


def test_a_defence_must_beat_its_control_on_stored_images_and_in_the_battery(
    params: Params,
) -> None:
    static, adaptive = (
        "EAD made on config_1 (static)",
        "worst of the battery within L2 0.5 (adaptive)",
    )
    all_six, none = np.ones(6, dtype=bool), np.zeros(6, dtype=bool)
    half = np.array([True, False] * 3)
    kept = {"config_1": none, "hardened_static": all_six, "hardened_control": none}
    found = flags(params, kept)
    # Ten of twelve against two; as many as the control's; and all of the battery against none.
    assert not found["hardened_static", static].raised
    assert found["hardened_online", static].raised
    assert not found["hardened_static", adaptive].raised
    assert ("config_1", adaptive) not in found
    assert ("hardened_control", adaptive) not in found
    assert flags(params, {**kept, "hardened_control": half, "hardened_static": ~half})[
        "hardened_static", adaptive
    ].raised
    without = flags(params, {"hardened_static": all_six})
    assert ("hardened_static", adaptive) not in without
