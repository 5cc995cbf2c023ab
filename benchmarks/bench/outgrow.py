"""Tables and verdicts of what was asked of size, decoders, training and the plan."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from bench.markdown import number, spread, table
from bench.statistics import Document, good, names, of

MEMORY_RATIO, TIME_SLACK, WAIT, TRAINING_TIMES, PLAN_OFF = 1.2, 1.15, 0.05, 3.0, 0.25
TITLES = {
    "decoders": "Decoders side by side",
    "faults": "What was survived",
    "plan": "The plan against a finished run",
    "ranks": "One process and several",
    "scale": "Memory and time against size",
    "training": "Training side by side",
}
Verdict = tuple[str, str, str, str]


def judge(where: str, document: Document) -> Iterator[Verdict]:
    """What was to be reached, where, what was measured, and whether it is reached."""
    yield from VERDICTS.get(document["kind"], lambda *_: ())(where, document)


def _decoders(document: Document) -> list[str]:
    about = document["about"]
    sizes = sorted({run["size"] for run in document["runs"]})
    rows = []
    for name in names(document):
        row = [name]
        for size in sizes:
            runs = [run for run in of(document, name) if run["size"] == size]
            apart = runs[0]["difference"]
            row.append(spread([run["images_per_second"] for run in runs]))
            row.append(f"{apart['largest']} ({number(apart['mean'])})" if apart else "–")
        rows.append(row)
    head = ["decoder"]
    for size in sizes:
        head += [f"{size} px: images/s", "largest (mean) difference, grey levels"]
    kind = "real" if about["real"] else "phantom"
    return [
        f"{about['images']} {kind} scans, from the file to the grey square that is stored; "
        f"{document['machine']['threads']} at a time, turns: {about['turns']}, smallest to "
        "largest. The difference is from the pixels that `prepare` stores.",
        table(head, rows),
    ]


def _training(document: Document) -> list[str]:
    about, floor = document["about"], document["floor"]
    rows = []
    for name in names(document):
        runs = of(document, name)
        if not runs:
            continue
        own = [run["images_per_second"] for run in runs]
        row = [name, spread(own), spread(training_ratios(document, name))]
        row.append(spread([100 * run["wait_share"] for run in runs]))
        row.append(_floor_share(document, name))
        rows.append(row)
    once = [run["prepare_seconds"] for run in good(document) if "prepare_seconds" in run]
    errors = [f"**{run['name']}**: {run['error']}" for run in document["runs"] if "error" in run]
    floors = ", ".join(
        f"{kind} {number(floor[kind])} ms" for kind in ("fp32", "bf16") if kind in floor
    )
    head = ["way", "images/s", "times the notebooks'", "loader wait, % of a step"]
    return [
        f"{about['size']} px, images: {about['images']}; {about['steps']} steps a turn after the "
        f"first two, turns: {about['turns']}, smallest to largest. Every way trains "
        "Inception-ResNet-V1 from random weights with SGD and the notebooks' augmentation, in one "
        "process without loader workers. The notebooks' way: ImageFolder, JPEG decoding and "
        "resizing in every epoch, batch 8, float32, torch's own layout.",
        table([*head, "share of the convolution floor, %"], rows),
        f"Convolution floor of a training step, an image, batch {floor.get('batch')}: {floors} "
        "(every convolution alone, channels-last, forward and both gradients). Decoding, which "
        f"ours does once for all epochs and models, took {number(1e3 * median(once))} ms an image."
        if once
        else "",
        *errors,
    ]


def training_ratios(document: Document, name: str) -> list[float]:
    """Images a second over those of the notebooks' way in the same turn."""
    theirs = {run["turn"]: run["images_per_second"] for run in of(document, names(document)[0])}
    runs = of(document, name)
    return [run["images_per_second"] / theirs[run["turn"]] for run in runs if run["turn"] in theirs]


def _floor_share(document: Document, name: str) -> str:
    runs = of(document, name)
    kind = "bf16" if runs[0].get("bf16") else "fp32"
    if kind not in document["floor"]:
        return "–"
    floor = document["floor"][kind] / 1e3
    return spread([100 * floor * run["images_per_second"] for run in runs])


def _training_verdicts(where: str, document: Document) -> Iterator[Verdict]:
    for name in names(document)[1:]:
        found = training_ratios(document, name)
        if "auto" in name and found:
            what = f"training, {name}: ≥ {TRAINING_TIMES:g} x the notebooks' images/s"
            yield what, where, f"{spread(found)} x", _yes(min(found) >= TRAINING_TIMES)
            waits = [run["wait_share"] for run in of(document, name)]
            what = f"training, {name}: loader wait under {WAIT:.0%} of a step"
            yield what, where, f"{max(waits):.1%}", _yes(max(waits) < WAIT)


def _scale(document: Document) -> list[str]:
    about = document["about"]
    rows = []
    for name in names(document):
        small, large = _pair(document, name)
        if small is None or large is None:
            continue
        memory, seconds = large["own_mib"] / small["own_mib"], large["seconds"] / small["seconds"]
        rows.append(
            [
                *(
                    name,
                    f"{small['handled']} / {large['handled']}",
                    number(small["own_mib"]),
                    number(large["own_mib"]),
                    number(memory),
                ),
                *(number(small["rss_mib"]), number(large["rss_mib"])),
                *(number(small["seconds"]), number(large["seconds"]), number(seconds)),
            ]
        )
    few, many = about["small"], about["large"]
    head = [
        "stage",
        "images read",
        f"own memory, {few}: MiB",
        f"{many}: MiB",
        "ratio",
        f"RSS, {few}: MiB",
    ]
    return [
        f"{few} and {many} scans of real size (496 px high, JPEG), {about['size']} px into the "
        "network; attack and training cut to a few iterations, a process a stage, start-up "
        "included. *Own memory* is the peak of what the process itself holds; RSS also counts the "
        "pages of mapped files, a cache that the kernel takes back when memory is short.",
        table([*head, f"{many}: MiB", f"{few}: s", f"{many}: s", "ratio"], rows),
        "Revisions: "
        + ", ".join(
            f"{name} {large['revision'][:7]}"
            for name in names(document)
            if (large := _pair(document, name)[1])
        )
        + ".",
    ]


def _pair(document: Document, name: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    by_count = {run["images"]: run for run in of(document, name)}
    return by_count.get(document["about"]["small"]), by_count.get(document["about"]["large"])


def _scale_verdicts(where: str, document: Document) -> Iterator[Verdict]:
    pairs = {name: _pair(document, name) for name in names(document)}
    whole = {name: (a, b) for name, (a, b) in pairs.items() if a and b}
    if not whole:
        return
    about = document["about"]
    times = about["large"] / about["small"]
    memory = {name: b["own_mib"] / a["own_mib"] for name, (a, b) in whole.items()}
    worst = max(memory, key=memory.__getitem__)
    what = f"peak memory of every stage at {about['large']} images ≤ {MEMORY_RATIO:g} x that at "
    measured = f"{number(memory[worst])} x ({worst})"
    yield what + f"{about['small']}", where, measured, _yes(memory[worst] <= MEMORY_RATIO)
    seconds = {name: b["seconds"] / a["seconds"] for name, (a, b) in whole.items()}
    slowest = max(seconds, key=seconds.__getitem__)
    what = f"time of every stage linear: {times:g} x the images ≤ {times * TIME_SLACK:g} x the time"
    measured = f"{number(seconds[slowest])} x ({slowest})"
    yield what, where, measured, _yes(seconds[slowest] <= times * TIME_SLACK)


def _plan(document: Document) -> list[str]:
    rows = [
        [run["name"], number(run["planned"]), number(run["measured"]), _off(run)]
        for run in document["runs"]
    ]
    return [
        document["about"]["text"],
        table(["stage", "planned, s", "measured, s", "planned over measured"], rows),
    ]


def _faults(document: Document) -> list[str]:
    rows = [
        [f"`{run['name']}`", run["counted"], run["cpu"], run["date"], run["revision"][:7]]
        for run in document["runs"]
    ]
    return [
        "The tests of `tests/faults`, and what they counted; runs of a part of them "
        "(`make faults FAULTS=...`) leave the other rows, so each has its own revision.",
        table(["test", "counted", "processor", "date", "revision"], rows, numbers=False),
    ]


def _ranks(document: Document) -> list[str]:
    about, runs = document["about"], document["runs"]
    rows = [
        [
            run["name"],
            *(number(run[task]["work"]) for task in ("train", "attack")),
            *(number(run[task]["whole"]) for task in ("train", "attack")),
            *(f"{run[name]:.1e}" for name in ("weights_apart", "statistics_apart")),
            *(f"{run[name]:.4f}" for name in ("train_loss", "validation_loss")),
            f"{run['validation_accuracy']:.0%}",
            "yes" if run["same_set"] else "**no**",
        ]
        for run in runs
    ]
    head = [
        "ranks",
        "training, s",
        "attack, s",
        "training with its start, s",
        "attack with its start, s",
    ]
    head += ["weights apart", "statistics apart", "train loss", "validation loss"]
    return [
        f"{about['size']} px; `train.variants.{about['variant']}`, batch {about['batch']}, "
        f"{about['epochs']} epochs of {about['trained']} images; EAD ({about['solver']}) on "
        f"{about['attacked']} test images, on the first row's model, shards of "
        f"{about.get('shard', 'all')}. Ranks share "
        f"{document['machine']['threads']} threads. Apart: relative L2 distance from the first "
        "row's model, of weights and of BatchNorm's running statistics; losses and accuracy: of "
        "the last epoch. The set: rows, successes and distances against the first row's.",
        table([*head, "validation accuracy", "same set"], rows),
    ]


def _off(run: dict[str, Any]) -> str:
    return f"{run['planned'] / run['measured'] - 1:+.0%}" if run["measured"] else "–"


def _plan_verdicts(where: str, document: Document) -> Iterator[Verdict]:
    for run in document["runs"]:
        if run.get("judged"):
            off = run["planned"] / run["measured"] - 1
            what = f"plan within {PLAN_OFF:.0%} of the real time: {run['name']}"
            measured = f"{number(run['planned'])} s of {number(run['measured'])} s, {off:+.0%}"
            yield what, where, measured, _yes(abs(off) <= PLAN_OFF)


def _yes(reached: bool) -> str:
    return "yes" if reached else "**no**"


TABLES = {
    "decoders": _decoders,
    "faults": _faults,
    "plan": _plan,
    "ranks": _ranks,
    "scale": _scale,
    "training": _training,
}
VERDICTS = {
    "plan": _plan_verdicts,
    "scale": _scale_verdicts,
    "training": _training_verdicts,
}
