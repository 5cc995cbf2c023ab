"""The registered model: what is stored, and what it answers to image files."""

from __future__ import annotations

import base64
import json
import urllib.request
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from octrobust.data.arrays import view_of
from octrobust.model.build import OCTClassifier
from octrobust.model.predict import probabilities
from octrobust.model.store import load_model, save_model
from octrobust.tracking.records import Candidate
from octrobust.tracking.registry import register, write_pyfunc
from tests.servers import Server, answering, free_port

SIDE = 80


CANDIDATE = Candidate(
    name="hardened_online",
    weights_sha256="0" * 64,
    image_size=SIDE,
    classes=("CNV", "NORMAL"),
    robust_accuracy=0.5,
    measured="so",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as it is registered, beside the folder that it was made of."""
    home = tmp_path_factory.mktemp("served")
    torch.manual_seed(0)
    save_model(home / "model", OCTClassifier("image", 0.0).eval(), {})
    write_pyfunc(home / "registered", home / "model", CANDIDATE)
    return home


@pytest.fixture(scope="module")
def store(place: Path) -> str:
    """A tracking store in which that model is registered."""
    from mlflow.tracking import MlflowClient

    address = f"sqlite:///{place / 'mlflow.db'}"
    client = MlflowClient(address)
    experiment = client.create_experiment("octrobust", (place / "artifacts").as_uri())
    register(client, client.create_run(experiment), CANDIDATE, place / "model", "A card.")
    return address


@pytest.fixture(scope="module")
def served(place: Path) -> Any:
    from mlflow import pyfunc

    return pyfunc.load_model(str(place / "registered"))


def image_file(size: tuple[int, int], mode: str, kind: str) -> bytes:
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def test_files_of_any_size_are_read_as_the_pipeline_reads_them(served: Any, place: Path) -> None:
    files = [image_file((512, 496), "L", "PNG"), image_file((90, 200), "RGB", "JPEG")]
    found = served.predict(pd.DataFrame({"image": files}))
    views = []
    for number, file in enumerate(files):
        (place / str(number)).write_bytes(file)
        views.append(view_of(place / str(number), SIDE))
    expected = probabilities(load_model(place / "model"), torch.from_numpy(np.stack(views)))
    assert list(found.columns) == ["CNV", "NORMAL"]
    np.testing.assert_array_equal(found.to_numpy(), expected)


def test_a_file_that_is_no_image_is_named_by_its_row(served: Any) -> None:
    with pytest.raises(ValueError, match="row 1 of 'image'"):
        served.predict(pd.DataFrame({"image": [image_file((90, 90), "L", "PNG"), b"no image"]}))


def test_no_code_and_no_pickle_is_stored(place: Path) -> None:
    names = {path.name for path in (place / "registered").rglob("*") if path.is_file()}
    assert "model.safetensors" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".py", ".pt"))]


def test_the_example_is_a_scan_that_a_client_can_post(served: Any, place: Path) -> None:
    posted = json.loads((place / "registered" / "serving_input_example.json").read_text())
    ((text,),) = posted["dataframe_split"]["data"]
    file = base64.b64decode(text)
    assert Image.open(BytesIO(file)).format == "PNG"
    answer = served.predict(pd.DataFrame({"image": [file]}))
    assert answer.to_numpy().sum() == pytest.approx(1, abs=1e-6)


def test_mlflows_own_server_answers_a_posted_image(place: Path, served: Any, store: str) -> None:
    """By the name in the registry, as docs/how-to/mlflow.md has it."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = ("mlflow", "models", "serve", "--env-manager", "local", "--host", "127.0.0.1")
    command += ("--port", str(port), "--model-uri", "models:/octrobust@best")
    server = Server(
        command,
        place / "server.log",
        answering(f"{address}/ping"),
        environment={"MLFLOW_TRACKING_URI": store},
    )
    file = image_file((512, 496), "L", "JPEG")
    posted = {"dataframe_records": [{"image": base64.b64encode(file).decode()}]}
    request = urllib.request.Request(
        f"{address}/invocations",
        json.dumps(posted).encode(),
        {"Content-Type": "application/json"},
    )
    server.start()
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
    finally:
        server.kill()
    (expected,) = served.predict(pd.DataFrame({"image": [file]})).to_dict("records")
    assert found["predictions"] == [pytest.approx(expected, abs=1e-6)]
