"""Numbers out of a record's runs; every table, plot and verdict is computed here, from the JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean, median
from typing import Any

Document = dict[str, Any]
Run = dict[str, Any]

DISTANCES = ("l1", "l2", "elastic_net")


def good(document: Document) -> list[Run]:
    return [run for run in document["runs"] if "error" not in run]


def names(document: Document) -> list[str]:
    """In the order in which they first ran."""
    return list(dict.fromkeys(run["name"] for run in document["runs"]))


def of(document: Document, name: str) -> list[Run]:
    return [run for run in good(document) if run["name"] == name]


def seconds(runs: list[Run]) -> float:
    return median(run["seconds"] for run in runs)


def success(runs: list[Run]) -> float:
    """Share of all images, over all turns."""
    return fmean(hit for run in runs for hit in run["success"])


def successes(runs: list[Run], distance: str) -> list[float]:
    """That distance of every successful image, over all turns."""
    return [value for run in runs for value in run[distance] if value is not None]


def median_of_all(runs: list[Run], distance: str = "elastic_net") -> float:
    """Over all images attacked, a failure counting as infinitely far."""
    values = (math.inf if value is None else value for run in runs for value in run[distance])
    return median(values)


def summary(runs: list[Run]) -> dict[str, float | None]:
    """Of one implementation's turns; None where nothing succeeded or nothing was measured."""
    found: dict[str, float | None] = {
        "seconds": seconds(runs),
        "images_per_second": len(runs[0]["success"]) / seconds(runs),
        "forwards": median(run["forwards"] for run in runs),
        "backwards": median(run["backwards"] for run in runs),
        "success": success(runs),
        "rss_mib": max(run["rss_mib"] for run in runs),
        "cuda_mib": max((run["cuda_mib"] for run in runs if "cuda_mib" in run), default=None),
    }
    for name in DISTANCES:
        values = successes(runs, name)
        found[f"{name}_mean"] = fmean(values) if values else None
        found[f"{name}_median"] = median(values) if values else None
    en = [value for value in successes(runs, "elastic_net") if value > 0]
    found["elastic_net_geometric"] = geometric_mean(en) if en else None
    return found


def ratios(document: Document, name: str, ours: str) -> list[float]:
    """Seconds of `name` over seconds of `ours`, turn by turn; of a single turn, over all of ours:
    how fast the machine was at that turn is not known."""
    mine = {run["turn"]: run["seconds"] for run in of(document, ours)}
    theirs = of(document, name)
    if len(theirs) == 1:
        return [theirs[0]["seconds"] / seconds for seconds in mine.values()]
    return [run["seconds"] / mine[run["turn"]] for run in theirs if run["turn"] in mine]


def ran(document: Document, candidates: Sequence[str]) -> list[str]:
    """Those of them that have a result, in their order."""
    return [name for name in candidates if of(document, name)]


def quickest(document: Document, candidates: list[str]) -> str | None:
    """Which of them took the fewest seconds."""
    return min(
        ran(document, candidates), key=lambda name: seconds(of(document, name)), default=None
    )


def _by_budget(document: Document, name: str) -> list[list[Run]]:
    """Its runs at each number of iterations, the smallest first."""
    budgets: dict[int, list[Run]] = {}
    for run in of(document, name):
        budgets.setdefault(run["max_iter"], []).append(run)
    return [budgets[budget] for budget in sorted(budgets)]


def curve(document: Document, name: str) -> list[tuple[float, float]]:
    """(seconds, smallest median elastic-net distance so far), by time; budgets of a `quality`
    record. The median is over all images attacked, infinite where half of them failed."""
    points = sorted((seconds(runs), median_of_all(runs)) for runs in _by_budget(document, name))
    best, envelope = math.inf, []
    for when, value in points:
        best = min(best, value)
        envelope.append((when, best))
    return envelope


def time_to(document: Document, name: str, target: float, least: float) -> float | None:
    """Seconds of the quickest budget at which as many succeed as `least` (a share) and the median
    is no larger; nothing is interpolated."""
    there = (
        seconds(runs)
        for runs in _by_budget(document, name)
        if success(runs) >= least and median_of_all(runs) <= target
    )
    return min(there, default=None)


@dataclass(frozen=True)
class Race:
    """To the smallest median that a peer ends at: who that is, the median, and its seconds; of
    each of ours, its own seconds, None where it does not get there with as many successes."""

    peer: str
    target: float
    seconds: float | None
    ours: dict[str, float | None]


def race(document: Document, ours: Sequence[str]) -> Race | None:
    """Ours that ran against the best peer; None where no peer ends anywhere."""
    ran = names(document)
    best = best_end(document, [name for name in ran if name not in ours])
    if best is None:
        return None
    peer, target = best
    least = success(_by_budget(document, peer)[-1])
    when = {name: time_to(document, name, target, least) for name in (peer, *ours)}
    return Race(peer, target, when.pop(peer), {k: v for k, v in when.items() if k in ran})


def ahead(document: Document, mine: str, runs: list[Run]) -> float | None:
    """How many times longer these runs take than `mine` to as good an end, None where it has none
    within its budgets."""
    when = time_to(document, mine, median_of_all(runs), success(runs))
    return seconds(runs) / when if when else None


def closest(document: Document, mine: str, ours: Sequence[str]) -> tuple[str, float] | None:
    """The peer that `mine` is least ahead of, and by how many times, on the way to where that peer
    ends; peers that end where `mine` does not get left out."""
    peers = ran(document, [name for name in names(document) if name not in ours])
    times = {name: ahead(document, mine, _by_budget(document, name)[-1]) for name in peers}
    known = {name: value for name, value in times.items() if value is not None}
    return min(known.items(), key=lambda item: item[1], default=None)


def best_end(document: Document, candidates: list[str]) -> tuple[str, float] | None:
    """Who of them ends at the smallest median, and that median."""
    ends = {name: points[-1][1] for name in candidates if (points := curve(document, name))}
    finite = {name: value for name, value in ends.items() if math.isfinite(value)}
    return min(finite.items(), key=lambda item: item[1], default=None)
