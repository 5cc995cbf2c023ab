"""One measurement in a process of its own: `python benchmarks/worker.py SPEC RESULT` (JSON both).

Started by `bench.runs`; SPEC's `task` says which function below does it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import implementations
from bench.counting import Counted
from bench.floor import measure_floor
from bench.memory import LINEAR, peak_memory
from bench.passes import measure_passes
from bench.training import measure_notebooks, measure_ours, measure_training_floor
from torch import Tensor, nn

from octrobust.attack import distances
from octrobust.attack.shards import Clean, craft
from octrobust.errors import UserError
from octrobust.files import write_json
from octrobust.model.build import OCTClassifier
from octrobust.model.predict import predict
from octrobust.model.store import load_model

Spec = dict[str, Any]


def attack(spec: Spec) -> Spec:
    """Run one implementation over all images and judge what it returns."""
    device = torch.device(spec["device"])
    x, y = _images(spec, device)
    network = _network(spec, spec["implementation"]["channels_last"])
    _allow_tf32(spec["implementation"]["tf32"])
    _warm_up(network, x[:1])
    run = _ours if spec["implementation"]["library"] == "octrobust" else _peer
    found, x_adv = run(spec, network, x, y)
    _allow_tf32(False)
    untouched = _network(spec)
    return {**found, **judge(untouched, x, x_adv, y, spec["parameters"]["beta"])}


def _network(spec: Spec, channels_last: bool = False) -> OCTClassifier:
    """As facenet-pytorch builds it, in torch's own layout: channels-last is a speed-up of ours."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return load_model(Path(spec["model"]), spec["device"]).to(memory_format=layout)


def _linear(x: np.ndarray[Any, Any]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(x[0].size, 2)).eval()


def judge(network: OCTClassifier, x: Tensor, x_adv: Tensor, y: Tensor, beta: float) -> Spec:
    """Per image: success on the original network in fp32, and distances in [0, 1] units, null
    where there is no success. All images were right when clean. A black image is foolbox's way
    to return a failure, whatever the network says of it."""
    x_adv = x_adv.detach().to(x.device).float()
    with torch.no_grad():
        wrong = torch.from_numpy(predict(network, x_adv)).to(y.device) != y
    wrong &= x_adv.flatten(1).any(1)
    success = (wrong & (x_adv.amin((1, 2, 3)) >= 0) & (x_adv.amax((1, 2, 3)) <= 1)).tolist()
    measured = {
        "l1": distances.l1(x, x_adv),
        "l2": distances.l2(x, x_adv),
        "elastic_net": distances.elastic_net(x, x_adv, beta),
    }
    return {"success": success} | {
        name: [value if ok else None for value, ok in zip(values.tolist(), success, strict=True)]
        for name, values in measured.items()
    }


def _parameters(spec: Spec) -> implementations.Parameters:
    own = spec["implementation"]["parameters"]
    return implementations.Parameters(**spec["parameters"] | own)


def _peer(spec: Spec, network: OCTClassifier, x: Tensor, y: Tensor) -> tuple[Spec, Tensor]:
    row = spec["implementation"]
    counted = Counted(network).eval()
    parameters = _parameters(spec)
    run = implementations.crafter(
        row["library"], counted, parameters, row["options"], spec["batch"]
    )
    with peak_memory() as memory:
        seconds, x_adv = _timed(lambda: run(x, y), x.device)
    return {
        "seconds": seconds,
        "forwards": counted.forwards / len(x),
        "backwards": counted.backwards / len(x),
        "parameter_gradients": counted.parameter_gradients > 0,
        **memory,
    }, x_adv


def _ours(spec: Spec, network: OCTClassifier, x: Tensor, y: Tensor) -> tuple[Spec, Tensor]:
    parameters = _parameters(spec)
    options = spec["implementation"]["options"]
    attack = implementations.our_attack(network, parameters, options, spec["batch"])
    verdicts: list[float] = []
    ask = attack.margins

    def timed_margins(*question: Tensor) -> Tensor:
        seconds, margins = _timed(lambda: ask(*question), x.device)
        verdicts.append(seconds)
        return margins  # type: ignore[no-any-return]

    attack.margins = timed_margins  # type: ignore[method-assign]
    with peak_memory() as memory:
        seconds, x_adv = _timed(lambda: attack.generate(x, y), x.device)
    counts = {name: count / len(x) for name, count in asdict(attack.spent).items()}
    return {
        "seconds": seconds,
        "verdict_seconds": sum(verdicts),
        "forwards": sum(counts.values()),
        "backwards": counts["gradients"] + counts["filled_gradients"],
        "parameter_gradients": any(p.grad is not None for p in network.parameters()),
        **counts,
        **memory,
    }, x_adv


def profiled(spec: Spec) -> Spec:
    """Where our attack's time goes: seconds and calls of torch's operators, without their callees,
    and the images passed through a network."""
    device = torch.device(spec["device"])
    x, y = _images(spec, device)
    network = _network(spec)
    options = spec["implementation"]["options"]
    ours = implementations.our_attack(network, _parameters(spec), options, spec["batch"])
    _warm_up(network, x[:1])
    with torch.profiler.profile() as profile:
        seconds, _ = _timed(lambda: ours.generate(x, y), device)
    kind = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    operators = [
        {"operator": event.key, "seconds": getattr(event, kind) / 1e6, "calls": event.count}
        for event in profile.key_averages()
        if event.device_type == torch.autograd.DeviceType.CPU  # kernels stand once more by name
    ]
    operators.sort(key=lambda operator: -operator["seconds"])
    return {"seconds": seconds, "operators": operators[:12], **asdict(ours.spent)}


def crafted(spec: Spec) -> Spec:
    """Peak memory and seconds of `images` images through the pipeline's shards."""
    x = _images(spec, torch.device("cpu"))[0].numpy()
    network = _linear(x) if spec["network"] == LINEAR else _network(spec)
    y = predict(network, torch.from_numpy(x))
    parameters = implementations.Parameters(**spec["parameters"])
    ours = implementations.our_attack(network, parameters, {}, spec["batch"])
    count, folder = spec["images"], Path(spec["folder"])
    clean = Clean(
        views=lambda rows: x[np.asarray(rows) % len(x), :1],
        targets=np.resize(y, count),
        rows=np.arange(count),
    )
    with peak_memory() as memory:
        seconds, _ = _timed(
            lambda: craft(
                ours,
                clean,
                channels=spec["channels"],
                shard_size=spec["batch"],
                unfinished=folder / "unfinished",
                out=folder / "out",
                made_by={},
            ),
            next(network.parameters()).device,  # the linear one stays on the CPU
        )
    return {"seconds": seconds, **memory}


def _images(spec: Spec, device: torch.device) -> tuple[Tensor, Tensor]:
    with np.load(spec["arrays"], allow_pickle=False) as arrays:
        x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    if spec["channels"] == "rgb":
        x = x.expand(-1, 3, -1, -1).contiguous()
    return x.to(device), y.to(device)


def _allow_tf32(allowed: bool | None) -> None:
    """None leaves torch's default, which lets CUDA convolutions use TF32."""
    if allowed is not None:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def _warm_up(network: OCTClassifier, x: Tensor) -> None:
    """One image there and back: libraries load before the clock starts."""
    with torch.enable_grad():
        at = x.clone().requires_grad_(True)
        torch.autograd.grad(network(at).sum(), at)


def _timed(run: Any, device: torch.device) -> tuple[float, Any]:
    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    started = now()
    result = run()
    return now() - started, result


TASKS = {
    "attack": attack,
    "floor": measure_floor,
    "passes": measure_passes,
    "crafted": crafted,
    "profile": profiled,
    "training_floor": measure_training_floor,
    "training_notebooks": measure_notebooks,
    "training_ours": measure_ours,
}


def main(spec_file: Path, result_file: Path) -> None:
    spec = json.loads(spec_file.read_text(encoding="utf-8"))
    torch.set_num_threads(spec["threads"])
    warnings.simplefilter("ignore")
    try:
        result = TASKS[spec["task"]](spec)
    except UserError as error:
        result = {"error": str(error)}
    except Exception as error:  # a row of the table, not the end of the run
        where = error.__traceback__
        while where and where.tb_next:
            where = where.tb_next
        line = f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}" if where else ""
        result = {"error": f"{type(error).__name__}: {error} ({line})"}
    write_json(result_file, result)


if __name__ == "__main__":
    assert os.environ.get("OMP_NUM_THREADS"), "start it through bench.runs, which pins threads"
    main(Path(sys.argv[1]), Path(sys.argv[2]))
