"""Watch the ranks of a stage, and do things to them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from tests.faults.kills import Victim
from tests.pipeline.conftest import Checkout, change_parameters

Process = subprocess.Popen[bytes]


@contextmanager
def compute(checkout: Checkout, **settings: Any) -> Iterator[None]:
    """The checkout with these settings of `compute`."""
    path = checkout.root / "params.yaml"
    before = path.read_text()
    change_parameters(checkout.root, {"compute": settings})
    try:
        yield
    finally:
        path.write_text(before)


def ranks_of(launcher: int) -> dict[int, psutil.Process]:
    """The living ranks that a launcher has started, by number."""
    found = {}
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(launcher).children(recursive=True):
            with suppress(psutil.Error):
                environment = child.environ()
                if environment.get("OCTROBUST_LAUNCHER") == str(child.ppid()):
                    found[int(environment["RANK"])] = child
    return found


def wait_until(condition: Callable[[], object], process: Process, victim: Victim) -> None:
    """Until it holds; the process must live so long."""
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, f"ended too early:\n{victim.log()}"
        assert time.monotonic() < deadline, f"waited in vain:\n{victim.log()}"
        time.sleep(0.02)


def ended(process: Process, victim: Victim, seconds: float = 250) -> int:
    """The exit code, once it is over."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"still at it:\n{victim.log()}") from None


@contextmanager
def two_hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces, joined by a cable and by nothing else; the first is 10.77.0.1."""
    names = (f"octrobust-{os.getpid()}-a", f"octrobust-{os.getpid()}-b")
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", "oct-a", "netns", names[0], "type", "veth", "peer", "name", "oct-b",
            "netns", names[1])  # fmt: skip
        for name, link, address in zip(names, ("oct-a", "oct-b"), (1, 2), strict=True):
            _ip("-n", name, "address", "add", f"10.77.0.{address}/24", "dev", link)
            _ip("-n", name, "link", "set", link, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=True)
