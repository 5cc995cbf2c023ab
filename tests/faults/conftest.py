"""Checkouts that were never killed, and a record of what was tried."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from octrobust.files import read_json, write_json
from tests.conftest import ROOT
from tests.faults.kills import end_all
from tests.pipeline.conftest import TINY, Checkout, new_checkout, update

Note = Callable[[str], None]
PASSED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """After `dvc repro` of the stages that are killed, committed; each has epochs to lose."""
    changes = copy.deepcopy(TINY)
    update(changes, {"harden": {"epochs": 4, "variants": {"online": {"epochs": 4}}}})
    update(changes, {"compute": {"shard_size": 1}})
    checkout = new_checkout(tmp_path_factory.mktemp("project"), changes)
    checkout.run("dvc", "repro", "harden@static", "harden@online")
    commit(checkout)
    return checkout


def commit(checkout: Checkout) -> None:
    """What is there is what later tests begin with."""
    checkout.run("git", "add", "--all")
    checkout.run("git", "commit", "--quiet", "--message", "results")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """After `dvc repro` of the attacked model alone, committed."""
    changes = copy.deepcopy(TINY)
    update(changes, {"train": {"epochs": 2}, "compute": {"device": "cpu"}})
    checkout = new_checkout(tmp_path_factory.mktemp("project") / "one", changes)
    checkout.run("dvc", "repro", "train@config_1")
    commit(checkout)
    return checkout


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small file system at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, capture_output=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


@pytest.fixture(scope="session")
def may_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        with mounted(tmp_path_factory.mktemp("mount") / "here", "size=64k"):
            pass
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("mounting needs root")


@pytest.fixture(autouse=True)
def _put_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test leaves, one that failed above all, is no start for the next."""
    shared = [name for name in ("finished", "trained") if name in request.fixturenames]
    checkouts = [request.getfixturevalue(name) for name in shared]
    yield
    end_all()
    for checkout in checkouts:
        scratch = checkout.root / ".octrobust" / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True, exist_ok=True)  # tests move it aside
        checkout.run("git", "checkout", "--", ".")
        # It complains of the stages that were not run.
        checkout.run("dvc", "checkout", "--force", "--quiet", check=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A test's fixtures are to know at their end whether it passed."""
    report = yield
    if report.when == "call" and not report.skipped:
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture(scope="session")
def _record() -> Iterator[dict[str, str]]:
    """What was counted, and which tests failed, into the table that FAULTS_TABLE names: `make
    faults` does."""
    path = Path(os.environ.get("FAULTS_TABLE", ""))
    found: dict[str, str] = {}
    if path.suffix != ".json":
        yield found
        return
    sys.path.append(str(ROOT / "benchmarks"))
    from bench import machine, tables

    threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0))
    # Now, as the revision may be another when all have run.
    described = machine.describe(threads, ("octrobust", "torch", "dvc", "mlflow"))
    yield found
    if not found:
        return
    told = {"revision": described["revision"], "date": described["date"], "cpu": described["cpu"]}
    rows = {one["name"]: one for one in read_json(path)["runs"]} if path.exists() else {}
    rows |= {name: {"name": name, "counted": text, **told} for name, text in found.items()}
    document = {
        "kind": "faults",
        "machine": {**described, "command": "make faults"},
        "runs": [rows[name] for name in sorted(rows)],
    }
    write_json(path, document)
    tables.write(path, document)


@pytest.fixture(autouse=True)
def note(request: pytest.FixtureRequest, _record: dict[str, str]) -> Iterator[Note]:
    """Say what a test counted, and keep it if the test then passes."""
    name = request.node.nodeid.removeprefix("tests/faults/")
    told: list[str] = []

    def keep(text: str) -> None:
        print(f"\n{text}")
        told.append(text)

    yield keep
    passed = request.node.stash.get(PASSED, None)
    if passed is not None:  # else skipped: what was seen elsewhere stays
        _record[name] = ("; ".join(told) or "passed") if passed else "**FAILED**"
