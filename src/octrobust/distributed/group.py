"""What the ranks of a stage say to each other. A process that is alone talks to nobody."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from octrobust.config import Compute
from octrobust.distributed import place
from octrobust.model.device import select_device

T = TypeVar("T")

# Set by our launcher: the folder that it shares with the ranks of its machine.
ROOM = "OCTROBUST_LAUNCH_ROOM"
# Set on one machine alone: ranks find each other by a file there, and no port is open.
BY_FILE = "OCTROBUST_LAUNCH_BY_FILE"
# A rank may wait for another's shard, or for the lock of another run; a dead one is found by its
# closed connection, and by the launcher.
_LONGEST_WAIT = timedelta(days=7)


@contextmanager
def joined(compute: Compute) -> Iterator[None]:
    """Join the ranks of this stage, by gloo, and on CUDA by NCCL as well; left together."""
    if place.ranks() == 1:
        yield
        return
    device = select_device(compute)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        init_method=_meeting_point(),
        rank=place.rank(),
        world_size=place.ranks(),
        timeout=_LONGEST_WAIT,
    )
    yield
    barrier()
    dist.destroy_process_group()


def _meeting_point() -> str:
    if os.environ.get(BY_FILE) != "1":
        return "env://"
    attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
    return (Path(os.environ[ROOM]) / f"ranks-{attempt}").as_uri()


def lost_another(error: BaseException) -> bool:
    """Whether `error` only says that another rank is gone; that one knows why."""
    return isinstance(error, dist.DistError) or "gloo/" in str(error)


def gather(value: T) -> list[T]:
    """Every rank's `value`, in order of the ranks, on every rank.

    It travels as JSON, so that nothing that others send is ever run: numbers, strings, lists and
    dicts with names for keys come back as they were, tuples as lists.
    """
    if place.ranks() == 1:
        return [value]
    own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    sizes = collect(torch.tensor([len(own)]))
    longest = int(max(sizes))
    padded = torch.zeros(longest, dtype=torch.uint8)
    padded[: len(own)] = own
    parts = zip(collect(padded), sizes, strict=True)
    return [json.loads(part[: int(size)].numpy().tobytes()) for part, size in parts]


def collect(own: Tensor) -> list[Tensor]:
    """Every rank's tensor, of one shape and type, on the CPU, in order of the ranks."""
    parts = [torch.empty_like(own) for _ in range(place.ranks())]
    dist.all_gather(parts, own)
    return parts


def barrier() -> None:
    """Wait until every rank is here."""
    gather(None)


def dealt(things: Sequence[T]) -> Sequence[T]:
    """Those of `things` that this rank does: the ranks take turns."""
    return things[place.rank() :: place.ranks()]


def put_together(own: dict[str, Any]) -> dict[str, Any]:
    """The results of all ranks, by name; each name on one of them."""
    return {name: value for part in gather(own) for name, value in part.items()}
