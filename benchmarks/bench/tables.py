"""Records as Markdown."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from bench import machine, outgrow, passes, statistics
from bench.floor import METHOD
from bench.implementations import OUR_ROWS, OURS, PROJECTION
from bench.markdown import number, spread, table
from bench.statistics import Document
from octrobust.files import write_text


def write(path: Path, document: Document) -> None:
    """The record's table beside its JSON, `path`."""
    parts = [f"# {title(document)}", machine.in_words(document["machine"])]
    parts += [_setting(document)] if "setting" in document else []
    parts += TABLES[document["kind"]](document)
    write_text(path.with_suffix(".md"), "\n\n".join(parts) + "\n")


def title(document: Document) -> str:
    kinds = {
        "compare": "Elastic-Net attacks side by side",
        "quality": "Time to quality",
        "ablation": "What each speed-up and each shortcut gives",
        "floor": "Share of the arithmetic floor",
        "passes": "What one pass costs",
        "memory": "Peak memory by number of images",
        "throughput": "Images per second on the GPU",
        "profile": "Where our attack's time goes",
        **outgrow.TITLES,
    }
    setting = document.get("setting")
    where = f": {setting['size']} px, {setting['channels']}" if setting else ""
    if document["kind"] == "compare":
        own = setting["parameters"]
        where += f", {own['binary_search_steps']} x {own['max_iter']}"
    return kinds[document["kind"]] + where


def _setting(document: Document) -> str:
    setting = document["setting"]
    attack = setting["parameters"]
    budget = (
        "" if document["kind"] == "quality" else f" x {attack['max_iter']} iterations"
    )  # there the iterations are the axis
    count = "" if document["kind"] == "memory" else f"{setting['images']} "  # there the axis too
    slow = (
        " (ART: the first alone)"
        if setting["repeats"] > 1 and any(run.get("library") == "art" for run in document["runs"])
        else ""
    )
    if document["kind"] == "passes":
        return (
            f"{setting['size']} px ({setting['channels']}), on {setting['device']}. "
            f"Network: {document['network']}."
        )
    return (
        f"{count}images of {setting['size']} px ({setting['channels']}), all right "
        f"when clean, batch {setting['batch']}, on {setting['device']}; "
        f"{attack['binary_search_steps']} search steps{budget}, "
        f"learning rate {attack['learning_rate']:g}, beta {attack['beta']:g}, initial constant "
        f"{attack['initial_const']:g}, untargeted, rule EN; turns: {setting['repeats']}{slow}. "
        f"Network: {document['network']}."
    )


def _errors(document: Document) -> list[str]:
    """A line for each implementation that failed."""
    failed = {run["name"]: run["error"] for run in document["runs"] if "error" in run}
    return [f"**{name}** failed: {error}" for name, error in failed.items()]


def _compare(document: Document) -> list[str]:
    counted = any("filled_gradients" in run for run in document["runs"])
    filled = "included" if counted else "left out"
    return [
        _speeds(document),
        "Times ours: that row's seconds over ours in the same turn, smallest to largest turn (of a "
        f"single turn, over every turn of ours). Passes of ours: what fills up batches {filled}.",
        _results(document),
        "Success is judged on the original network in fp32; distances are over successes only, "
        "in [0, 1] image units, all turns together; EN is squared L2 + beta x L1.",
        *_errors(document),
    ]


def _speeds(document: Document) -> str:
    ours = statistics.ran(document, OUR_ROWS)
    rows = []
    for name in statistics.names(document):
        runs = statistics.of(document, name)
        if not runs:
            continue
        s = statistics.summary(runs)
        kinds = ("seconds", "images_per_second", "forwards", "backwards")
        rows.append([name, *(number(s[kind]) for kind in kinds)])
        rows[-1].append("yes" if runs[0]["parameter_gradients"] else "no")
        cuda = f" + {number(s['cuda_mib'])} CUDA" if s["cuda_mib"] is not None else ""
        rows[-1].append(number(s["rss_mib"]) + cuda)
        rows[-1] += [spread(statistics.ratios(document, name, mine)) for mine in ours]
    head = ["implementation", "seconds, median", "images/s", "forwards an image"]
    head += ["backwards an image", "parameter gradients", "peak memory above start, MiB"]
    return table([*head, *(f"times `{mine}`" for mine in ours)], rows)


def _results(document: Document) -> str:
    columns = [f"{d}_{kind}" for d in statistics.DISTANCES for kind in ("mean", "median")]
    rows = []
    for name in statistics.names(document):
        runs = statistics.of(document, name)
        if runs:
            s = statistics.summary(runs)
            values = [s[column] for column in (*columns, "elastic_net_geometric")]
            rows.append([name, f"{s['success']:.1%}", *map(number, values)])
    distances = ["mean L1", "median L1", "mean L2", "median L2", "mean EN", "median EN"]
    return table(["implementation", "success", *distances, "geometric mean EN"], rows)


def _quality(document: Document) -> list[str]:
    rows = []
    ours = statistics.ran(document, OUR_ROWS)
    for name in statistics.names(document):
        runs = statistics.of(document, name)
        for budget in sorted({run["max_iter"] for run in runs}):
            here = [run for run in runs if run["max_iter"] == budget]
            rows.append([name, str(budget), number(statistics.seconds(here))])
            rows[-1].append(f"{statistics.success(here):.1%}")
            rows[-1].append(number(statistics.median_of_all(here)))
            times = (statistics.ahead(document, mine, here) for mine in ours)
            rows[-1] += ["–" if value is None else number(value) for value in times]
    head = ["implementation", "iterations a step", "seconds, median", "success"]
    head += ["median EN of all", *(f"times `{mine}` to there" for mine in ours)]
    return [
        "The median is over all images attacked, a failure counting as infinitely far. "
        f"`{PROJECTION}` runs as a single search step: its iterations are all there are. Times "
        "ours to there: that row's seconds over those of our first budget with as many successes "
        "at no larger a median; –: none within the budgets.",
        *_to_quality(document),
        f"![Median elastic-net distance over time]({document['plot']})",
        table(head, rows),
        *_errors(document),
    ]


def _to_quality(document: Document) -> list[str]:
    race = statistics.race(document, OUR_ROWS)
    if race is None:
        return []
    theirs = race.seconds
    lines = [
        f"The best peer, {race.peer}, ends at {number(race.target)}, which it reaches in "
        f"{number(theirs)} s."
    ]
    for mine, when in race.ours.items():
        if when is not None and theirs is not None:
            lines.append(
                f"`{mine}` is there in {number(when)} s: {number(theirs / when)} x faster."
            )
        else:
            lines.append(f"`{mine}` does not get there within its budgets.")
    return [" ".join(lines) + " (First budget that is as good; nothing interpolated.)"]


def _ablation(document: Document) -> list[str]:
    rows = []
    for name in statistics.names(document):
        runs = statistics.of(document, name)
        if not runs:
            continue
        s = statistics.summary(runs)
        rows.append(
            [name, number(s["seconds"]), spread(statistics.ratios(document, name, OURS))]
            + [f"{s['success']:.1%}", number(statistics.median_of_all(runs))]
            + [number(s[f"elastic_net_{kind}"]) for kind in ("median", "mean", "geometric")]
            + [number(runs[0][kind]) for kind in ("gradients", "screens", "verdicts")]
            + [number(runs[0][f"filled_{kind}"]) for kind in ("gradients", "forwards")]
        )
    head = ["variant", "seconds, median", f"times `{OURS}`", "success", "median EN of all"]
    head += ["median EN", "mean EN", "geometric mean EN"]
    head += ["gradients an image", "screens an image", "verdicts an image"]
    head += ["gradients that fill up batches", "forwards that do"]
    return [
        f"`{OURS}` has every speed-up on, the precision that the machine is quickest in, and every "
        "shortcut off. Batches have one size: what fills up the last is counted apart. A ratio "
        "above 1 of a variant without a speed-up is what that speed-up gives; one below 1 of a "
        f"variant with a shortcut is what the shortcut saves.{_noise(document)}",
        table(head, rows),
        *_errors(document),
    ]


def _noise(document: Document) -> str:
    """The row that is `octrobust` once more, by what it asked of the network."""

    def asked(name: str) -> list[Any]:
        kinds = ("gradients", "screens", "verdicts")
        return [run[kind] for run in statistics.of(document, name)[:1] for kind in kinds]

    for name in ("fp32 search", "bf16 search"):
        if name in statistics.names(document) and asked(name) == asked(OURS):
            ratios = spread(statistics.ratios(document, name, OURS))
            return (
                f" `{name}` is what `{OURS}` does on this machine anyway: its ratio, {ratios}, "
                "is the noise; what a variant asks of the network is exact."
            )
    return ""


def _floor(document: Document) -> list[str]:
    found = document.get("floor", {})
    if "rates" not in found:
        return [f"The floor was not measured: {found.get('error', 'the run was cut short')}"]
    rates, measured = [], []
    for name, rate in found["rates"].items():
        times = rate["forward_ms"], rate["backward_ms"], rate["gflops"]
        rates.append([name, *map(number, times), number(1e3 * floor_seconds(document, name))])
    for run in statistics.good(document):
        time = number(1e3 * run["seconds_an_iteration"])
        loop = f"{loop_share(document, run):.0%}" if "verdict_seconds" in run else "–"
        measured.append([run["name"], run["precision"], time, f"{share(document, run):.0%}", loop])
    head = ["convolutions in", "forward, ms an image", "input gradient, ms an image"]
    return [
        METHOD.format(best_of=document["best_of"]),
        f"Forward and input gradient of one image: {number(found['gflop'], 4)} GFLOP, "
        f"{found['convolutions']} convolutions.",
        table([*head, "GFLOP/s sustained", "floor of an iteration, ms an image"], rates),
        table(
            [
                *("attack", "floor of", "ms an iteration and image"),
                *("share of the floor, whole attack", "search loop"),
            ],
            measured,
        ),
        *_errors(document),
    ]


def floor_seconds(document: Document, precision: str) -> float:
    """Of one iteration of one image."""
    found = document["floor"]
    return float(found["gflop"] / found["rates"][precision]["gflops"])


def share(document: Document, run: dict[str, Any]) -> float:
    """How much of its time the convolutions alone would need."""
    return floor_seconds(document, run["precision"]) / float(run["seconds_an_iteration"])


def loop_share(document: Document, run: dict[str, Any]) -> float:
    """The same of the search loop: verdicts left out, the arithmetic of screens counted."""
    return arithmetic(document, run) / float(run["seconds"] - run["verdict_seconds"])


def arithmetic(
    floor: Document, run: dict[str, Any], precision: str | None = None, images: int | None = None
) -> float:
    """Seconds that the convolutions of the search alone need, screens included, at the rates of
    `floor`. Precision and images are the run's own, and the floor's, where they are not given."""
    precision = precision or str(run["precision"])
    images, rate = images or floor["setting"]["images"], floor["floor"]["rates"][precision]
    gradients = run["gradients"] * floor_seconds(floor, precision)
    return float(images * (gradients + run["screens"] * rate["forward_ms"] / 1e3))


def _passes(document: Document) -> list[str]:
    (run,) = statistics.good(document)
    found = run["milliseconds"]
    times = {name: sorted(found[name]) for name in passes.BUILDERS if name in found}
    first = median(next(iter(times.values())))
    rows = [
        (
            *(name, number(median(values)), f"{number(values[0])} to {number(values[-1])}"),
            f"{number(first / median(values))} x",
        )
        for name, values in times.items()
    ]
    head = ["forward and the images' gradient", "ms an image, median", "all", "times the first"]
    return [
        f"One batch of {document['setting']['batch']} random images, in one process, in turns, "
        f"{len(next(iter(times.values())))} each; compiling is not counted.",
        table(head, rows),
        *(f"{name}: {error}" for name, error in run["errors"].items()),
    ]


def _memory(document: Document) -> list[str]:
    rows = []
    for run in statistics.good(document):
        measured = run["rss_mib"], run.get("cuda_mib"), run["seconds"]
        rows.append([run["name"], *map(number, measured)])
    head = ["through `octrobust.attack.shards.craft`", "peak memory above start, MiB"]
    return [
        table([*head, "CUDA, MiB", "seconds"], rows),
        "A linear network has no buffers to speak of: what it shows is kept by the pipeline.",
        *_errors(document),
    ]


def _throughput(document: Document) -> list[str]:
    rows = []
    ran = statistics.ran(document, statistics.names(document))
    peers = [name for name in ran if statistics.of(document, name)[0]["library"] != "octrobust"]
    for name in ran:
        s = statistics.summary(statistics.of(document, name))
        hours = projected_hours(document, name)
        rows.append([name, number(s["images_per_second"]), f"{s['success']:.1%}"])
        rows[-1] += [number(s["elastic_net_median"]), number(s["cuda_mib"]), number(hours)]
        rows[-1] += [spread(statistics.ratios(document, peer, name)) for peer in peers]
    head = ["precision", "images/s", "success", "median EN", "CUDA, MiB", "15,000 images, hours"]
    return [
        table([*head, *(f"times as fast as {peer}" for peer in peers)], rows),
        "Hours: of 15,000 such images at 9 x 100, in proportion to the iterations run here.",
        *_errors(document),
    ]


def projected_hours(document: Document, name: str) -> float:
    """Of the paper's set: 15,000 images at 9 x 100, from this run's own budget."""
    setting = document["setting"]
    attack = setting["parameters"]
    budget = setting["images"] * attack["binary_search_steps"] * attack["max_iter"]
    seconds = statistics.seconds(statistics.of(document, name))
    return 15_000 * 9 * 100 * seconds / budget / 3600


def _profile(document: Document) -> list[str]:
    parts = ["Operators without their callees, by torch's profiler, which slows the run down."]
    for run in statistics.good(document):
        images = document["setting"]["images"]
        passes = ", ".join(
            f"{number(run[kind] / images)} {kind}" for kind in ("gradients", "screens", "verdicts")
        )
        rows = [
            (
                *(f"`{op['operator']}`", str(op["calls"]), number(op["seconds"])),
                f"{op['seconds'] / run['seconds']:.0%}",
            )
            for op in run["operators"]
        ]
        head = ("operator", "calls", "seconds", "share")
        parts += [
            f"**{run['name']}**: {number(run['seconds'])} s; passes an image: {passes}.",
            table(head, rows),
        ]
    return [*parts, *_errors(document)]


TABLES = {
    "compare": _compare,
    "quality": _quality,
    "ablation": _ablation,
    "floor": _floor,
    "passes": _passes,
    "memory": _memory,
    "throughput": _throughput,
    "profile": _profile,
    **outgrow.TABLES,
}
