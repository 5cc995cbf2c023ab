"""A checkout that was never killed, with several epochs to lose in every fit."""

from __future__ import annotations

import copy

import pytest

from tests.pipeline.conftest import TINY, Checkout, new_checkout, update


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """After `dvc repro` of the stages that are killed, committed."""
    changes = copy.deepcopy(TINY)
    update(changes, {"harden": {"epochs": 4, "variants": {"online": {"epochs": 4}}}})
    update(changes, {"compute": {"shard_size": 1}})
    checkout = new_checkout(tmp_path_factory.mktemp("project"), changes)
    checkout.run("dvc", "repro", "harden@static", "harden@online")
    checkout.run("git", "add", "--all")
    checkout.run("git", "commit", "--quiet", "--message", "results")
    return checkout
