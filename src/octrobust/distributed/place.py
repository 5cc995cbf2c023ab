"""Which process of a stage this is. Reads the environment that torch's elastic launcher sets."""

from __future__ import annotations

import os


def is_rank() -> bool:
    """Whether torch's elastic launcher (ours, or `torchrun` by hand) started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """This process's number among all of the stage, from 0."""
    return _number("RANK", 0)


def ranks() -> int:
    """Processes of the stage, on all machines."""
    return _number("WORLD_SIZE", 1)


def local_rank() -> int:
    """This process's number on its machine, from 0."""
    return _number("LOCAL_RANK", 0)


def local_ranks() -> int:
    """Processes of the stage on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1)


def is_first() -> bool:
    """Whether this process is the one that writes results and records."""
    return rank() == 0


def _number(name: str, alone: int) -> int:
    # A cluster's batch system may set some of these names for other reasons.
    return int(os.environ[name]) if is_rank() else alone
