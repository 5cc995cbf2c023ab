"""Temperature scaling gives back a known temperature, and never certainty."""

from __future__ import annotations

import numpy as np
import pytest

from octrobust.evaluation.calibration import calibrated, temperature


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (20_000, 2))
    positive = calibrated(logits, true)[:, 1]
    targets = (rng.random(len(logits)) < positive).astype(np.int64)
    assert temperature(logits, targets) == pytest.approx(true, rel=0.1)


def test_images_without_an_error_ask_for_no_certainty() -> None:
    targets = np.arange(20) % 2
    logits = np.where(np.eye(2)[targets] > 0, 1.0, -1.0)
    found = calibrated(logits, temperature(logits, targets))
    # Platt's target of a class of ten: (10 + 1) / (10 + 2).
    assert found.max(axis=1) == pytest.approx(np.full(20, 11 / 12), abs=1e-3)


def test_a_temperature_turns_no_verdict() -> None:
    logits = np.random.default_rng(1).normal(0, 2, (50, 2))
    found = calibrated(logits, 7.0)
    assert (found.argmax(1) == logits.argmax(1)).all()
    assert found.sum(1) == pytest.approx(np.ones(50))
