"""The report: numbers under the contract's names, a page that is whole, safe and offline."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from octrobust import config
from octrobust.attack import speed
from octrobust.attack.shards import open_adversarial
from octrobust.data.arrays import open_split
from octrobust.errors import UserError
from octrobust.report import cards
from octrobust.report.examples import Example, extremes, median_example
from octrobust.report.pictures import compare
from octrobust.report.style import Look, render
from octrobust.report.wording import NBSP, duration, number, percent
from tests.made_up import IMAGES, ROBUST, SIDE, make_project, run

CONTRACT = {
    *(f"accuracy_config_{k}" for k in (1, 2, 3)),
    *("accuracy_attacked", "accuracy_hardened", "accuracy_hardened_clean"),
    "accuracy_hardened_adaptive",
    *(f"accuracy_hardened_{name}" for name in ("control", "online")),
    *(f"accuracy_hardened_{name}_clean" for name in ("control", "online")),
    *(f"accuracy_hardened_{name}_adaptive" for name in ("control", "online")),
    *(f"train_seconds_config_{k}" for k in (1, 2, 3)),
    *(f"train_seconds_hardened_{name}" for name in ("static", "control", "online")),
    *(
        f"robust_accuracy_l2_{budget}_{name}"
        for budget in ("0.25", "0.5", "1")
        for name in ("config_1", "hardened_static", "hardened_control", "hardened_online")
    ),
    *("attack_success_rate", "attack_success_rate_8bit"),
    *("median_l2_attacked", "median_l2_adaptive", "median_l2_ratio_hardened_online"),
    *(f"validation_robust_accuracy_{name}" for name in ROBUST),
}


PUBLISHED = config.Shortcuts.model_validate(vars(speed.Shortcuts()))
PROJECTION = PUBLISHED.model_copy(update={"solver": "projection"})


def test_summary_has_exactly_the_contracts_names(whole: tuple[Path, str]) -> None:
    summary = json.loads((whole[0] / "metrics/summary.json").read_text())
    assert set(summary) == CONTRACT
    assert summary["accuracy_attacked"] == 0.02
    assert summary["accuracy_hardened"] == 0.70
    assert summary["accuracy_hardened_clean"] == 0.94
    assert summary["accuracy_hardened_adaptive"] == 0.03
    assert summary["median_l2_attacked"] == pytest.approx(0.01 * 4.5 * SIDE)


def test_figures_are_png_and_the_same_each_time(whole: tuple[Path, str]) -> None:
    folder = whole[0] / "reports/figures"
    assert {path.name for path in folder.iterdir()} == {
        *("figure2.png", "figure3.png", "distortion.png", "confusion_matrices.png"),
        *("training_curves.png", "matrix.png", "robustness.png", "reliability.png", "gallery.png"),
    }
    for path in folder.iterdir():
        with Image.open(path) as image:
            assert image.width > 1000
            assert np.asarray(image.convert("L")).std() > 5  # not blank

    def draw(figure: Any, look: Look) -> None:
        figure.subplots().plot([0, 1], color=look.series[0])

    assert render(draw, (2, 2), Look()) == render(draw, (2, 2), Look())
    assert render(draw, (2, 2), Look()) != render(draw, (2, 2), Look(dark=True))


def test_example_is_the_median_success_of_its_direction(whole: tuple[Path, str]) -> None:
    images = open_split(whole[0] / "data/arrays", "test", SIDE)
    found = open_adversarial(whole[0] / "data/adversarial/test")
    example = median_example(found, images, ("NORMAL", "CNV"), 1)
    assert example is not None
    # Rows 4 to 7 are CNV, at distances 5 to 8: the lower of the middle two is row 5.
    assert example.linf == pytest.approx(0.06)
    assert (example.true_class, example.found_class, example.of) == ("CNV", "NORMAL", 4)
    np.testing.assert_allclose(example.difference, 0.06, atol=1e-6)
    np.testing.assert_array_equal(example.before, images.views([5])[0])


def test_the_gallery_has_the_smallest_and_the_largest_changes_and_none_twice(
    whole: tuple[Path, str],
) -> None:
    images = open_split(whole[0] / "data/arrays", "test", SIDE)
    found = open_adversarial(whole[0] / "data/adversarial/test")
    least, most = extremes(found, images, ("NORMAL", "CNV"), 3)
    assert [one.linf for one in least] == pytest.approx([0.01, 0.02, 0.03])
    assert [one.linf for one in most] == pytest.approx([0.08, 0.07, 0.06])
    assert (most[0].true_class, most[0].found_class, most[0].of) == ("CNV", "NORMAL", 8)
    np.testing.assert_array_equal(most[0].before, images.views([7])[0])
    least, most = extremes(found, images, ("NORMAL", "CNV"), 6)
    assert (len(least), len(most)) == (6, 2)


def test_pictures_are_lossless_and_mid_grey_is_no_change() -> None:
    before = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    after = before.copy()
    after[0, 0, 0] += 0.5
    after[0, 7, 7] -= 0.5
    shown = compare(Example(before, after, "a/b.png", "A", "B", 0.7, 0.5, True, 1))
    pixels = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(one.uri.partition(",")[2]))))
        for one in (shown.before, shown.change)
    ]
    np.testing.assert_array_equal(pixels[0], np.rint(255 * before[0]))
    assert (pixels[1][0, 0], pixels[1][3, 3], pixels[1][7, 7]) == (255, 128, 0)


@pytest.mark.parametrize(("usual", "factor"), [(0.06, 10), (0.004, 200), (0.5, 2), (0.9, 1)])
def test_amplification_suits_most_changed_pixels(usual: float, factor: int) -> None:
    before = np.zeros((1, 8, 8), np.float32)
    after = np.zeros((3, 8, 8), np.float32)
    after[1, :2] = -usual  # of three channels the one that changed is shown
    after[2, 1, 7] = 0.95  # one strong pixel does not pale the others
    example = Example(before, after, "a/b.png", "A", "B", usual, usual, True, 1)
    assert example.amplification == factor
    assert example.difference.shape == (8, 8)
    assert example.difference[0, 0] == np.float32(-usual)
    assert example.difference[1, 7] == np.float32(0.95)
    assert example.changed == 0.25


def test_an_unchanged_image_has_an_amplification() -> None:
    same = np.zeros((1, 4, 4), np.float32)
    assert Example(same, same, "a/b.png", "A", "B", 0, 0, True, 1).amplification == 1


def test_every_model_has_a_card_with_its_numbers_and_limits(whole: tuple[Path, str]) -> None:
    folder = whole[0] / "reports/cards"
    assert len(list(folder.iterdir())) == 2 * 6 + 2
    card = json.loads((folder / "hardened_online.json").read_text())
    assert card["weights_sha256"] == "hash-of-hardened_online"
    assert card["clean"]["accuracy"] == 0.93
    assert card["elastic_net"]["adaptive"]["accuracy"] == 0.03
    assert card["elastic_net"]["static"]["config_1"]["accuracy"] == 0.80
    assert card["battery"]["grey"]["worst_case"]["l2"]["1"]["accuracy"] == 0.7
    assert [flag["name"] for flag in card["flags"]] == ["gradients vanish"]
    assert card["provenance"] == {"Git revision": "abc<i>123"}
    text = (folder / "hardened_online.md").read_text()
    for said in ("Not for clinical use", "synthetic", "made afresh every step", "70.0"):
        assert said in text
    text = (folder / "config_3.md").read_text()
    assert "| a&#124;&lt;b&gt;.pt |" in text
    assert "abc&lt;i&gt;123" in text
    assert "None" not in text


@pytest.mark.parametrize("images", ["clean", "elastic_net"])
def test_a_card_has_the_clinical_readings_clean_and_attacked(
    whole: tuple[Path, str], images: str
) -> None:
    folder = whole[0] / "reports/cards"
    card = json.loads((folder / "hardened_online.json").read_text())
    evaluation = json.loads((whole[0] / "metrics/evaluation.json").read_text())
    made_on = "clean" if images == "clean" else "hardened_online"
    found = evaluation["models"]["hardened_online"][made_on]
    told = card["clean"] if images == "clean" else card["elastic_net"]["adaptive"]
    for name in ("mcc", "brier", "ece"):
        assert told[name] == found[name]
    title = "clean" if images == "clean" else "EAD made on this model (adaptive, no budget)"
    text = (folder / "hardened_online.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {title} |")]
    names = ("sensitivity", "specificity", "auc", "mcc", "brier", "ece")
    assert row.endswith("".join(f" | {number(found[name])}" for name in names) + " |")


def test_a_card_has_the_settings_of_its_attacks(
    whole: tuple[Path, str], small: config.Params
) -> None:
    folder = whole[0] / "reports/cards"
    card = json.loads((folder / "hardened_online.json").read_text())
    told = small.attack.model_dump(exclude={"target", "images_per_class"})
    assert card["elastic_net"]["settings"] == told
    assert card["battery"]["settings"] == small.evaluate.battery.model_dump(exclude={"models"})
    text = (folder / "hardened_online.md").read_text()
    for attack, how in cards.settings(small, battery=True):
        assert f"\n| {attack} | {how} |\n" in text
    assert f"\nSeed {small.evaluate.battery.seed}." in text
    # A model that the battery was not run on has EAD's settings alone.
    text = (folder / "config_3.md").read_text()
    assert f"| EAD | learning rate {small.attack.learning_rate:g}, " in text
    assert "battery" not in text
    assert "| PGD |" not in text


def test_every_attack_is_said_with_what_it_was_told(params: config.Params) -> None:
    sizes = {"steps": 6, "restarts": 2, "square_queries": 15, "hop_skip_jump_rounds": 0}
    battery = params.evaluate.battery.model_copy(
        update={**sizes, "noise_draws": 3, "channels": ["grey"]}
    )
    evaluate = params.evaluate.model_copy(update={"battery": battery})
    numbers = {"learning_rate": 0.05, "binary_search_steps": 9, "max_iter": 10}
    attack = params.attack.model_copy(
        update={**numbers, "decision_rule": "L2", "channels": "rgb", "shortcuts": PROJECTION}
    )
    changed = params.model_copy(update={"evaluate": evaluate, "attack": attack})
    told = dict(cards.settings(changed, battery=True))
    assert "learning rate 0.05, 9 search steps of at most 10 iterations" in told["EAD"]
    assert (
        "decision rule L2, in the battery EN and L1; channels: rgb, in the battery grey"
        in (told["EAD"])
    )
    assert told["EAD's shortcuts"].startswith("solver projection: not the published algorithm")
    assert told["PGD"] == "6 steps from the image itself; random starts: 2"
    assert told["APGD, cross-entropy"] == "6 steps; random starts: 3"
    assert told["Square (scores)"] == "15 queries, L∞ alone"
    assert told["HopSkipJump (labels)"] == "not run"
    assert told["noise"] == "the worst of 3 draws at the whole budget"


@pytest.mark.parametrize(
    ("shortcuts", "said"),
    [
        ({}, "none: the published algorithm"),
        ({"warm_start": True}, "warm start True: not the published algorithm"),
    ],
)
def test_the_published_algorithm_and_no_other_is_called_so(
    params: config.Params, shortcuts: dict[str, Any], said: str
) -> None:
    chosen = PUBLISHED.model_copy(update=shortcuts)
    attack = params.attack.model_copy(update={"shortcuts": chosen})
    told = dict(cards.settings(params.model_copy(update={"attack": attack}), battery=False))
    assert told["EAD's shortcuts"] == said


def test_the_experiment_in_a_few_lines_has_the_worse_number_and_the_limits(
    whole: tuple[Path, str],
) -> None:
    text = (whole[0] / "reports/cards/experiment.md").read_text().replace(NBSP, " ")
    rows = [line for line in text.splitlines() if line.startswith("| hardened_static")]
    assert any("adaptive | 3.0 % |" in row for row in rows)
    assert any("static: made on config_1 | 70.0 % |" in row and "50.20 %" in row for row in rows)
    assert "Not for clinical use" in text
    assert "synthetic" in text


def test_missing_metrics_are_one_clear_line(tmp_path: Path, small: config.Params) -> None:
    with pytest.raises(UserError, match=r"evaluation\.json does not exist"):
        run(tmp_path, small)
    assert not (tmp_path / "reports").exists()


@pytest.mark.usefixtures("undrawn")
def test_the_summary_has_its_names_where_nothing_succeeded(
    tmp_path: Path, small: config.Params
) -> None:
    project = make_project(tmp_path, [False] * IMAGES)
    run(project, small)
    summary = json.loads((project / "metrics/summary.json").read_text())
    assert set(summary) == CONTRACT
    assert summary["median_l2_attacked"] is None


def test_numbers_as_text() -> None:
    texts = [duration(s).replace(NBSP, " ") for s in (4.04, 9.96, 59.6, 4365)]
    assert texts == ["4.0 s", "10 s", "1 min 0 s", "72 min 45 s"]
    assert percent(0.5, 2) == f"50.00{NBSP}%"
    assert percent(None) == "–"


def test_the_best_defence_is_chosen_on_validation_images_and_no_control(
    whole: tuple[Path, str],
) -> None:
    best = json.loads((whole[0] / "reports/cards/best.json").read_text())
    assert best["name"] == "hardened_online"
    assert best["weights_sha256"] == "hash-of-hardened_online"
    assert best["robust_accuracy"] == 0.8
    assert best["measured"].startswith("validation, PGD L2 0.5, grey, ")
