"""The parts of the benchmark: each runs its workers and leaves a JSON and a Markdown file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import implementations, machine, plots
from bench.floor import quicker
from bench.implementations import Implementation, Parameters
from bench.memory import LINEAR
from bench.network import Pool
from bench.runs import Record, Setting, Workbench, take_turns, turns

# Fixed costs of a run fade with its length; every step of the search leaves x at this constant.
FLOOR_PARAMETERS = Parameters(binary_search_steps=2, max_iter=10, initial_const=1.0)


def compare(
    setting: Setting, pool: Pool, rows: Sequence[Implementation], out: Path, kind: str = "compare"
) -> Path:
    """Side by side, in turns."""
    path = out / f"{kind}-{setting.name}.json"
    with Workbench(setting, pool) as bench:
        record = Record(path, kind, setting.threads, **bench.about())
        take_turns(bench, rows, record)
    return _finish(record)


def ablation(setting: Setting, pool: Pool, rows: Sequence[Implementation], out: Path) -> Path:
    """Ours without one speed-up at a time, and with one shortcut at a time."""
    return compare(setting, pool, rows, out, kind="ablation")


def throughput(setting: Setting, pool: Pool, rows: Sequence[Implementation], out: Path) -> Path:
    """Ours at every precision of the GPU beside the fastest peers, these with torch's default
    (TF32 in convolutions) and in fp32."""
    return compare(setting, pool, rows, out, kind="throughput")


def passes(setting: Setting, pool: Pool, out: Path) -> Path:
    """One pass, as the speed-ups come on one by one."""
    path = out / f"passes-{setting.where}-batch{setting.batch}.json"
    with Workbench(setting, pool) as bench:
        record = Record(path, "passes", setting.threads, **bench.about())
        record.add({"name": "passes", "turn": 0, **bench.work("passes", "one pass, every way")})
    return _finish(record)


def quality(
    setting: Setting,
    pool: Pool,
    rows: Sequence[Implementation],
    budgets: Sequence[int],
    limits: dict[str, int],
    out: Path,
) -> Path:
    """Each row at each budget (iterations a search step); `limits`: the largest for some rows."""
    path = out / f"quality-{setting.name.rsplit('x', 1)[0]}steps.json"
    plot = path.with_suffix(".png")
    with Workbench(setting, pool) as bench:
        about = {**bench.about(), "budgets": list(budgets), "limits": limits, "plot": plot.name}
        record = Record(path, "quality", setting.threads, **about)
        for turn in range(setting.repeats):
            for budget in budgets:
                parameters = replace(setting.parameters, max_iter=budget)
                for row in rows:
                    if budget > limits.get(row.name, budget) or turn >= turns(row, setting.repeats):
                        continue
                    found = bench.attack(row, parameters)
                    record.add({"turn": turn, "max_iter": budget, **found})
    plots.quality(record.document, plot)
    return _finish(record)


def floor(
    setting: Setting, pool: Pool, best_of: int, peers: Sequence[Implementation], out: Path
) -> Path:
    """Convolutions alone, then whole attacks at that batch and size."""
    setting = replace(setting, parameters=FLOOR_PARAMETERS, images=setting.batch)
    path = out / f"floor-{setting.where}-batch{setting.batch}.json"
    with Workbench(setting, pool) as bench:
        record = Record(path, "floor", setting.threads, **bench.about(), best_of=best_of)
        for turn in range(setting.repeats):
            found = bench.work("floor", "convolutions alone", best_of=best_of)
            record.document["floor"] = quicker(record.document.get("floor"), found)
            for row, precision in (*_our_precisions(setting), *_in_fp32(peers)):
                run = bench.attack(row)
                if "error" not in run:
                    passes = run.get("gradients", run["backwards"]) * setting.images
                    run["seconds_an_iteration"] = run["seconds"] / passes if passes else None
                record.add({"turn": turn, "precision": precision, **run})
    return _finish(record)


def profile(setting: Setting, pool: Pool, rows: Sequence[Implementation], out: Path) -> Path:
    """What our attack's time is made of, by torch's profiler."""
    path = out / f"profile-{setting.name}.json"
    with Workbench(setting, pool) as bench:
        record = Record(path, "profile", setting.threads, **bench.about())
        for row in rows:
            found = bench.work("profile", row.name, implementation=row.as_json())
            record.add({"name": row.name, "library": row.library, "turn": 0, **found})
    return _finish(record)


def _our_precisions(setting: Setting) -> list[tuple[Implementation, str]]:
    fp32, tf32, bf16 = implementations.precision_rows()
    some = [(fp32, "fp32")] + ([(bf16, "bf16")] if machine.has_bf16(setting.device) else [])
    return [*some, (tf32, "TF32")] if setting.device == "cuda" else some


def _in_fp32(peers: Sequence[Implementation]) -> list[tuple[Implementation, str]]:
    """Without the TF32 that torch's default allows on CUDA."""
    return [(replace(peer, tf32=False), "fp32") for peer in peers]


def memory(
    setting: Setting, pool: Pool, counts: Sequence[int], linear: Sequence[int], out: Path
) -> Path:
    """Peak memory of our attack through the pipeline's shards, for growing sets: on the network,
    and on a linear one."""
    path = out / f"memory-{setting.where}-batch{setting.batch}.json"
    with Workbench(setting, pool) as bench:
        record = Record(path, "memory", setting.threads, **bench.about())
        each = [("trained", count) for count in counts] + [(LINEAR, count) for count in linear]
        for network, count in each:
            about = {"images": count, "network": network}
            with tempfile.TemporaryDirectory() as folder:
                found = bench.work("crafted", f"{network}, {count}", folder=folder, **about)
            record.add({"name": f"{network}, {count} images", **about, **found})
    return _finish(record)


def _finish(record: Record) -> Path:
    print(record.path.with_suffix(".md").read_text(encoding="utf-8"))
    return record.path
