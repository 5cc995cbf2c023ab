"""The page over all results: the numbers to reach, each beside what was measured.

Everything is computed from the JSON files in the folder; nothing is typed by hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import outgrow, statistics, tables
from bench.implementations import OUR_ROWS, OURS, OURS_SHORT, PROJECTION
from bench.markdown import number, spread, table
from bench.memory import LINEAR
from bench.statistics import Document
from octrobust.files import read_json, write_text

ART_1, ART_N = "ART, batch 1 (as shipped)", "ART, batch N"
EQUAL_ITERATIONS = (  # without early abort
    "foolbox",
    "foolbox, channels-last network",
    "torchattacks",
    "advertorch",
    "advertorch, channels-last network",
)
TIMES = {ART_1: 25.0, ART_N: 20.0}
TIMES_PEER, TIMES_TO_QUALITY, FLOOR_SHARE, FLAT = 8.0, 12.0, 0.5, 1.1
# Where more images than this fail, a median over all is one of the worst successes: no verdict.
MOST_FAILURES = 0.1

Verdict = tuple[str, str, str, str]  # what, where, measured, reached


def write(folder: Path) -> None:
    """Write ``folder/README.md`` from the records there."""
    documents = {path: read_json(path) for path in sorted(folder.glob("*.json"))}
    verdicts = [v for path, document in documents.items() for v in judge(path, document)]
    gpu = any(map(_on_gpu, documents.values()))
    lines = [
        "# Results",
        "Written by `python benchmarks/ead.py readme` from the JSON files beside it. "
        f"`{OURS}`: the published algorithm, searched in bf16 where the machine has it (other "
        "examples than in fp32, as the ablation shows; every success is judged in fp32); "
        f"`{OURS_SHORT}`: with the options that change it, FISTA still; "
        f"`{PROJECTION}`: the same objective by another way "
        "(`src/octrobust/attack/projection.py`), which stops when it has settled; its constants "
        "were chosen on the network of 80 px, which flatters it there. "
        "Ratios are of seconds in the same turn, smallest to largest turn (of a single turn, over "
        "every turn of ours); a number is "
        "reached only where its smallest turn reaches it. At equal iterations a peer is one "
        "without early abort: with it some are quicker, and end at larger distances (their rows "
        "are in the tables); the solver that stops by itself is set beside the same peers. Time "
        "to quality has the peers that its table names alone. Each table is of the revision that "
        "it gives: later ones of the engine may differ. The attacks have the learning rate "
        "0.5, at which a few iterations get somewhere, where a row names no other, and, the "
        "ablation apart, whole batches: of fewer images ours fills batches up unless told not to "
        "(`Speed.fill`), and is then slower than the peers.",
        "## Numbers to reach",
        table(
            ("number to reach", "where", "measured, and whether it is reached"),
            _rows(verdicts),
            numbers=False,
        ),
    ]
    if not gpu:
        lines.append(
            "No GPU was at hand: the GPU's part was not run. `make bench` on a machine with CUDA "
            "adds it."
        )
    lines += [
        "## What equal iterations leave on the table",
        "\n".join(_ceiling(list(documents.values()))),
    ]
    lines.append(
        "Beside folding and a written-out way back, `torch.compile` was tried: the table *What one "
        "pass costs* has it. Where a table has one turn its ratios carry no spread; medians rest "
        "on the images that the table names."
    )
    lines += ["## Tables", "\n".join(_links(documents))]
    lines += [
        f"![{path.stem}]({document['plot']})"
        for path, document in documents.items()
        if document["kind"] == "quality" and (folder / document["plot"]).exists()
    ]
    write_text(folder / "README.md", "\n\n".join(lines) + "\n")


def _rows(verdicts: Sequence[Verdict]) -> list[tuple[str, str, str]]:
    """A row for each number and place; what each of our rows reached of it, line by line."""
    lines: dict[tuple[str, str], list[str]] = {}
    for what, where, measured, reached in verdicts:
        mine, known, number_to_reach = what.partition("`: ")
        name, goal = (f"{mine}`: ", number_to_reach) if known else ("", what)
        lines.setdefault((goal, where), []).append(f"{name}{measured}: {reached}")
    return [(*row, "<br>".join(each)) for row, each in lines.items()]


def judge(path: Path, document: Document) -> Iterator[Verdict]:
    """The numbers to reach that this record speaks of."""
    where = f"[{path.stem}]({path.with_suffix('.md').name})"
    if "cpu" in document["machine"]:
        device = document["machine"]["gpu" if _on_gpu(document) else "cpu"]
        where += f", {device}, threads: {document['machine']['threads']}"
    if document["kind"] == "compare":
        yield from _speed(where, document)
        yield from _distance(where, document)
        yield from _memory_at_batch(where, document)
    elif document["kind"] == "quality":
        yield from _to_quality(where, document)
    elif document["kind"] == "floor" and "rates" in document.get("floor", {}):
        yield from _floor(where, document)
    elif document["kind"] == "memory":
        yield from _flat(where, document)
    else:
        yield from outgrow.judge(where, document)


def _speed(where: str, document: Document) -> Iterator[Verdict]:
    goals = dict(TIMES)
    peer = statistics.quickest(document, list(EQUAL_ITERATIONS))
    if peer:
        goals[peer] = TIMES_PEER
    judged = bool(_peers(document)) and _best_success(document) >= 1 - MOST_FAILURES
    for name, goal in goals.items():
        for mine in statistics.ran(document, OUR_ROWS):
            found = statistics.ratios(document, name, mine)
            if found:
                fastest = ", the fastest other peer" if name == peer else ""
                what = (
                    f"`{mine}`: ≥ {goal:g} x {name}{fastest}, {_budget(mine)}, "
                    "success and distance as good as any peer's"
                )
                measured, fast = f"{spread(found)} x", min(found) >= goal
                as_good = judged and _as_good(document, mine)
                if fast and not as_good:
                    measured += "; not as good" if judged else "; distance not judged"
                yield what, where, measured, _reached(document, fast and as_good)


def _budget(mine: str) -> str:
    """How the iterations compare: the projection solver stops when it has settled, and where it
    finds nothing FISTA follows, with as many again."""
    return "at equal iterations" if mine != PROJECTION else "stopping by itself"


def _peers(document: Document) -> dict[str, list[dict[str, Any]]]:
    """The runs of those without early abort."""
    names = (ART_1, ART_N, *EQUAL_ITERATIONS)
    return {name: statistics.of(document, name) for name in statistics.ran(document, names)}


def _as_good(document: Document, mine: str) -> bool:
    """Success no lower, and the median over all images no larger, than any peer's."""
    runs, peers = statistics.of(document, mine), _peers(document).values()
    rate, median = statistics.success(runs), statistics.median_of_all(runs)
    return all(
        rate >= statistics.success(theirs) and median <= statistics.median_of_all(theirs)
        for theirs in peers
    )


def _best_success(document: Document) -> float:
    """The share of images that some peer turns."""
    return max(map(statistics.success, _peers(document).values()))


def _reached(document: Document, good: bool) -> str:
    """And beside whom, where not all peers ran: ART's distance is the smallest."""
    peers = _peers(document)
    if not good or ART_1 in peers or ART_N in peers:
        return _yes(good)
    libraries = dict.fromkeys(name.partition(",")[0] for name in peers)
    return f"{_yes(good)} beside {' and '.join(libraries)}; ART did not run here"


def _distance(where: str, document: Document) -> Iterator[Verdict]:
    """Success no lower and a median no larger than the peer's with the smallest median."""
    peers = _peers(document)
    if not peers:
        return
    medians = {name: statistics.median_of_all(runs) for name, runs in peers.items()}
    best = min(peers, key=medians.__getitem__)
    rate = _best_success(document)
    for mine in statistics.ran(document, OUR_ROWS):
        runs = statistics.of(document, mine)
        value, success = statistics.median_of_all(runs), statistics.success(runs)
        measured = (
            f"{success:.1%} at {number(value)}, peers at most {rate:.1%}, "
            f"{best} at {number(medians[best])}"
        )
        what = f"`{mine}`: success no lower, median elastic-net distance no larger than any peer's"
        if rate < 1 - MOST_FAILURES:
            yield what, where, f"not judged: of no peer's images succeed more than {rate:.0%}", "–"
        else:
            yield what, where, measured, _reached(document, _as_good(document, mine))


def _memory_at_batch(where: str, document: Document) -> Iterator[Verdict]:
    kind = _memory_kind(document)
    theirs = [run.get(kind) for run in statistics.of(document, "foolbox")]
    for mine in statistics.ran(document, OUR_ROWS):
        ours = [run.get(kind) for run in statistics.of(document, mine)]
        if theirs and ours and None not in (*theirs, *ours):
            measured = f"{number(max(ours))} MiB, foolbox {number(max(theirs))} MiB"
            what = f"`{mine}`: peak memory no more than foolbox's at the same batch"
            yield what, where, measured, _yes(max(ours) <= max(theirs))


def _to_quality(where: str, document: Document) -> Iterator[Verdict]:
    race = statistics.race(document, OUR_ROWS)
    if race is None:
        return
    for mine in statistics.ran(document, OUR_ROWS):
        when = race.ours[mine]
        times = race.seconds / when if race.seconds and when else math.nan
        measured = f"{number(times)} x" if when else "not within the budgets run"
        what = (
            f"`{mine}`: time to the median that the best peer ends at, "
            f"≥ {TIMES_TO_QUALITY:g} x faster"
        )
        measured += f" ({race.peer}, {number(race.target)})"
        least = statistics.closest(document, mine, OUR_ROWS)
        if least:
            measured += f"; to where {least[0]} ends, {number(least[1])} x"
        yield what, where, measured, _yes(times >= TIMES_TO_QUALITY)


def _floor(where: str, document: Document) -> Iterator[Verdict]:
    ours = [run for run in statistics.good(document) if "verdict_seconds" in run]
    for precision in dict.fromkeys(run["precision"] for run in ours):
        runs = [run for run in ours if run["precision"] == precision]
        loops = [tables.loop_share(document, run) for run in runs]
        whole = [tables.share(document, run) for run in runs]
        what = f"≥ {FLOOR_SHARE:.0%} of the convolution floor in the search loop, {precision}"
        measured = (
            f"{_percent(loops)}; whole attack, screens and verdicts as overhead, {_percent(whole)}"
        )
        yield what, where, measured, _yes(min(loops) >= FLOOR_SHARE)
    if "bf16" not in document["floor"]["rates"]:
        what = f"≥ {FLOOR_SHARE:.0%} of the convolution floor, bf16"
        yield what, where, "not measured: no bf16 units (AMX) on this processor", "**no**"


def _percent(shares: list[float]) -> str:
    """The smallest and the largest of the turns."""
    return " to ".join(dict.fromkeys(f"{share:.0%}" for share in (min(shares), max(shares))))


def _flat(where: str, document: Document) -> Iterator[Verdict]:
    every = sorted(statistics.good(document), key=lambda run: int(run["images"]))
    for network in dict.fromkeys(run["network"] for run in every):
        runs = [run for run in every if run["network"] == network]
        if len(runs) > 1:
            # A linear network stays on the CPU.
            kind = "rss_mib" if network == LINEAR else _memory_kind(document)
            small, large = runs[0], runs[-1]
            measured = ", ".join(f"{run['images']}: {number(run[kind])} MiB" for run in runs)
            what = (
                f"memory flat in the number of images, {network} network: {large['images']} "
                f"within 10 % of {small['images']}"
            )
            yield what, where, measured, _yes(large[kind] <= FLAT * small[kind])


def _memory_kind(document: Document) -> str:
    return "cuda_mib" if _on_gpu(document) else "rss_mib"


def _on_gpu(document: Document) -> bool:
    """Whether it ran there: a machine may have one that was not used."""
    return bool(document.get("setting", {}).get("device") == "cuda")


def _yes(reached: bool) -> str:
    return "yes" if reached else "**no**"


def _links(documents: dict[Path, dict[str, Any]]) -> Iterator[str]:
    for path, document in documents.items():
        name = path.with_suffix(".md").name
        revision = document["machine"]["revision"] or "unknown"
        about = f"[JSON]({path.name}), revision {revision[:9]}"
        yield f"- [{tables.title(document)}]({name}) ({about})"


def _ceiling(documents: Sequence[Document]) -> Iterator[str]:
    """How much faster equal iterations could be: what is left above the floor."""
    for floor in documents:
        rates = floor.get("floor", {}).get("rates") if floor["kind"] == "floor" else None
        if not rates:
            continue
        best = max(rates, key=lambda precision: rates[precision]["gflops"])
        for document in documents:
            peer = statistics.quickest(document, list(EQUAL_ITERATIONS))
            found = statistics.ratios(document, peer, OURS) if peer else []
            if document["kind"] != "compare" or not found or not _alike(document, floor):
                continue
            images = document["setting"]["images"]
            shares = [
                tables.arithmetic(floor, run, best, images) / run["seconds"]
                for run in statistics.good(document)
                if run["name"] == OURS
            ]
            share = sum(shares) / len(shares)
            yield (
                f"- {tables.title(document).partition(': ')[2]}: `{OURS}` is {spread(found)} x "
                f"as fast as {peer}. The convolutions of its passes and screens take "
                f"{share:.0%} of its time ({best}, at the rate of the floor); one "
                f"that did nothing else would reach {number(max(found) / share)} x."
            )


def _alike(document: Document, floor: Document) -> bool:
    """Whether the floor was measured for that size, by as many threads of the same processor."""
    return document["setting"]["size"] == floor["setting"]["size"] and all(
        document["machine"][name] == floor["machine"][name] for name in ("cpu", "threads")
    )
