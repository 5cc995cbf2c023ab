"""What kill -9 leaves: nothing half-written, nothing finished lost, the same bytes in the end."""

from __future__ import annotations

import random

import pytest

from tests.faults.conftest import Note
from tests.faults.kills import Victim, kill_often
from tests.pipeline.conftest import Checkout

pytestmark = pytest.mark.faults

KILLS = {
    "prepare": 20,
    "train@config_1": 25,
    "attack@train": 25,
    "harden@static": 15,
    "harden@online": 15,
}


@pytest.mark.parametrize("stage", KILLS)
def test_a_killed_stage_goes_on_and_ends_the_same(
    stage: str, finished: Checkout, note: Note
) -> None:
    tally = kill_often(Victim(finished, stage), KILLS[stage], random.Random(stage))
    if stage == "prepare":
        assert tally.writing > 0, "no kill came while something was written"
    else:
        assert max(tally.steps) > 0, "no kill came after something was finished"
    note(
        f"{tally.sent} kills survived, {tally.writing} of them while something was written; "
        f"{tally.finished_first} runs were done first"
    )
