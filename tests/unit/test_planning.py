"""The plan's arithmetic, against torch's own count on the real network and a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from octrobust import config
from octrobust.attack.suite import Pgd, Views
from octrobust.cli import app
from octrobust.errors import UserError
from octrobust.model.build import OCTClassifier, count_parameters, freeze_through
from octrobust.planning import devices, estimate, measuring, network, show, work
from octrobust.planning.work import Pass, Stage
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def model() -> OCTClassifier:
    torch.manual_seed(0)
    return OCTClassifier().eval()


def counted(model: OCTClassifier, size: int, *, image: bool) -> int:
    """FLOPs of one image forward and back, by torch's own counter."""
    with FlopCounterMode(display=False) as counter:
        x = torch.rand(1, 3, size, size, requires_grad=image)
        model(x).sum().backward()
    return int(counter.get_total_flops())


def test_a_gradient_at_the_image_is_what_torch_counts(model: OCTClassifier) -> None:
    model.requires_grad_(False)
    assert network.gradient_flops(96) == counted(model, 96, image=True)


@pytest.mark.parametrize("frozen", [None, "conv2d_2b", "repeat_1", "repeat_2"])
def test_a_training_step_is_what_torch_counts(model: OCTClassifier, frozen: str | None) -> None:
    freeze_through(model, frozen)
    assert network.training_flops(80, frozen) == counted(model, 80, image=False)
    assert network.parameters(frozen) == count_parameters(model)["trainable"]


@pytest.mark.parametrize(
    ("start", "frozen", "calibrated"),
    [("attacked", "repeat_1", False), ("fresh", None, True), ("/x/phantom.pt", None, False)],
)
def test_a_defence_costs_what_its_start_leaves_to_train(
    start: str, frozen: str | None, calibrated: bool
) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["train"]["variants"]["config_1"]["freeze_through"] = "repeat_1"
    values["harden"]["variants"]["control"]["starts_from"] = start
    params = config.parse(values, "params.yaml")
    stage = work.harden_stage(params, "control")
    settings = params.harden.fit("control")
    fits = work.fit_passes(params, settings, stage.images, frozen)
    assert list(stage.passes[calibrated:]) == fits
    assert len(stage.passes) == len(fits) + calibrated


def test_a_moved_line_costs_another_pass_over_all_images() -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    own = values["harden"]["variants"]["online"]
    learnt = work.harden_stage(config.parse(values, "params.yaml"), "online")
    own["threshold"] = "moved"
    moved = work.harden_stage(config.parse(values, "params.yaml"), "online")
    more = {
        one.kind: sum(two.images for two in moved.passes if two.kind == one.kind)
        - sum(two.images for two in learnt.passes if two.kind == one.kind)
        for one in learnt.passes
    }
    images = learnt.images + 2 * values["split"]["validation"]
    assert more["validate"] == images
    assert more["gradient"] == images * own["inner"]["validation_steps"]
    assert more["train"] == 0


def test_weights_take_what_the_state_takes(model: OCTClassifier) -> None:
    state = model.network.state_dict().values()
    assert network.model_bytes() == sum(one.numel() * one.element_size() for one in state)


def test_activations_are_what_the_convolutions_put_out(model: OCTClassifier) -> None:
    found = []
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    hooks = [m.register_forward_hook(lambda *a: found.append(a[2].numel())) for m in convolutions]
    with torch.no_grad():
        model(torch.rand(1, 3, 75, 75))
    for hook in hooks:
        hook.remove()
    assert len(found) == network.layers()
    assert sum(found) == network.values(75)


def changed(params: config.Params, **sections: dict[str, Any]) -> config.Params:
    values = params.model_dump(mode="json")
    for name, changes in sections.items():
        values[name] |= changes
    return config.parse(values)


def named(stages: list[Stage]) -> dict[str, Stage]:
    return {stage.name: stage for stage in stages}


def test_the_stages_are_those_of_dvc(params: config.Params) -> None:
    """In the order of dvc.yaml, a foreach by its keys."""
    written = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    values = params.model_dump(mode="json")
    expected = []
    for name, stage in written.items():
        keys = stage.get("foreach")
        if isinstance(keys, str):
            found: Any = values
            for part in keys.strip("${}").split("."):
                found = found[part]
            keys = list(found)
        expected += [f"{name}@{key}" for key in keys] if keys is not None else [name]
    assert [stage.name for stage in work.stages(params)] == expected


def test_images_of_the_demo_are_those_it_recorded(params: config.Params) -> None:
    """Against the committed metrics of a finished run."""
    planned = named(work.stages(params))

    def recorded(name: str) -> Any:
        return json.loads((ROOT / "metrics" / f"{name}.json").read_text())

    assert planned["ingest"].images == recorded("ingest")["images"]
    assert planned["prepare"].images == recorded("prepare")["images"]["total"]
    assert planned["prepare"].disk == recorded("prepare")["bytes"]
    for split in ("train", "test"):
        assert planned[f"attack@{split}"].images == recorded(f"attack/{split}")["images"]
    for name in params.train.variants:
        assert planned[f"train@{name}"].images == recorded(f"train/{name}")["images"]
    for name in params.harden.variants:
        assert planned[f"harden@{name}"].images == recorded(f"train/hardened_{name}")["images"]
    for name in params.evaluate.battery.models:
        assert planned[f"battery@{name}"].images == recorded(f"battery/{name}")["images"]


def test_gradients_of_pgd_are_those_it_asks_for(model: OCTClassifier) -> None:
    freeze_through(model, None)
    views = Views(model)
    x, y = torch.rand(2, 1, 75, 75), torch.tensor([0, 1])
    battery = config.load(ROOT / "params.yaml").evaluate.battery.model_copy(
        update={"steps": 2, "restarts": 1}
    )
    Pgd(views, "L2", 0.5, battery.steps, battery.restarts, 1)(x, y)
    planned = sum(one.images for one in measuring._pgd(battery, 2) if one.kind == "gradient")
    assert views.of(x).spent.gradients == planned


def test_ten_times_the_images_take_ten_times_the_passes(params: config.Params) -> None:
    counts = {name: 10 * count for name, count in params.split.counts().items()}
    small = named(
        work.stages(changed(params, attack={"images_per_class": {"train": None, "test": None}}))
    )
    large = named(
        work.stages(
            changed(
                params, split=counts, attack={"images_per_class": {"train": None, "test": None}}
            )
        )
    )
    for name in ("attack@train", "harden@static", "harden@online"):
        ratio = large[name].flops(80) / small[name].flops(80)
        assert ratio == pytest.approx(10, rel=0.02), name  # but for incomplete batches


def test_a_solver_that_settles_early_takes_fewer_passes(params: config.Params) -> None:
    attack = params.attack.model_copy(update={"max_iter": 100})
    fista = attack.model_copy(
        update={"shortcuts": attack.shortcuts.model_copy(update={"solver": "fista"})}
    )

    def gradients(one: config.Attack) -> float:
        return sum(p.images for p in work.search_passes(one, 160, 128) if p.kind == "gradient")

    assert gradients(fista) > 5 * gradients(attack)


def test_a_gpu_is_no_faster_than_its_kernels_can_be_started() -> None:
    gpu = devices.find("h100")
    one = devices.seconds(gpu, Pass("forward", 64, 64), 80)
    assert one == pytest.approx(network.layers() * 3 * devices.LAUNCH_SECONDS)
    large = devices.seconds(gpu, Pass("train", 640, 64, "bf16"), 512)
    assert large > network.training_flops(512) * 640 / (gpu.bf16 or 1) / 1e12


def test_a_gpu_without_bf16_is_planned_in_float32() -> None:
    t4 = devices.find("T4")
    times = [devices.seconds(t4, Pass("train", 16, 16, p), 224) for p in ("auto", "fp32")]
    assert times[0] == times[1]


def test_an_unknown_gpu_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match="--gpu: 'H9000' is none of: H200, H100"):
        devices.find("H9000")


def test_the_command_prints_every_stage_and_numbers_as_json(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["data"]["image_size"] = 75
    values["train"] |= {"batch_size": 4, "variants": {"config_1": {"freeze_through": None}}}
    values["harden"] |= {"batch_size": 4}
    values["evaluate"]["adaptive"] = ["hardened_static"]
    values["compute"] |= {"predict_batch_size": 4, "threads": 1}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    done = CliRunner().invoke(app, ["plan", "--params", str(path), "--gpu", "l4", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["gpu"]["name"] == "L4"
    stages = [stage.name for stage in work.stages(config.load(path))]
    assert [one["stage"] for one in found["stages"]] == [*stages, estimate.TRACKER]
    assert all(one["seconds"] >= 0 and one["gpu_seconds"] >= 0 for one in found["stages"])
    passes = {"train", "validate", "gradient", "forward", "through_art"}
    assert passes <= {name.split()[0] for name in found["calibration"]["passes"]}
    whole = sum(one["seconds"] + one["start_seconds"] for one in found["stages"])
    assert found["total"]["seconds"] == pytest.approx(whole)


def test_the_table_has_a_line_a_stage() -> None:
    lines = [estimate.Planned("split", 9, 2e12, 5 * 2**20, 0, 1.0, 200.0, 50.0)]
    table = show._table(lines, devices.find("L4"))
    cells = [list(column.cells) for column in table.columns]
    assert [column[0] for column in cells] == [
        *("split", "9", "2.0", "5 MiB", "", "3 min", "51 s"),
    ]


def test_a_plan_for_several_processes_says_that_it_is_of_one(params: config.Params) -> None:
    compute = params.compute.model_copy(update={"launcher": "torchrun", "processes": 4})
    measured = {"seconds": 9.0}
    assert not any("of one process" in line for line in show.notes(measured, None, params.compute))
    assert any("starts 4 on each of 1" in line for line in show.notes(measured, None, compute))


def test_activations_are_of_the_precision_that_auto_is_here(
    params: config.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, found = params.train.fit(), {}
    for bf16 in (False, True):
        monkeypatch.setattr("octrobust.model.device.use_bf16", lambda *_, it=bf16: it)
        found[bf16] = work._fit_memory(params, settings, None)
    wide = 2 * network.values(params.data.image_size, None) * settings.batch_size
    assert found[False] - found[True] == 2 * wide


def test_a_bad_gpu_ends_before_anything_is_measured() -> None:
    done = CliRunner().invoke(app, ["plan", "--gpu", "abacus"])
    assert done.exit_code == 2
