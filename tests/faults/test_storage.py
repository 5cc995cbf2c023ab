"""S3 as DVC's remote and MLflow's artifact store, against moto's server on loopback."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from octrobust import tracking
from tests.faults.conftest import Note
from tests.faults.test_outages import complete, project, without_settings
from tests.faults.tracked import put
from tests.pipeline.conftest import Checkout
from tests.servers import Server, free_port, mlflow_server

__all__ = ["project", "without_settings"]
pytestmark = pytest.mark.faults

STAGE = "train@config_1"
BUCKET = "octrobust"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """Settings by which clients find a bucket."""
    pytest.importorskip("moto", reason="moto[s3] is in the extra dev")
    import boto3

    port = free_port()
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"{address}/moto-api/", timeout=2).close()
        except (OSError, urllib.error.URLError):
            return False
        return True

    root = tmp_path_factory.mktemp("s3")
    (root / "settings").touch()  # the user's own must not be found
    server = Server(command, root / "server.log", answers)
    server.start()
    settings = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": address,
        "AWS_CONFIG_FILE": str(root / "settings"),
        "AWS_SHARED_CREDENTIALS_FILE": str(root / "settings"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket=BUCKET)
        yield settings
    server.kill()


def stored(settings: Mapping[str, str], prefix: str) -> list[str]:
    import boto3

    client = boto3.client("s3", endpoint_url=settings["MLFLOW_S3_ENDPOINT_URL"])
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return [each["Key"] for page in pages for each in page.get("Contents", [])]


def digests(checkout: Checkout) -> dict[str, str]:
    """Of everything that the pipeline has made."""
    rooms = [checkout.root / name for name in ("data", "models", "metrics", "plots", "reports")]
    return {
        str(path.relative_to(checkout.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for room in rooms
        for path in room.rglob("*")
        if path.is_file()
    }


def test_what_one_clone_pushes_another_pulls_and_runs_nothing(
    trained: Checkout, s3: Mapping[str, str], tmp_path: Path, note: Note
) -> None:
    pytest.importorskip("dvc_s3", reason="uv pip install -e '.[s3]'")
    remote = f"s3://{BUCKET}/dvc"
    trained.run("dvc", "remote", "add", "--default", "storage", remote)
    trained.run("dvc", "remote", "modify", "storage", "endpointurl", s3["MLFLOW_S3_ENDPOINT_URL"])
    trained.run("git", "commit", "--quiet", "--message", "remote", ".dvc/config")
    try:
        pushed = trained.run("dvc", "push").stdout
        trained.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    finally:
        trained.run("git", "reset", "--quiet", "--hard", "HEAD~1")
    assert stored(s3, "dvc/files/md5/")
    clone = Checkout(tmp_path / "clone")
    # Only these stages were run: a bare `dvc pull` asks for every other as well.
    pulled = clone.run("dvc", "pull", "--with-deps", STAGE).stdout
    note(f"{pushed.splitlines()[-1]}; {pulled.splitlines()[-1]}")
    assert digests(clone) == digests(trained)
    again = clone.run("dvc", "repro", STAGE).stdout
    assert "Running stage" not in again
    assert "up to date" in again
    assert clone.run("dvc", "push").stdout.strip() == "Everything is up to date."


def artifacts_of(uri: str, folder: Path) -> dict[str, bytes]:
    """Every artifact of every run as it is read back, by stage and name."""
    from mlflow.artifacts import download_artifacts
    from mlflow.tracking import MlflowClient

    client, found = MlflowClient(uri), {}
    experiment = client.get_experiment_by_name("octrobust")
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id]):
        target = folder / run.info.run_id
        target.mkdir(parents=True)
        download_artifacts(run_id=run.info.run_id, dst_path=str(target), tracking_uri=uri)
        for path in target.rglob("*"):
            if path.is_file():
                name = f"{run.data.tags['octrobust.stage']}/{path.relative_to(target)}"
                found[name] = path.read_bytes()
    return found


@pytest.fixture(params=["through MLflow's server", "direct"])
def store(
    request: pytest.FixtureRequest, s3: Mapping[str, str], tmp_path: Path
) -> Iterator[tuple[str, str]]:
    """The tracking address, and the bucket's folder where its artifacts must lie."""
    database = f"sqlite:///{tmp_path / 'store.db'}"
    prefix = f"mlflow-{request.param.split()[0]}"
    if request.param == "direct":
        create = [sys.executable, "-m", "mlflow", "experiments", "create"]
        create += [
            "--experiment-name",
            "octrobust",
            "--artifact-location",
            f"s3://{BUCKET}/{prefix}",
        ]
        subprocess.run(create, env={**os.environ, "MLFLOW_TRACKING_URI": database}, check=True)
        yield database, prefix
        return
    server, port = mlflow_server(tmp_path, database, f"s3://{BUCKET}/{prefix}", s3)
    server.start()
    yield f"http://127.0.0.1:{port}", prefix
    server.kill()


def test_mlflow_keeps_its_artifacts_in_a_bucket(
    store: tuple[str, str],
    s3: Mapping[str, str],
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri, prefix = store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", s3["MLFLOW_S3_ENDPOINT_URL"])
    put("train@a")
    put("report")
    assert set(tracking.flush().logged) == {"train@a", "report"}
    complete(uri, project, ["train@a"])
    found = artifacts_of(uri, tmp_path / "read back")
    assert len(found) == len(stored(s3, prefix)) > 5
    for name, local in {
        "train@a/metrics/train/a.json": "metrics/train/a.json",
        "report/reports/cards/hardened_online.md": "reports/cards/hardened_online.md",
    }.items():
        assert found[name] == (project / local).read_bytes()
    model = (project / "models/hardened_online/model.safetensors").read_bytes()
    assert model in found.values()
    assert not list(project.rglob("mlruns/**/*.json")), "some artifacts stayed on this machine"
