"""The page as HTML: whole, safe, offline, with words for every picture."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from scipy.stats import binomtest

from octrobust import config
from octrobust.files import read_json, write_json
from octrobust.report.attacked import attack_settings
from octrobust.report.data import data_statement, stamp
from octrobust.report.leakage import METRICS, audit_table
from octrobust.report.results import REPLAYED as REPLAYED_FILE
from octrobust.report.results import Results, read_results
from octrobust.report.style import LOOKS
from octrobust.report.verdict import verdict
from octrobust.report.wording import NBSP, interval
from tests.conftest import ROOT
from tests.made_up import IMAGES, make_project, run

SECTIONS = (
    *("headline", "budget", "matrix", "gallery", "training", "flags", "models", "attack", "data"),
    *("provenance", "next"),
)
LARGEST = 5_000_000  # bytes
REPLAYED = read_json(REPLAYED_FILE)


class Page(HTMLParser):
    """Tags with attributes, all text outside style and script, and the scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text += data

    def words(self) -> str:
        return re.sub(r"[ \n]+", " ", self.text)

    def each(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(whole: tuple[Path, str]) -> Page:
    return Page(whole[1])


@pytest.fixture(scope="module")
def results(whole: tuple[Path, str], small: config.Params) -> Results:
    return read_results(whole[0], small)


def test_page_loads_nothing_and_every_picture_is_inside(
    whole: tuple[Path, str], page: Page
) -> None:
    addresses = [
        attrs[key] for _, attrs in page.tags for key in ("src", "srcset", "href") if key in attrs
    ]
    inside = [a for a in addresses if a.startswith("data:image/png;base64,")]
    gallery = 2 * 3 * 3  # ends x examples x pictures
    assert len(inside) == 5 * len(LOOKS) + 2 * 3 + gallery
    rest = [a for a in addresses if a not in inside and not a.startswith("#")]
    assert rest == ["data_docs/index.html"]
    assert "url(" not in whole[1]
    assert "@import" not in whole[1]
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert len(whole[1]) < LARGEST


def test_the_only_script_is_the_one_the_policy_names(page: Page) -> None:
    (policy,) = [a["content"] for a in page.each("meta") if "http-equiv" in a]
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy


def test_hostile_names_are_text(whole: tuple[Path, str], page: Page) -> None:
    assert "onerror=alert(1)&gt;$" in whole[1]  # the file name stands in the alternative text
    assert all("onerror" not in attrs for _, attrs in page.tags)
    assert "abc<i>123" in page.text
    assert "i" not in {tag for tag, attrs in page.tags if not attrs}


def test_every_picture_says_what_it_shows_with_a_number(page: Page) -> None:
    texts = [attrs["alt"] for attrs in page.each("img")]
    assert len(texts) == 5 + 2 * 3 + 2 * 3 * 3
    clean = [text for text in texts if "the clean scan" in text]
    assert all(re.search(r"\d", text) for text in texts if text not in clean)
    assert any(f"config_1 90{NBSP}%" in text for text in texts)  # of the budget's curves


def test_every_section_is_there_and_in_the_contents(page: Page) -> None:
    names = [attrs["id"] for attrs in page.each("section")]
    assert tuple(names) == SECTIONS
    anchors = [a["href"][1:] for a in page.each("a") if a["href"].startswith("#")]
    assert anchors == names
    all_names = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(all_names) == len(set(all_names))


def test_tables_scroll_in_a_box_that_the_keyboard_reaches(page: Page) -> None:
    boxes = [attrs for attrs in page.each("div") if attrs.get("class") == "scroll"]
    assert len(boxes) == len(page.each("table"))
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)
    assert len({box["aria-label"] for box in boxes}) == len(boxes)
    assert all(attrs.get("scope") in ("col", "row") for attrs in page.each("th"))


def test_paper_stands_beside_ours(page: Page) -> None:
    text = re.sub(r"\s+", " ", page.text)
    for published in ("98.00 %", "97.30 %", "95.40 %", "44 min 34 s", "39 min 56 s", "72 min 45 s"):
        assert published in text
    for ours in ("7.55 %", "50.20 %", "49.20 %", "97.0 % (93.0 to 100.0)", "1 min 1 s"):
        assert ours in text
    assert "Not for clinical use." in text
    assert "EAD is unbounded: it looks for the smallest change" in text


def test_static_and_adaptive_are_named_by_what_they_were_made_on(page: Page) -> None:
    text = page.text[page.text.index("The paper beside this run") :]
    adaptive = text.index("hardened_static, EAD, no budget, adaptive: made on hardened_static")
    static = text.index("hardened_static, EAD, no budget, static: made on config_1")
    assert 0 < static - adaptive < 400  # the row right below
    # The stored set is no transfer attack for the model it was made on.
    assert "config_1, EAD, no budget, adaptive: made on config_1 itself" in text[:adaptive]


def test_the_stamp_is_near_every_figure(page: Page, small: config.Params) -> None:
    assert page.words().count(stamp(small)) == 2 + 5 + 3  # sliders, charts, headline and so on


@pytest.mark.parametrize(
    ("paper", "undefended", "lead"),
    [
        ((0.5, 0.4, 0.6), (0.3, 0.2, 0.5), "is not shown to protect here"),
        ((0.5, 0.4, 0.6), (0.3, 0.2, 0.39), "does protect here"),
        ((0.2, 0.1, 0.3), (0.5, 0.4, 0.6), "makes it worse here"),
    ],
)
def test_the_verdict_follows_the_intervals(
    results: Results,
    small: config.Params,
    paper: tuple[float, ...],
    undefended: tuple[float, ...],
    lead: str,
) -> None:
    def battery(*ends: float) -> dict[str, object]:
        worst = {"l2": {"0.5": dict(zip(("accuracy", "low", "high"), ends, strict=True))}}
        return {"images": 16, "channels": {"grey": {"worst_case": worst}}}

    found = {"hardened_static": battery(*paper), "config_1": battery(*undefended)}
    said, why = verdict(replace(results, battery=found), small)
    assert lead in said
    assert f"static EAD, no budget), on 3{NBSP}% of those attacked on itself (adaptive)" in why
    assert "hardened_online, the best defence by validation images, was not in the battery" in why


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
    page = run(make_project(tmp_path, [False] * IMAGES), small)
    assert "the attack never succeeded" in page
    assert "No pictures: the attack on config_1 never succeeded" in page


def test_data_docs_are_linked_relative_to_the_page(whole: tuple[Path, str]) -> None:
    assert '<a href="data_docs/index.html">' in whole[1]


def test_statement_follows_the_source(results: Results, small: config.Params) -> None:
    said = {}
    for source in ("phantom", "folder", "kermany", "one_that_a_user_added"):
        data = small.data.model_copy(update={"source": source})
        there = small.model_copy(update={"data": data})
        said[source] = data_statement(results, there)
        assert "Not for clinical use." in stamp(there)
    assert "synthetic" in said["phantom"]
    assert "say nothing about patients" in said["phantom"]
    assert "these 41 images only" in said["folder"]
    assert "Kermany" in said["kermany"]
    assert said["one_that_a_user_added"] == said["folder"]


def test_the_audit_is_shown_for_the_images_it_was_made_on(
    tmp_path: Path, small: config.Params
) -> None:
    assert audit_table(tmp_path, small) is None
    run = {"patients_in_both": 7, "look_alikes_in_both": 2}
    mean = {"accuracy": 0.9, "mcc": 0.8, "auc": 0.95}
    found = {
        "variant": "config_1",
        "source": "phantom",
        "repeats": 2,
        "runs": {"patient": [run, run], "image": [run, run]},
        "mean": {"patient": mean, "image": mean},
        "inflation": {
            "accuracy": {"mean": -0.03, "deviation": 0.028},
            "mcc": {"mean": 0.1, "deviation": None},
            "auc": {"mean": None, "deviation": None},
        },
    }
    write_json(tmp_path / METRICS, found)
    table = audit_table(tmp_path, small)
    assert table is not None
    assert table.rows[0] == ("split by patient", f"90.0{NBSP}%", "0.800", "0.950", "7, 7", "2, 2")
    assert table.rows[2][0] == "inflation: image minus patient"
    assert table.rows[2][1:4] == (f"-3.0{NBSP}±{NBSP}2.8{NBSP}points", "+0.100", "–")
    assert "nothing about patients" in table.reading
    write_json(tmp_path / METRICS, {**found, "source": "folder"})
    assert audit_table(tmp_path, small) is None
    data = small.data.model_copy(update={"source": "folder"})
    own = audit_table(tmp_path, small.model_copy(update={"data": data}))
    assert own is not None
    assert own.reading.endswith("These images only.")


@pytest.mark.usefixtures("undrawn")
def test_seeds_and_the_replay_are_on_the_page(tmp_path: Path, small: config.Params) -> None:
    """As `tests/pipeline/test_repeats.py` sees their stages write them."""
    project = make_project(tmp_path, [True] * IMAGES)
    each = {"clean": 0.9, "static": 0.5, "pgd_l2_0.5": 0.25}
    models = dict.fromkeys(("config_1", *small.hardened()), each)
    for seed in (4, 5):
        write_json(project / f"metrics/seeds/{seed}.json", {"models": models})
    accuracies = ("fresh_train_accuracy", "fresh_clean_accuracy", "hardened_clean_accuracy")
    shares = ("attacked_fixed", "attacked_stepping", "hardened_fixed", "hardened_stepping")
    others = ("hardened_clean_accuracy_after", "commonest_answer_share")
    replayed = dict.fromkeys((*accuracies, *shares, *others), 0.375)
    replayed |= {"attacked_images": 4, "test_images": 8}
    write_json(project / "metrics/replay/notebooks.json", replayed)
    published = config.load(ROOT / "presets/published.yaml")
    evaluate = small.evaluate.model_copy(update={"seeds": [4, 5]})
    words = Page(
        run(project, small.model_copy(update={"evaluate": evaluate, "replay": published.replay}))
    ).words()
    assert "Over seeds" in words
    assert f"50.0{NBSP}±{NBSP}0.0{NBSP}%" in words
    assert "Notebooks, replayed here" in words
    assert "The middle column is of this run's images." in words
    assert f"37.5{NBSP}% {wilson(3, 8)} as they measured, stepping on the 8 attacked test" in words
    assert REPLAYED["provenance"]["revision"][:7] not in words


def test_a_run_without_a_replay_shows_the_committed_one_and_where_it_is_from(page: Page) -> None:
    words, told = page.words(), REPLAYED["provenance"]
    assert "Notebooks, replayed by us" in words
    assert f"not part of this run, nor of its images: replayed by us {told['data']}; " in words
    for what in (f"revision {told['revision'][:7]}", told["date"], told["command"]):
        assert what in words
    share, images = REPLAYED["attacked_stepping"], REPLAYED["attacked_images"]
    shown = f"{100 * share:.1f}{NBSP}% {wilson(round(share * images), images)} as they measured"
    assert shown in words


def wilson(right: int, images: int) -> str:
    """The interval as the page has it."""
    found = binomtest(right, images).proportion_ci(0.95, method="wilson")
    return interval(found.low, found.high)


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
    results: Results, small: config.Params, changes: dict[str, object], shown: str
) -> None:
    shortcuts = small.attack.shortcuts.model_copy(update=changes)
    attack = small.attack.model_copy(update={"shortcuts": shortcuts})
    table = attack_settings(results, small.model_copy(update={"attack": attack}))
    assert ("shortcuts", shown) in table.rows
