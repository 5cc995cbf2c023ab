"""The benchmark's verdicts, on records made by hand: none may flatter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import scale
from bench import readme, statistics
from bench.stages import new_checkout

from octrobust import config

OURS, PROJECTION = "octrobust", "octrobust, projection solver"
HERE = Path("record.json")


def run(name: str, seconds: float, distances: list[float | None], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "library": name.split(",")[0],
        "turn": 0,
        "seconds": seconds,
        "success": [value is not None for value in distances],
        "elastic_net": distances,
        "rss_mib": 100.0,
        **more,
    }


def verdicts(kind: str, runs: list[dict[str, Any]], **more: Any) -> dict[str, tuple[str, str]]:
    """What was measured and whether it is reached, by the number to reach."""
    document = {"kind": kind, "machine": {"gpu": None}, "runs": runs, **more}
    found = readme.judge(HERE, document)
    return {what: (measured, reached) for what, _, measured, reached in found}


def test_a_quicker_median_at_fewer_successes_is_not_there_yet() -> None:
    peer = [0.1, 0.1, 0.1, 0.1]
    document = {
        "runs": [
            run("foolbox", 60.0, peer, max_iter=10),
            run(PROJECTION, 2.0, [0.1, 0.1, 0.1, None], max_iter=10),
            run(PROJECTION, 4.0, [0.1, 0.1, 0.1, 0.2], max_iter=25),
        ]
    }
    race = statistics.race(document, [PROJECTION])
    assert race is not None
    assert race.ours == {PROJECTION: 4.0}
    ((measured, reached),) = verdicts("quality", document["runs"]).values()
    assert measured.startswith("15.0 x")
    assert reached == "yes"


def test_a_median_among_many_failures_is_not_judged() -> None:
    half = [0.1, 6.0, None, None]
    found = verdicts("compare", [run("foolbox", 9.0, half), run(OURS, 1.0, [0.1, 5.9, None, None])])
    (distance,) = [v for what, v in found.items() if "median" in what]
    assert distance[1] == "–"
    assert "not judged" in distance[0]


@pytest.mark.parametrize(("ours", "reached"), [(0.09, "yes"), (0.11, "**no**")])
def test_a_larger_median_is_said(ours: float, reached: str) -> None:
    peers = [run("foolbox", 9.0, [0.1] * 4), run("ART, batch N", 99.0, [0.1] * 4)]
    found = verdicts("compare", [*peers, run(OURS, 1.0, [ours] * 4)])
    (distance,) = [v for what, v in found.items() if "median" in what]
    assert distance[1] == reached


def test_what_is_reached_beside_some_peers_alone_names_them() -> None:
    found = verdicts("compare", [run("foolbox", 9.0, [0.1] * 4), run(OURS, 1.0, [0.09] * 4)])
    reached = {which for what, (_, which) in found.items() if "success" in what}
    assert reached == {"yes beside foolbox; ART did not run here"}


def test_a_speed_is_not_reached_where_distances_are_not_judged() -> None:
    half = [0.1, 6.0, None, None]
    found = verdicts("compare", [run("foolbox", 90.0, half), run(OURS, 1.0, [0.1, 0.1, 0.1, 0.1])])
    (speed,) = [v for what, v in found.items() if "fastest other peer" in what]
    assert speed == ("90.0 x; distance not judged", "**no**")


def test_the_slowest_turn_decides_against_the_fastest_peer() -> None:
    channels_last = "advertorch, channels-last network"
    runs = [
        run("foolbox", 90.0, [0.1]),
        run(channels_last, 80.0, [0.1]),
        run(channels_last, 90.0, [0.1]) | {"turn": 1},
        run(OURS, 9.0, [0.1]),
        run(OURS, 12.0, [0.1]) | {"turn": 1},
    ]
    found = verdicts("compare", runs)
    (speed,) = [(what, v) for what, v in found.items() if "fastest other peer" in what]
    assert channels_last in speed[0]
    assert speed[1][1] == "**no**"  # 80 / 9, and 90 / 12 = 7.5


@pytest.mark.parametrize(("ours", "reached"), [(0.1, "yes"), (0.11, "**no**")])
def test_a_speed_at_a_larger_median_is_not_reached(ours: float, reached: str) -> None:
    peers = [run("foolbox", 90.0, [0.1] * 4), run("ART, batch N", 99.0, [0.1] * 4)]
    found = verdicts("compare", [*peers, run(OURS, 9.0, [ours] * 4)])
    (speed,) = [v for what, v in found.items() if "fastest other peer" in what]
    assert speed[1] == reached


def test_a_single_turn_is_set_beside_every_turn_of_ours() -> None:
    art = run("ART, batch N", 210.0, [0.1])
    slow = run(OURS, 11.0, [0.1]) | {"turn": 1}
    found = verdicts("compare", [art, run(OURS, 10.0, [0.1]), slow])
    (speed,) = [v for what, v in found.items() if "ART" in what and "≥ 20 x" in what]
    assert speed == ("19.1 to 21.0 x", "**no**")


def test_memory_that_grows_is_not_flat() -> None:
    def measured(*mib: float) -> list[dict[str, Any]]:
        return [
            run(f"{i}", 1.0, [0.1], images=4**i) | {"rss_mib": value, "network": "linear"}
            for i, value in enumerate(mib)
        ]

    ((_, reached),) = verdicts("memory", measured(200, 210, 215)).values()
    assert reached == "yes"
    ((_, reached),) = verdicts("memory", measured(200, 210, 230)).values()
    assert reached == "**no**"


def test_the_floor_counts_screens_as_arithmetic_and_leaves_verdicts_out() -> None:
    ours = run(
        *("octrobust, fp32", 8.0, [0.1]),
        precision="fp32",
        seconds_an_iteration=8 / 30,
        verdict_seconds=3.0,
        gradients=30.0,
        screens=10.0,
    )
    floor = {"gflop": 6.0, "rates": {"fp32": {"gflops": 100.0, "forward_ms": 20.0}}}
    found = verdicts("floor", [ours | {"library": "octrobust"}], floor=floor, setting={"images": 1})
    # 1 image x (30 x 60 ms + 10 x 20 ms) of 8 - 3 s; and no bf16 here.
    assert next(iter(found.values())) == (
        "40%; whole attack, screens and verdicts as overhead, 22%",
        "**no**",
    )
    assert [reached for _, reached in found.values()] == ["**no**", "**no**"]


def test_the_parameters_of_the_scale_runs_are_those_of_today(tmp_path: Path) -> None:
    splits = {"train": 8, "validation": 2, "test": 2, "extra": 2}
    new_checkout(tmp_path, scale._changes(tmp_path, splits, 75))
    assert list(config.load(tmp_path / "params.yaml").harden.variants) == ["static"]


def test_the_page_of_results_is_of_the_files_beside_it(tmp_path: Path) -> None:
    """`python benchmarks/ead.py readme` after every run that is kept."""
    results = ROOT / "benchmarks" / "results"
    for path in results.glob("*.json"):
        (tmp_path / path.name).symlink_to(path)
    for path in results.glob("*.png"):
        (tmp_path / path.name).symlink_to(path)
    readme.write(tmp_path)
    assert (tmp_path / "README.md").read_text() == (results / "README.md").read_text()
