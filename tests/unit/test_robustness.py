"""Robust accuracy from minimal distances, its intervals, and the flags."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from octrobust.evaluation.flags import Flag, battery_flags, constant_flag, control_flag
from octrobust.evaluation.intervals import (
    accuracy_interval,
    difference_interval,
    mcnemar,
    median_ratio,
)
from octrobust.evaluation.robustness import curve, quartiles, robust_accuracy, smallest, summary

NAN = np.nan


def record(l2: list[float]) -> dict[str, Any]:
    values = np.array(l2)
    success = np.isfinite(values)
    distances = dict.fromkeys(("l1", "l2", "linf", "elastic_net"), values)
    return {"success": success, "success_8bit": success, **distances}


ATTACKS = {
    "ead_en": record([0.5, 2.0, NAN, NAN, 1.0]),
    "pgd_l2_1": record([1.0, 1.0, NAN, NAN, NAN]),
}
RIGHT = np.array([True, True, True, False, True])


def test_smallest_is_the_worst_case_of_every_image() -> None:
    least = smallest(ATTACKS, "l2", RIGHT)
    np.testing.assert_array_equal(least, [0.5, 1.0, np.inf, 0.0, 1.0])


def test_robust_accuracy_counts_what_is_turned_within_the_budget() -> None:
    least = smallest(ATTACKS, "l2", RIGHT)
    left = robust_accuracy(least, [0.0, 0.49, 0.5, 1.0, 9.0])
    np.testing.assert_allclose(left, [0.8, 0.8, 0.6, 0.2, 0.2])
    # A candidate at the edge of its ball lies a rounding beyond it.
    edge = robust_accuracy(np.array([1.0 + 1e-6]), [1.0])
    assert edge.tolist() == [0.0]


def test_the_curve_falls_from_clean_to_what_no_attack_turned() -> None:
    points = curve(smallest(ATTACKS, "l2", RIGHT))
    budgets, left = zip(*points, strict=True)
    assert budgets[0] == 0.0
    assert left[0] == pytest.approx(0.8)
    assert left[-1] == pytest.approx(0.2)
    assert all(b <= a for a, b in pairwise(left))


def test_quartiles_are_none_where_the_attack_did_not_get_so_far() -> None:
    found = quartiles(smallest(ATTACKS, "l2", RIGHT), RIGHT)
    assert found == {"q1": 1.0, "median": 1.0, "q3": None}
    nobody = quartiles(np.zeros(2), np.zeros(2, dtype=bool))
    assert set(nobody.values()) == {None}


def test_summary_names_the_hardest_attack_within_a_budget() -> None:
    plan = {"ead_en": ("white-box", None, None), "pgd_l2_1": ("white-box", "l2", 1.0)}
    patients = ["a", "b", "c", "d", "e"]
    found = summary(plan, ATTACKS, RIGHT, patients, {"l2": [1.0, 0.5]}, 0.95)
    worst = found["worst_case"]["l2"]
    assert list(worst) == ["0.5", "1"]
    assert worst["0.5"]["accuracy"] == pytest.approx(0.6)
    assert worst["0.5"]["hardest"] == "ead_en"
    assert found["attacks"]["pgd_l2_1"]["accuracy"] == pytest.approx(0.4)
    assert found["clean"]["accuracy"] == pytest.approx(0.8)
    # One step and noise say nothing where stronger attacks do as much.
    more = dict.fromkeys(("fgsm_l2_1", "pgd_l2_1", "apgd_l2_1"), ATTACKS["pgd_l2_1"])
    equals = summary(dict.fromkeys(more, plan["pgd_l2_1"]), more, RIGHT, patients, {"l2": [1]}, 0.9)
    assert equals["worst_case"]["l2"]["1"]["hardest"] == "pgd_l2_1, apgd_l2_1 and 1 more"
    # Within a budget those of another one do not count: what it turned within less, it carries on.
    two = {"pgd_l2_1": ("white-box", "l2", 1.0), "pgd_l2_2": ("white-box", "l2", 2.0)}
    both = dict.fromkeys(two, ATTACKS["pgd_l2_1"])
    apart = summary(two, both, RIGHT, patients, {"l2": [1.0, 2.0]}, 0.9)
    assert [one["hardest"] for one in apart["worst_case"]["l2"].values()] == [*two]


def test_patients_of_many_images_widen_the_interval() -> None:
    """Ten patients, each all right or all wrong: ten observations, not a hundred."""
    correct = np.repeat([True] * 7 + [False] * 3, 10)
    alone = accuracy_interval(correct, [""] * 100, 0.95)
    together = accuracy_interval(correct, np.repeat(list("abcdefghij"), 10).tolist(), 0.95)
    # Normal approximation: the half width is 1.96 sqrt(p (1 - p) / n).
    for (low, high), n in ((alone, 100), (together, 10)):
        expected = norm.ppf(0.975) * np.sqrt(0.21 / n)
        assert (high - low) / 2 == pytest.approx(expected, rel=0.15)
        assert low < 0.7 < high


def test_no_spread_to_resample_gives_wilsons_interval_over_patients() -> None:
    low, high = accuracy_interval(np.ones(40, dtype=bool), ["a", "b", "c", "d"] * 10, 0.95)
    z2 = norm.ppf(0.975) ** 2
    assert low == pytest.approx(4 / (4 + z2))  # Wilson's for 4 of 4
    assert high == 1.0


def test_mcnemar_as_published() -> None:
    """Agresti, Categorical Data Analysis: 150 against 86 that changed; chi-square z = 4.17."""
    first = np.array([True] * 150 + [False] * 86 + [True] * 794)
    second = np.array([False] * 150 + [True] * 86 + [True] * 794)
    found = mcnemar(first, second)
    assert (found["first_only"], found["second_only"]) == (150, 86)
    assert found["p"] == pytest.approx(2 * norm.sf(4.17), rel=0.3)
    assert mcnemar(first, first)["p"] == 1.0


HEALTHY = {
    "fgsm_l2_1": 0.7,
    "pgd_l2_1": 0.5,
    "apgd_l2_1": 0.5,
    "pgd_linf_0.1": 0.5,
    "square_linf_0.1": 0.6,
    "pgd_long_l2_1": 0.48,
    "ead_en": 0.0,
}


ALONE = {"pgd_l2_0.5": 0.7, "pgd_l2_1": 0.5, "pgd_linf_0.1": 0.5}


def raised(images: int = 100, alone: dict[str, float] = ALONE, **changes: float) -> set[str]:
    flags = battery_flags("model", {**HEALTHY, **changes}, alone, 0.95, 0.0, images)
    return {flag.name for flag in flags if flag.raised}


def test_a_sound_battery_raises_nothing() -> None:
    assert raised() == set()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"fgsm_l2_1": 0.4}, "single step beats many"),
        ({"square_linf_0.1": 0.3}, "black box beats white box"),
        ({"noise_l2_1": 0.3}, "black box beats white box"),
        ({"hop_skip_jump_l2_1": 0.3}, "black box beats white box"),
        ({"pgd_long_l2_1": 0.3}, "more iterations still help"),
        ({"ead_en": 0.6}, "unbounded attack falls short"),
    ],
)
def test_each_sign_raises_its_own_flag(changes: dict[str, float], name: str) -> None:
    assert raised(**changes) == {name}


def test_a_larger_budget_that_does_less_is_seen_within_its_norm() -> None:
    assert raised(alone={"pgd_l2_0.5": 0.4, "pgd_l2_1": 0.6}) == {"larger budget does less"}
    assert raised(alone={"pgd_l2_0.5": 0.4, "pgd_linf_1": 0.6}) == set()
    # By size, not by name: 10 is more than 9.
    assert raised(alone={"pgd_l2_10": 0.3, "pgd_l2_9": 0.5}) == set()
    steps = {"pgd_l2_1": 0.50, "pgd_l2_2": 0.54}
    assert raised(alone=steps) == set()
    assert raised(alone={**steps, "pgd_l2_3": 0.58}) == {"larger budget does less"}


def test_vanishing_gradients_a_constant_model_and_a_useless_defence_are_seen() -> None:
    zero = list(battery_flags("m", HEALTHY, ALONE, 0.95, 0.2, 100))
    assert {flag.name for flag in zero if flag.raised} == {"gradients vanish"}
    assert constant_flag("m", np.array([1] * 97 + [0] * 3)).raised
    assert not constant_flag("m", np.array([1] * 60 + [0] * 40)).raised
    assert control_flag("m", "EAD", 0.0, -0.1, 0.1).raised
    assert control_flag("m", "EAD", 0.02, -0.01, 0.05).raised
    assert not control_flag("m", "EAD", 0.6, 0.5, 0.7).raised
    assert isinstance(zero[0], Flag)


def test_one_image_is_no_sign() -> None:
    assert raised(images=16, pgd_long_l2_1=0.5 - 1 / 16) == set()
    assert raised(images=16, pgd_long_l2_1=0.5 - 2 / 16) == {"more iterations still help"}


def test_a_difference_of_paired_models_is_resampled_by_patient() -> None:
    """Paired t on the patients' mean differences is the reference: ten patients of ten images."""
    rng = np.random.default_rng(0)
    first = rng.random((10, 10)) < rng.uniform(0.6, 1.0, (10, 1))
    second = rng.random((10, 10)) < rng.uniform(0.2, 0.8, (10, 1))
    patients = np.repeat(list("abcdefghij"), 10).tolist()
    low, high = difference_interval(first.ravel(), second.ravel(), patients, 0.95)
    means = first.mean(1) - second.mean(1)
    half = norm.ppf(0.975) * means.std() / np.sqrt(10)
    assert (low, high) == pytest.approx((means.mean() - half, means.mean() + half), abs=0.05)
    same = difference_interval(first.ravel(), first.ravel(), patients, 0.95)
    assert same == (0.0, 0.0)


def test_where_resampling_shows_no_spread_a_difference_has_wilsons_interval() -> None:
    every, none = np.ones(40, dtype=bool), np.zeros(40, dtype=bool)
    low, high = difference_interval(every, none, ["a", "b", "c", "d"] * 10, 0.95)
    z2 = norm.ppf(0.975) ** 2
    assert (low, high) == pytest.approx((2 * 4 / (4 + z2) - 1, 1.0))
    assert difference_interval(none, every, ["a", "b", "c", "d"] * 10, 0.95) == (-high, -low)


def test_one_patient_says_nothing_of_others() -> None:
    right = np.array([True] * 9 + [False])
    assert difference_interval(right, ~right, ["a"] * 10, 0.95) == (-1.0, 1.0)
    assert median_ratio(np.array([3.0, 4.0]), np.array([1.0, 2.0]), ["a"] * 2, 0.95)["low"] is None


def test_a_ratio_of_medians_holds_its_pairs_together() -> None:
    base = np.array([0.1, 0.4, 0.2, 0.8, 0.3, 0.6])
    exact = median_ratio(3 * base, base, list("aabbcc"), 0.95)
    assert exact == pytest.approx({"ratio": 3.0, "low": 3.0, "high": 3.0, "images": 6})
    moved = median_ratio(base * np.array([1, 9, 1, 9, 1, 9]), base, list("aabbcc"), 0.95)
    assert moved["low"] <= moved["ratio"] <= moved["high"]
    assert moved["low"] < moved["high"]


def test_a_curve_falls_exactly_where_an_image_is_turned() -> None:
    least = np.array([0.0, 0.5, 0.5, 2.0, np.inf])
    expected = [(0.0, 0.8), (0.5, 0.4), (2.0, 0.2)]
    np.testing.assert_allclose(curve(least), expected)
