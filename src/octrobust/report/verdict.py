"""What the page opens with: a verdict in two sentences, and the accuracies it rests on."""

from __future__ import annotations

from dataclasses import dataclass

from octrobust.config import CLEAN, PAPERS, Params
from octrobust.report import paper
from octrobust.report.results import (
    Numbers,
    Results,
    best_defence,
    main_budget,
    main_channels,
)
from octrobust.report.wording import NBSP, interval, percent

_LEADS = {
    None: "How much adversarial training the paper's way protects was not measured within a budget",
    "more": "Adversarial training the paper's way does protect here",
    "less": "Adversarial training the paper's way makes it worse here",
    "same": "Adversarial training the paper's way is not shown to protect here",
}


@dataclass(frozen=True)
class Mark:
    """An accuracy on the scale, with its interval; fractions. `published` is None where not
    printed; `worse`: the number of its model that counts."""

    title: str
    accuracy: float
    low: float
    high: float
    images: int
    published: float | None = None
    worse: bool = False


def verdict(results: Results, params: Params) -> tuple[str, str]:
    """Whether the paper's defence protects; then why that is said, and what the best one keeps."""
    target, budget = results.target, main_budget(params)
    left = _within(results, params)
    mine, theirs = left.get(PAPERS), left.get(target)
    static, adaptive = (
        percent(results.score(PAPERS, made)["accuracy"], 0) for made in (target, PAPERS)
    )
    why = (
        f"{PAPERS} is right on {static} of the test images attacked on {target} (static EAD, no "
        f"budget), on {adaptive} of those attacked on itself (adaptive)"
    )
    if mine and theirs:
        why += (
            f", and within L2{NBSP}{budget} the battery leaves it {_share(mine)}, the undefended "
            f"{target} {_share(theirs)} (adaptive, {mine.images} images)"
        )
    best, _ = best_defence(results, params)
    chosen = f"{best}, the best defence by validation images,"
    if best == PAPERS:
        more = "No other defence did better on validation images."
    elif best in left:
        more = f"{chosen} keeps {_share(left[best])} within L2{NBSP}{budget}."
    else:
        more = f"{chosen} was not in the battery."
    return _LEADS[_compared(mine, theirs) if mine and theirs else None], f"{why}. {more}"


def _share(mark: Mark) -> str:
    return f"{percent(mark.accuracy, 0)} {interval(mark.low, mark.high, 0)}"


def _compared(mine: Mark, theirs: Mark) -> str:
    """By intervals that do not overlap, which is careful."""
    if mine.low > theirs.high:
        return "more"
    return "less" if mine.high < theirs.low else "same"


def _within(results: Results, params: Params) -> dict[str, Mark]:
    """By model what the battery leaves within the main L2 budget."""
    budget = main_budget(params)
    found = {}
    for model, numbers in results.battery.items():
        worst = main_channels(numbers)["worst_case"]["l2"][budget]
        title = f"{model}, worst of the battery within L2{NBSP}{budget}, adaptive"
        ends = (worst["accuracy"], worst["low"], worst["high"])
        found[model] = Mark(title, *ends, numbers["images"])
    return found


def marks(results: Results, params: Params) -> list[Mark]:
    """The accuracies a reader wants first: those of the paper's kind, the adaptive one right
    beside the static one, and then what is left within a budget."""
    target = results.target
    published = paper.TABLE_1.get(target)
    printed = published.accuracy if published else None

    def mark(
        title: str, score: Numbers, printed: float | None = None, *, worse: bool = False
    ) -> Mark:
        ends = (score["accuracy"], score["accuracy_low"], score["accuracy_high"])
        return Mark(title, *ends, score["n"], printed, worse)

    return [
        mark(f"{target}, clean", results.score(target, CLEAN), printed),
        mark(
            f"{target}, EAD without a budget, adaptive",
            results.score(target, target),
            paper.ACCURACY_ATTACKED,
        ),
        mark(f"{PAPERS}, clean", results.score(PAPERS, CLEAN)),
        mark(
            f"{PAPERS}, EAD without a budget, static: made on {target}",
            results.score(PAPERS, target),
            paper.ACCURACY_HARDENED,
        ),
        mark(
            f"{PAPERS}, EAD without a budget, adaptive",
            results.score(PAPERS, PAPERS),
            worse=True,
        ),
        *(
            mark(
                f"{control}, its control, EAD without a budget, static: made on {target}",
                results.score(control, target),
            )
            for control in params.controls()
        ),
        *_within(results, params).values(),
    ]
