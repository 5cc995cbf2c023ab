"""The ranks of this machine, under torch's own elastic launcher."""

from __future__ import annotations

import ipaddress
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from octrobust.config import Compute
from octrobust.distributed.group import BY_FILE, ROOM
from octrobust.errors import INTERRUPTED, UserError, to_stderr
from octrobust.launch.worker import LAUNCHER, LOST

FINAL = (2, 130)  # exit codes that no restart mends: a person must, or has interrupted
_WAIT = 3600  # seconds that machines wait for each other
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


def run_elastic(command: list[str], compute: Compute) -> tuple[str, int]:
    """Run `python COMMAND` on compute.processes ranks, here, beside compute.nodes - 1 machines
    that do the same; all are started again when one died, up to compute.restarts times.

    Returns:
        The line to say, if any, and the exit code: 2 after what a person must mend, 130 and 143
        after SIGINT and SIGTERM.

    Raises:
        UserError: the other machines cannot be reached, do not come, or are gone.
    """
    with tempfile.TemporaryDirectory(prefix="octrobust-") as room, _environment(room, compute):
        return _run(command, compute, Path(room))


@contextmanager
def _environment(room: str, compute: Compute) -> Iterator[None]:
    """What the ranks and torch's launcher find in theirs."""
    ours = {ROOM: room, LAUNCHER: str(os.getpid())}
    # Else ranks that start again meet in the store of before: by the addresses of the dead, and
    # machines in two stores where the first of them has changed (torch 2.15).
    ours["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    # torch's launcher would tell every end of a process at length.
    defaults = {"LOGLEVEL": "CRITICAL"}
    if compute.nodes == 1:
        # By a file and over loopback: nothing of this run can be reached from outside.
        ours[BY_FILE] = "1"
        ours["GLOO_SOCKET_IFNAME"] = _LOOPBACK
    else:
        for interface in _interfaces(_own_address(*_endpoint(compute))):
            defaults |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
    before = dict(os.environ)
    os.environ.update({**defaults, **before, **ours})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(command: list[str], compute: Compute, room: Path) -> tuple[str, int]:
    # Late: torch reads LOGLEVEL when these are imported.
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.rendezvous import RendezvousError

    from octrobust.launch.agent import Agent

    try:
        failures = Agent.of(command, compute, _rendezvous(command, compute, room), room).work()
    except RendezvousError as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"compute.rendezvous: the other machines did not come, or are gone ({reason}); see "
            "what they said, and run the same command again on each"
        ) from None
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            return INTERRUPTED, 130
        return "", 128 + int(error.sigval)
    return _verdict(failures, room)


def _verdict(failures: Mapping[int, int], room: Path) -> tuple[str, int]:
    """What is said of the ranks that failed, by rank and exit code."""
    if not failures:
        return "", 0
    said = [path.read_text(encoding="utf-8") for path in sorted(room.glob("said-*.txt"))]
    final = [code for code in FINAL if code in failures.values()]
    if final and said:
        return said[0], final[0]
    return (
        f"error: {how_they_ended(failures)}, with no restart left: run the same command again, "
        "what is finished is kept"
    ), 1


def how_they_ended(failures: Mapping[int, int]) -> str:
    """Of the ranks that failed, those that began it."""
    began = {r: c for r, c in failures.items() if c not in (LOST, -signal.SIGTERM, 143)} or failures
    ends = [
        f"rank {rank} ended by {_signal(-code)}"
        if code < 0
        else f"rank {rank} lost touch with the others"
        if code == LOST
        else f"rank {rank} ended with exit code {code}"
        for rank, code in sorted(began.items())
    ]
    return ", ".join(ends)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time one
        return f"signal {number}"


def _rendezvous(command: list[str], compute: Compute, room: Path) -> dict[str, Any]:
    """The parameters of torch's c10d rendezvous."""
    common = {
        "backend": "c10d",
        # The same on all machines, another for each stage; part of a file's name.
        "run_id": re.sub(r"[^A-Za-z0-9_.]+", "-", " ".join(command)),
        "min_nodes": compute.nodes,
        "max_nodes": compute.nodes,
        "join_timeout": _WAIT,
    }
    if compute.nodes == 1:
        return {**common, "endpoint": str(room / "rendezvous"), "store_type": "file"}
    return {
        **common,
        "endpoint": compute.rendezvous,
        "local_addr": _own_address(*_endpoint(compute)),
        "is_host": hosts_rendezvous(compute),
        "read_timeout": _WAIT,
    }


def hosts_rendezvous(compute: Compute) -> bool:
    """Whether `compute.rendezvous` names this machine."""
    host, port = _endpoint(compute)
    return _is_own_name(host) or _own_address(host, port) == socket.gethostbyname(host)


def _endpoint(compute: Compute) -> tuple[str, int]:
    assert compute.rendezvous is not None
    host, port = compute.rendezvous.rsplit(":", 1)
    return host, int(port)


def _is_own_name(host: str) -> bool:
    own = socket.gethostname()
    return host in (own, own.partition(".")[0], socket.getfqdn())


def _own_address(host: str, port: int) -> str:
    """This machine's own, as seen from `host`; no packet is sent.

    Debian gives a machine's own name an address of its loopback, where no other finds it: then
    the one that it has beside it.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((socket.gethostbyname(host), port))
            address: str = probe.getsockname()[0]
    except (OSError, OverflowError) as error:
        raise UserError(f"compute.rendezvous: {host}:{port} cannot be reached ({error})") from None
    if not _is_loopback(address):
        return address
    others = [
        one.address
        for all_of in psutil.net_if_addrs().values()
        for one in all_of
        if one.family == socket.AF_INET and not _is_loopback(one.address)
    ]
    if len(others) != 1 or not _is_own_name(host):
        raise UserError(
            f"compute.rendezvous: {host} is this machine's loopback, where no other finds it: give "
            "the first machine's address in the network that all share"
        )
    return str(others[0])


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _interfaces(address: str) -> list[str]:
    """Those of this machine that have the address: one, or none that can be told."""
    found = psutil.net_if_addrs().items()
    return [name for name, all_of in found if address in [one.address for one in all_of]]


def say_restart(failures: Mapping[int, int], left: int) -> None:
    """One line about a restart."""
    to_stderr(f"{how_they_ended(failures)}: all ranks start again ({left} restarts left)")
