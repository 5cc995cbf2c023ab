"""The report: numbers under the contract's names, a page that is whole, safe and offline."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from octrobust import config
from octrobust.attack.shards import COLUMNS as RECORD_COLUMNS
from octrobust.attack.shards import open_adversarial
from octrobust.attack.suite import JUDGED
from octrobust.data.arrays import COLUMNS as ARRAY_COLUMNS
from octrobust.data.arrays import open_split, stored_side
from octrobust.errors import UserError
from octrobust.evaluation import robustness
from octrobust.evaluation.distortion import distortion, histogram
from octrobust.evaluation.flags import Flag
from octrobust.evaluation.metrics import classification
from octrobust.files import sha256_file, write_csv, write_json
from octrobust.report.examples import Example, median_example
from octrobust.report.page import build, data_statement
from octrobust.report.results import read_results
from octrobust.report.style import LOOKS, Look, render
from octrobust.report.wording import NBSP, duration, percent

SIDE = 80
IMAGES = 8  # of the test split, first half NORMAL
HOSTILE = 'CNV/CNV-"><img src=x onerror=alert(1)>$-1.jpeg'
CURVES = (
    *("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"),
    "learning_rate",
)
# The control is the most robust: it must not be chosen.
ROBUST = {"hardened_static": 0.2, "hardened_control": 0.9, "hardened_online": 0.8}
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
        for name in ("config_1", "hardened_static", "hardened_online")
    ),
    *("attack_success_rate", "attack_success_rate_8bit"),
    *("median_l2_attacked", "median_l2_adaptive", "median_l2_ratio_hardened_online"),
    *(f"validation_robust_accuracy_{name}" for name in ROBUST),
}


def write_arrays(folder: Path) -> None:
    side = stored_side(SIDE)
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 200, (IMAGES, side, side), dtype=np.uint8)
    np.save(folder / "test.npy", pixels)
    rows = []
    for i in range(IMAGES):
        label = "NORMAL" if i < IMAGES // 2 else "CNV"
        path = HOSTILE if label == "CNV" else f"{label}/{label}-{i}-1.jpeg"
        values = (i, path, label, f"<b>{i}</b>", int(i >= IMAGES // 2))
        rows.append(dict(zip(ARRAY_COLUMNS, values, strict=True)))
    write_csv(folder / "test.csv", rows, ARRAY_COLUMNS)


def write_adversarial(folder: Path, arrays: Path, succeeded: list[bool]) -> None:
    """Image i moves by 0.01 (i + 1) everywhere, so L2 grows with the row."""
    folder.mkdir(parents=True)
    images = open_split(arrays, "test", SIDE)
    clean = images.views(slice(None))
    steps = 0.01 * (1 + np.arange(IMAGES, dtype=np.float32))
    moved = clean + steps[:, None, None, None] * np.array(succeeded)[:, None, None, None]
    shards = []
    for number, start in enumerate(range(0, IMAGES, 5)):  # 5: the last shard is not full
        name = f"shard-{number:05d}.npz"
        np.savez_compressed(folder / name, x_adv=moved[start : start + 5].astype(np.float32))
        shards.append({"name": name, "sha256": sha256_file(folder / name)})
    rows = []
    for i, success in enumerate(succeeded):
        target = int(images.targets[i])
        row: dict[str, Any] = dict.fromkeys(RECORD_COLUMNS, 0)
        row |= {"row": i, "target": target, "prediction_before": target, "iterations": 10}
        row |= {"prediction_after": 1 - target if success else target}
        row |= {"success": int(success), "success_8bit": int(success)}
        distance = float(steps[i] * SIDE) if success else ""
        row |= dict.fromkeys(("l0", "l1", "l2", "elastic_net", "const"), distance)
        row["linf"] = float(steps[i]) if success else ""
        rows.append(row)
    write_csv(folder / "records.csv", rows, RECORD_COLUMNS)
    manifest = {"shard_size": 5, "shape": [1, SIDE, SIDE], "shards": shards, "made_by": {}}
    records = {"records_sha256": sha256_file(folder / "records.csv")}
    write_json(folder / "manifest.json", {**manifest, **records})


def score(correct: int) -> dict[str, Any]:
    targets = np.arange(100) % 2
    right = np.arange(100) < correct
    positive = np.where(right, targets, 1 - targets) * 0.8 + 0.1
    return classification(targets, positive, [""] * 100, 0.95)


def battery(model: str) -> dict[str, Any]:
    """Ten images, turned by PGD at growing distances."""
    distance = np.linspace(0.2, 3.0, 10)
    distance[-1] = np.nan
    success = np.isfinite(distance)
    found = dict.fromkeys(JUDGED, success)
    found |= dict.fromkeys(("l1", "l2", "linf", "elastic_net"), distance)
    budgets = {"l2": [0.25, 0.5, 1.0], "linf": [0.02]}
    plan = {"pgd_l2_1": ("white-box", "l2", 1.0), "ead_en": ("white-box", None, None)}
    attacks = dict.fromkeys(plan, found)
    right = np.ones(10, dtype=bool)
    part = robustness.summary(plan, attacks, right, [""] * 10, budgets, 0.95)
    flags = [vars(Flag("gradients vanish", model, True, "seen <b>20 %</b>"))]
    counts = {"images": 10, "patients": 5, "confidence_level": 0.95}
    return {**counts, "channels": {"grey": part}, "flags": flags}


def write_numbers(project: Path) -> None:
    records = open_adversarial(project / "data/adversarial/test").records
    found = distortion(records)
    sources = ("config_1", "config_2", "hardened_static", "hardened_control", "hardened_online")
    models: dict[str, Any] = {
        name: {"clean": score(clean)}
        | {source: score(3 if source == name else 60) for source in sources}
        | {"config_1": score(static)}
        for name, clean, static in (
            ("config_1", 97, 2),
            ("config_2", 96, 40),
            ("config_3", 95, 50),
            ("hardened_static", 94, 70),
            ("hardened_control", 96, 30),
            ("hardened_online", 93, 80),
        )
    }
    evaluation = {
        "target": "config_1",
        "corruptions": {name: {"blur": {"1": 0.9, "3": 0.5}} for name in models},
        "flags": [],
        "classes": ["NORMAL", "CNV"],
        "positive": "CNV",
        "confidence_level": 0.95,
        "models": models,
        "distortion": dict.fromkeys(sources, found),
        "distortion_ratios": {
            "hardened_online": {"ratio": 4.5, "low": 3.0, "high": 6.0, "images": 7}
        },
        "validation_robust": {"l2": 0.5, "accuracy": ROBUST},
        "mcnemar": [
            {"on": on, "first": "config_1", "second": "hardened_online", "p": 0.01}
            | {"first_only": 1, "second_only": 9, "p_adjusted": 0.02}
            for on in ("clean", "config_1")
        ],
    }
    metrics = project / "metrics"
    write_json(metrics / "evaluation.json", evaluation)
    for name in models:
        numbers = {"train_seconds": 61.0, "epochs": 2, "best_epoch": 1, "extra_key": 0}
        numbers |= {"validation_accuracy": 0.9}
        write_json(metrics / "train" / f"{name}.json", numbers)
        made_by = {"variant": {"method": "online"}} if name == "hardened_online" else {}
        stored = {"architecture": "net", "weights_sha256": f"hash-of-{name}", "made_by": made_by}
        write_json(project / "models" / name / "model.json", stored)
        rows = [dict.fromkeys(CURVES, 0.5) | {"epoch": float(i)} for i in (1, 2)]
        write_csv(project / "plots" / "training" / f"{name}.csv", rows, CURVES)
    for name in ("config_1", "hardened_static", "hardened_online"):
        write_json(metrics / "battery" / f"{name}.json", battery(name))
        lines = [
            {"channels": "grey", "distance": d, "budget": b, "robust_accuracy": 1 - b / 4}
            for d in ("l1", "l2", "linf", "elastic_net")
            for b in (0.0, 1.0, 2.0)
        ]
        write_csv(project / f"plots/robustness/{name}.csv", lines, tuple(lines[0]))
    for name in ("train", "test"):
        attack = {**found, "seconds": 5.0, "images_per_second": 1.6}
        write_json(metrics / "attack" / f"{name}.json", attack)
    ingest = {"images": 41, "patients": 7, "duplicates": 1, "quarantined": 2}
    write_json(metrics / "ingest.json", ingest)
    write_json(metrics / "split.json", {"test": {"images": 8, "patients": 4}})
    validation = {"success": True, "expectations": 31, "failed": 0, "patients_in_two_splits": 0}
    write_json(metrics / "validation.json", validation)
    bins = histogram(
        {
            "made on config_1": records["l2"][records["success"]],
            "made on hardened_static": np.empty(0),
        }
    )
    write_csv(project / "plots/distortion.csv", bins, ("set", "from", "to", "images"))
    calibration = {"from": 0.9, "to": 1.0, "confidence": 0.95, "accuracy": 0.9, "images": 8}
    lines = [
        {"model": "config_1", "made_on": made, **calibration} for made in ("clean", "config_1")
    ]
    write_csv(project / "plots/reliability.csv", lines, tuple(lines[0]))


def make_project(folder: Path, succeeded: list[bool]) -> Path:
    write_arrays(folder / "data/arrays")
    write_adversarial(folder / "data/adversarial/test", folder / "data/arrays", succeeded)
    write_csv(folder / "data/raw/index.csv", [], ("path",))
    write_numbers(folder)
    return folder


def run(project: Path, params: config.Params, **more: Any) -> str:
    page = project / "reports/index.html"
    figures = project / "reports/figures"
    cards = project / "reports/cards"
    build(project, params, page, project / "metrics/summary.json", figures, cards, **more)
    return page.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Collects tags with attributes, and all text outside style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._skip = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skip = tag == "style"
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.text += data


@pytest.fixture(scope="module")
def small(params: config.Params) -> config.Params:
    data = params.data.model_copy(update={"image_size": SIDE, "source": "phantom"})
    return params.model_copy(update={"data": data})


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures without their seconds of drawing."""
    monkeypatch.setattr("octrobust.report.figures.render", lambda *_: b"PNG")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small: config.Params) -> tuple[Path, str]:
    """A project where everything succeeded, and its page."""
    project = make_project(tmp_path_factory.mktemp("whole"), [True] * IMAGES)
    docs = project / "reports/data_docs/index.html"
    docs.parent.mkdir(parents=True)
    docs.write_text("")
    return project, run(project, small, provenance={"Git revision": "abc<i>123"})


def test_summary_has_exactly_the_contracts_names(whole: tuple[Path, str]) -> None:
    summary = json.loads((whole[0] / "metrics/summary.json").read_text())
    assert set(summary) == CONTRACT
    assert summary["accuracy_attacked"] == 0.02
    assert summary["accuracy_hardened"] == 0.70
    assert summary["accuracy_hardened_clean"] == 0.94
    assert summary["accuracy_hardened_adaptive"] == 0.03
    assert summary["median_l2_attacked"] == pytest.approx(0.01 * 4.5 * SIDE)


def test_page_loads_nothing_and_every_picture_is_inside(whole: tuple[Path, str]) -> None:
    page = Page(whole[1])
    addresses = [
        attrs[key] for _, attrs in page.tags for key in ("src", "srcset", "href") if key in attrs
    ]
    assert len([a for a in addresses if a.startswith("data:image/png;base64,")]) == 8 * len(LOOKS)
    rest = [a for a in addresses if not a.startswith("data:image/png;base64,")]
    assert rest == ["data_docs/index.html"]
    assert "url(" not in whole[1]
    assert "@import" not in whole[1]
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}


def test_hostile_names_are_text(whole: tuple[Path, str]) -> None:
    page = Page(whole[1])
    assert "onerror=alert(1)&gt;$" in whole[1]  # the file name stands in the alternative text
    assert all("onerror" not in attrs for _, attrs in page.tags)
    assert "abc<i>123" in page.text
    assert "i" not in {tag for tag, attrs in page.tags if not attrs}


def test_paper_stands_beside_ours(whole: tuple[Path, str]) -> None:
    text = re.sub(r"\s+", " ", Page(whole[1]).text)
    for published in ("98.00 %", "97.30 %", "95.40 %", "44 min 34 s", "39 min 56 s", "72 min 45 s"):
        assert published in text
    for ours in ("7.55 %", "50.20 %", "49.20 %", "97.0 % (93.0 to 100.0)", "1 min 1 s"):
        assert ours in text
    assert "Not for clinical use." in text
    assert "unbounded: EAD looks for the smallest change" in text


def test_static_and_adaptive_are_named_by_what_they_were_made_on(whole: tuple[Path, str]) -> None:
    text = Page(whole[1]).text
    static = text.index("static: made on config_1")
    adaptive = text.index("adaptive: made on hardened_static itself")
    assert 0 < adaptive - static < 400  # the row right below
    # The stored set is no transfer attack for the model it was made on.
    assert "adaptive: made on config_1 itself" in text[:static]


def test_figures_are_png_and_the_same_each_time(whole: tuple[Path, str]) -> None:
    folder = whole[0] / "reports/figures"
    assert {path.name for path in folder.iterdir()} == {
        *("figure2.png", "figure3.png", "distortion.png", "confusion_matrices.png"),
        *("training_curves.png", "matrix.png", "robustness.png", "reliability.png"),
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


@pytest.mark.usefixtures("undrawn")
def test_no_success_in_a_direction_gives_a_placeholder(
    tmp_path: Path, small: config.Params
) -> None:
    project = make_project(tmp_path, [False] * 4 + [True] * 4)
    page = run(project, small)
    assert "the attack failed on 4 of the 8 images" in page
    assert "turned no correctly classified NORMAL test image into CNV" in " ".join(page.split())
    assert not (project / "reports/figures/figure2.png").exists()
    assert (project / "reports/figures/figure3.png").exists()


@pytest.mark.usefixtures("undrawn")
def test_no_success_at_all_still_gives_a_page(tmp_path: Path, small: config.Params) -> None:
    project = make_project(tmp_path, [False] * IMAGES)
    page = run(project, small)
    summary = json.loads((project / "metrics/summary.json").read_text())
    assert set(summary) == CONTRACT
    assert summary["median_l2_attacked"] is None
    assert "the attack never succeeded" in page


def test_data_docs_are_linked_relative_to_the_page(whole: tuple[Path, str]) -> None:
    assert '<a href="data_docs/index.html">' in whole[1]


def test_statement_follows_the_source(whole: tuple[Path, str], small: config.Params) -> None:
    results = read_results(whole[0], small)
    said = {}
    for source in ("phantom", "folder", "kermany"):
        data = small.data.model_copy(update={"source": source})
        said[source] = data_statement(results, small.model_copy(update={"data": data}))
    assert "synthetic" in said["phantom"]
    assert "say nothing about patients" in said["phantom"]
    assert "these 41 images only" in said["folder"]
    assert "Kermany" in said["kermany"]


def test_every_model_has_a_card_with_its_numbers_and_limits(whole: tuple[Path, str]) -> None:
    folder = whole[0] / "reports/cards"
    assert len(list(folder.iterdir())) == 2 * 6 + 1
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
    assert "None" not in (folder / "config_3.md").read_text()


def test_missing_metrics_are_one_clear_line(tmp_path: Path, small: config.Params) -> None:
    with pytest.raises(UserError, match=r"evaluation\.json does not exist"):
        run(tmp_path, small)
    assert not (tmp_path / "reports").exists()


def test_numbers_as_text() -> None:
    texts = [duration(s).replace(NBSP, " ") for s in (4.04, 9.96, 59.6, 4365)]
    assert texts == ["4.0 s", "10 s", "1 min 0 s", "72 min 45 s"]
    assert percent(0.5, 2) == f"50.00{NBSP}%"
    assert percent(None) == "–"


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "solver projection: not the published algorithm"),
        (
            {"solver": "fista", "screen": "predicted", "patience": 9, "warm_start": True},
            "screen predicted, patience 9, warm start: not the published algorithm",
        ),
        ({"solver": "fista"}, "none: the published algorithm"),
    ],
    ids=["demo", "patience", "published"],
)
def test_the_page_says_which_shortcuts_the_attack_took(
    tmp_path: Path, params: config.Params, changes: dict[str, Any], shown: str
) -> None:
    shortcuts = params.attack.shortcuts.model_copy(update=changes)
    attack = params.attack.model_copy(update={"shortcuts": shortcuts})
    page = run(
        make_project(tmp_path, [True] * IMAGES), params.model_copy(update={"attack": attack})
    )
    assert shown in page


def test_the_best_defence_is_chosen_on_validation_images_and_no_control(
    whole: tuple[Path, str],
) -> None:
    best = json.loads((whole[0] / "reports/cards/best.json").read_text())
    assert best["name"] == "hardened_online"
    assert best["weights_sha256"] == "hash-of-hardened_online"
    assert best["robust_accuracy"] == 0.8
    assert best["measured"].startswith("validation, PGD L2 0.5, grey, ")
