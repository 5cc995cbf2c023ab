"""PostgreSQL as MLflow's store, from Debian's package `postgresql`: killed, hung, and back."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from octrobust import tracking
from octrobust.tracking import attempt, records
from octrobust.tracking.address import UnavailableError, probe
from tests.faults.conftest import Note
from tests.faults.test_outages import STAGES, complete, without_settings
from tests.faults.tracked import make_project, run_stage, try_every_time
from tests.servers import Relay, Server, free_port, mlflow_server

__all__ = ["without_settings"]
pytestmark = pytest.mark.faults

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parts[-2])


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Server, int]]:
    """A cluster of its own in a temporary folder, on loopback, not run by root."""
    for driver in ("psycopg", "psycopg2"):
        pytest.importorskip(driver, reason="uv pip install -e '.[postgresql]'")
    if not BINARIES:
        pytest.skip("apt-get install postgresql")
    user = "postgres" if os.getuid() == 0 else None
    root = Path(tempfile.mkdtemp(prefix="octrobust-postgresql-"))
    if user:
        shutil.chown(root, user, user)
    port, data = free_port(), root / "data"
    make = [BINARIES[-1] / "initdb", "-D", data, "-U", "octrobust", "--auth=trust", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, cwd=root, user=user, group=user)
    run = [str(BINARIES[-1] / "postgres"), "-D", str(data), "-p", str(port), "-k", str(root)]
    run += ["-c", "listen_addresses=127.0.0.1"]

    def answers() -> bool:
        ready = [BINARIES[-1] / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        return subprocess.run(ready, check=False).returncode == 0

    server = Server(run, root / "server.log", answers, user=user)
    server.log.touch()
    server.start()
    create = [BINARIES[-1] / "createdb", "-h", root, "-p", str(port), "-U", "octrobust", "mlflow"]
    subprocess.run(create, check=True, capture_output=True)
    yield server, port
    server.kill()
    shutil.rmtree(root)


@pytest.fixture
def relay(cluster: tuple[Server, int]) -> Iterator[Relay]:
    made = Relay(cluster[1])
    yield made
    made.close()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(tmp_path / "project", time.time_ns() / 1e9)
    monkeypatch.chdir(root)
    return root


@pytest.fixture(params=["direct", "through MLflow's server"])
def store(request: pytest.FixtureRequest, relay: Relay, tmp_path: Path) -> Iterator[str]:
    """The tracking address, whose every way to the database leads through the relay."""
    database = f"octrobust@127.0.0.1:{relay.port}/mlflow"
    if request.param == "direct":
        yield f"postgresql://{database}"
        return
    server, port = mlflow_server(
        tmp_path, f"postgresql+psycopg2://{database}", str(tmp_path / "artifacts")
    )
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.kill()


@pytest.mark.parametrize("outage", ["killed", "hung"])
def test_stages_go_on_without_their_database(
    outage: str,
    store: str,
    cluster: tuple[Server, int],
    relay: Relay,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    note: Note,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    run_stage("train@a")  # the tables are there from now on
    assert not records.pending(project)[0], capsys.readouterr().err
    try_every_time(monkeypatch)
    monkeypatch.setattr(attempt, "_LONGEST", 30.0)
    relay.then = cluster[0].kill if outage == "killed" else cluster[0].hang
    relay.seen, relay.at = 0, 60
    held = [run_stage(stage) for stage in [*STAGES[1:3], "report"]]
    assert relay.at is None, "the outage came too late"
    said = capsys.readouterr().err.splitlines()
    note(f"stages held up {', '.join(f'{each:.1f}' for each in held)} s; {said[0]}")
    assert max(held[:-1]) < attempt._LONGEST + 5
    assert held[-1] < 2 * attempt._LONGEST + 5
    assert len(said) == 1, said
    assert records.pending(project)[0]
    if outage == "killed":
        cluster[0].start()
    else:
        cluster[0].resume()
    complete(store, project, STAGES[:3])


def test_a_wrong_name_or_database_is_said_at_once(cluster: tuple[Server, int]) -> None:
    """MLflow alone would try ten times, for minutes."""
    for name in ("nobody@127.0.0.1:{}/mlflow", "octrobust@127.0.0.1:{}/nothing"):
        with pytest.raises(UnavailableError, match="does not exist"):
            probe("postgresql://" + name.format(cluster[1]), 3)


def test_a_hung_database_is_given_up(cluster: tuple[Server, int]) -> None:
    cluster[0].hang()
    try:
        with pytest.raises(UnavailableError, match="timeout"):
            probe(f"postgresql://octrobust@127.0.0.1:{cluster[1]}/mlflow", 3)
    finally:
        cluster[0].resume()


def test_the_address_may_be_a_socket(
    cluster: tuple[Server, int], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cluster[0].log.parent
    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", f"postgresql://octrobust@/mlflow?host={folder}&port={cluster[1]}"
    )
    run_stage("train@a", seconds=1)
    assert tracking.flush().logged == ("train@a",)
