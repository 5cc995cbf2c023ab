"""Checkouts that were never killed."""

from __future__ import annotations

import copy

import pytest

from tests.pipeline.conftest import TINY, Checkout, new_checkout, update


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """After `dvc repro` of the stages that are killed, committed; each has epochs to lose."""
    changes = copy.deepcopy(TINY)
    update(changes, {"harden": {"epochs": 4, "variants": {"online": {"epochs": 4}}}})
    update(changes, {"compute": {"shard_size": 1}})
    checkout = new_checkout(tmp_path_factory.mktemp("project"), changes)
    checkout.run("dvc", "repro", "harden@static", "harden@online")
    checkout.run("git", "add", "--all")
    checkout.run("git", "commit", "--quiet", "--message", "results")
    return checkout


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """After `dvc repro` of the attacked model alone, committed. Tests that change it restore it."""
    changes = copy.deepcopy(TINY)
    update(changes, {"train": {"epochs": 2}, "compute": {"device": "cpu"}})
    checkout = new_checkout(tmp_path_factory.mktemp("project") / "one", changes)
    checkout.run("dvc", "repro", "train@config_1")
    checkout.run("git", "add", "--all")
    checkout.run("git", "commit", "--quiet", "--message", "trained")
    return checkout
