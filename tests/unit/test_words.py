"""What is said below an answer: of every source of images, one that a user added too."""

from __future__ import annotations

import pytest

from octrobust import config
from octrobust.inspection import words


@pytest.mark.parametrize("source", ["phantom", "folder", "kermany", "one_that_a_user_added"])
def test_every_source_is_spoken_of(params: config.Params, source: str) -> None:
    there = params.model_copy(update={"data": params.data.model_copy(update={"source": source})})
    assert "trained on" in words.about_the_data(there)
    assert "Not for clinical use" in words.about_results(there)
