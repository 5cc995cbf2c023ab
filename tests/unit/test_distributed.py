"""Two ranks beside one process: the same set to the byte, the same model but for rounding."""

from __future__ import annotations

import json
import math
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from octrobust.config import Compute
from octrobust.distributed import place
from octrobust.distributed.group import dealt
from octrobust.distributed.share import Share, own_share
from octrobust.errors import UserError
from octrobust.files import sha256_file
from octrobust.launch import elastic
from octrobust.launch.elastic import how_they_ended
from octrobust.model.device import select_device
from tests.ranks import run_ranks
from tests.unit.at_work import alone_or_together, unfitted


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of what one process found, and two ranks."""
    alone, together = (tmp_path_factory.mktemp(name) for name in ("alone", "together"))
    alone_or_together(alone)
    run_ranks("tests.unit.at_work", 2, together)
    return alone, together


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, ranks: int) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    for name, value in (("RANK", rank), ("WORLD_SIZE", ranks)):
        monkeypatch.setenv(name, str(value))
        monkeypatch.setenv(f"LOCAL_{name}", str(value))


def test_ranks_hear_each_other(both: tuple[Path, Path]) -> None:
    heard = [json.loads((both[1] / f"gathered-{rank}.json").read_text()) for rank in (0, 1)]
    assert heard == [[{"rank": 0}, {"rank": 1}]] * 2


def test_two_ranks_make_the_same_set(both: tuple[Path, Path]) -> None:
    alone, together = (folder / "set" for folder in both)
    names = sorted(path.name for path in alone.iterdir())
    assert len(names) == 7
    assert names == sorted(path.name for path in together.iterdir())
    for name in names:
        assert sha256_file(alone / name) == sha256_file(together / name), name


@pytest.mark.parametrize("network", ["plain", "norms"])
def test_unequal_shares_give_the_gradient_of_the_whole_batch(
    network: str, both: tuple[Path, Path]
) -> None:
    """`norms` has BatchNorm, whose statistics are of all rows, and dropout, drawn for all rows."""
    alone = load_file(both[0] / f"{network}.0.safetensors")
    ranks = [load_file(both[1] / f"{network}.{rank}.safetensors") for rank in (0, 1)]
    assert any("running_var" in key for key in alone) == (network == "norms")
    for key, value in alone.items():
        # A bias before BatchNorm has a gradient of rounding alone: some 1e-6.
        torch.testing.assert_close(
            ranks[0][key], value, rtol=1e-5, atol=1e-5, msg=lambda said, at=key: f"{at}: {said}"
        )
        assert torch.equal(ranks[0][key], ranks[1][key]), key


def test_a_fit_on_two_ranks_is_that_of_one(both: tuple[Path, Path]) -> None:
    """Inception-ResNet in part frozen, attacked in every step, from random starts.

    BatchNorm over five rows blows rounding up: seen were 0.066 of the update, 0.001 of the
    statistics. What a share weighs, and that it is its own, the tests around this hold exactly.
    """
    alone = load_file(both[0] / "fit.0.safetensors")
    ranks = [load_file(both[1] / f"fit.{rank}.safetensors") for rank in (0, 1)]
    assert all(torch.equal(ranks[0][key], ranks[1][key]) for key in alone)
    network = unfitted().network
    start, learnt = network.state_dict(), dict(network.named_parameters())

    def apart(keys: list[str]) -> float:
        off = sum(float((ranks[0][key] - alone[key]).square().sum()) for key in keys)
        moved = sum(float((alone[key] - start[key]).square().sum()) for key in keys)
        return math.sqrt(off / moved)

    assert apart([key for key, p in learnt.items() if p.requires_grad]) < 0.2
    assert apart([key for key in start if "running" in key]) < 0.005
    lines = [json.loads((both[1] / f"line.{rank}.json").read_text()) for rank in (0, 1)]
    assert lines[0] == lines[1]
    assert lines[0]["moved"] == pytest.approx(
        json.loads((both[0] / "line.0.json").read_text())["moved"], rel=0.02
    )
    histories = [json.loads((folder / "history.0.json").read_text()) for folder in both]
    for one, two in zip(*histories, strict=True):
        assert one.keys() == two.keys()
        np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=0.02)


def test_shares_cover_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    for ranks in (2, 3, 4):
        rows = []
        for rank in range(ranks):
            as_rank(monkeypatch, rank, ranks)
            share = own_share(10)
            assert share is not None
            assert len(share) in (10 // ranks, -(-10 // ranks))
            rows += list(range(10))[share.rows]
        assert rows == list(range(10))
    as_rank(monkeypatch, 0, 11)
    with pytest.raises(UserError, match="batch_size: 10"):
        own_share(10)


def test_what_is_dealt_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    for rank in range(3):
        as_rank(monkeypatch, rank, 3)
        taken += dealt(range(8))
    assert sorted(taken) == list(range(8))


def test_a_draw_for_two_batches_at_once_keeps_each_row_its_own() -> None:
    whole = torch.arange(10.0)[:, None]
    share = Share(1, 3, 5)
    seen = share.draw(torch.zeros(4, 1), lambda images: images + whole)
    assert seen.flatten().tolist() == [1, 2, 6, 7]


def test_without_a_launcher_a_batch_systems_names_mean_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (place.rank(), place.ranks(), place.is_first()) == (0, 1, True)


def test_ranks_of_a_machine_share_its_threads(
    params: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_rank(monkeypatch, 1, 2)
    compute: Compute = params.compute.model_copy(update={"device": "cpu", "threads": 4})  # type: ignore[attr-defined]
    try:
        select_device(compute)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_the_rank_that_began_it_is_named() -> None:
    assert how_they_ended({0: 75, 1: -9, 2: -15}) == "rank 1 ended by SIGKILL"
    assert how_they_ended({0: 1}) == "rank 0 ended with exit code 1"
    assert how_they_ended({0: -40}) == "rank 0 ended by signal 40"  # a real-time one


NAMES = {"node1": "127.0.1.1", "elsewhere": "127.0.0.1", "localhost": "127.0.0.1"}


@pytest.fixture
def on_debian(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine called node1, whose own name is in its loopback; its other addresses."""
    addresses = ["10.1.2.3"]

    def interfaces() -> dict[str, list[SimpleNamespace]]:
        found = {"lo": ["127.0.0.1"], "eth0": addresses}
        return {
            name: [SimpleNamespace(family=socket.AF_INET, address=one) for one in of]
            for name, of in found.items()
        }

    monkeypatch.setattr(socket, "gethostname", lambda: "node1")
    monkeypatch.setattr(socket, "getfqdn", lambda: "node1.example.org")
    monkeypatch.setattr(socket, "gethostbyname", lambda name: NAMES.get(name, name))
    monkeypatch.setattr("psutil.net_if_addrs", interfaces)
    return addresses


def meeting_at(params: object, host: str) -> Compute:
    changes = {"launcher": "torchrun", "nodes": 2, "rendezvous": f"{host}:29500"}
    return params.compute.model_copy(update=changes)  # type: ignore[attr-defined, no-any-return]


def test_a_machine_knows_its_own_name_where_that_is_its_loopback(
    params: object, on_debian: list[str], tmp_path: Path
) -> None:
    assert elastic.hosts_rendezvous(meeting_at(params, "node1"))
    told = elastic._rendezvous(["train"], meeting_at(params, "node1"), tmp_path)
    assert (told["is_host"], told["local_addr"]) == (True, "10.1.2.3")
    on_debian.append("192.168.0.1")
    with pytest.raises(UserError, match="give the first machine's address"):
        elastic._rendezvous(["train"], meeting_at(params, "node1"), tmp_path)


@pytest.mark.parametrize("host", ["localhost", "elsewhere", "127.0.0.1"])
def test_machines_cannot_meet_in_a_loopback(
    params: object, on_debian: list[str], host: str
) -> None:
    with pytest.raises(UserError, match="no other finds it"):
        elastic.hosts_rendezvous(meeting_at(params, host))
