"""Tables of whole protocols: what the notebooks ran beside what is described, and over seeds."""

from __future__ import annotations

from statistics import mean, stdev

from octrobust.config import CLEAN, PAPERS, Params
from octrobust.evaluation.intervals import wilson
from octrobust.report import paper
from octrobust.report.results import Numbers, Results
from octrobust.report.tables import Table
from octrobust.report.wording import NBSP, NONE, interval, percent, with_interval


def replay_table(results: Results) -> Table:
    """Paper, notebooks, and the protocol as described, side by side."""
    found, target = results.replay, results.target
    confidence = results.evaluation["confidence_level"]

    def here(model: str, data: str) -> str:
        return with_interval(results.score(model, data))

    published = (
        percent(paper.TABLE_1["config_1"].accuracy, 2),
        percent(paper.ACCURACY_ATTACKED, 2),
        percent(paper.ACCURACY_HARDENED, 2),
        f"not printed; {percent(paper.NOTEBOOK_HARDENED_CLEAN, 2)} in the notebooks",
    )
    described = (
        here(target, CLEAN),
        f"{here(target, target)} (EAD, adaptive, no budget)",
        f"{here(PAPERS, target)} static; {here(PAPERS, PAPERS)} adaptive (EAD, no budget)",
        here(PAPERS, CLEAN),
    )
    columns = zip(notebooks(found, confidence).items(), published, described, strict=True)
    own = "provenance" not in found
    where = (
        "The middle column is of this run's images."
        if own
        else "The middle column is not part of this run, nor of its images: replayed by us "
        f"{origin_of(found)}."
    )
    return Table(
        (
            "Accuracy of",
            "Paper",
            f"Notebooks, replayed {'here' if own else 'by us'}",
            "As described, here",
        ),
        [(row, printed, replayed, ours) for (row, replayed), printed, ours in columns],
        f"{where} It repeats the faults of the published notebooks: their attack (Carlini and "
        "Wagner's L2, no L1 term), a fresh model at a high learning rate, and an optimiser that "
        "steps on the images it is measured on. Its numbers show a way of measuring, not a "
        f"model's robustness; their {percent(confidence, 0)} intervals are Wilson's, with images "
        "as the sample. docs/paper-audit.md tells the story.",
        bold=3,
    )


def notebooks(found: Numbers, confidence: float) -> dict[str, str]:
    """What the replay of the notebooks found, in words, row by row of the table above."""

    def of(name: str, images: int) -> str:
        low, high = share_interval(found[name], images, confidence)
        return f"{percent(found[name])} {interval(low, high)}"

    attacked, test = found["attacked_images"], found["test_images"]
    return {
        "undefended, clean": f"{of('fresh_clean_accuracy', test)}: another model than the paper's "
        f"{percent(paper.TABLE_1['config_1'].accuracy, 0)}, trained for less at a high rate "
        f"({percent(found['fresh_train_accuracy'])} on augmented training images meanwhile; "
        f"theirs had {percent(paper.NOTEBOOK_ATTACKED_TRAIN)})",
        "undefended, attacked": f"{of('attacked_stepping', attacked)} as they measured, stepping "
        f"on the {attacked} attacked images; {of('attacked_fixed', attacked)} without the steps",
        "hardened, attacked": f"{of('hardened_stepping', test)} as they measured, stepping on the "
        f"{test} attacked test images; {of('hardened_fixed', test)} without the steps",
        "hardened, clean": f"{of('hardened_clean_accuracy', test)} before those steps, "
        f"{of('hardened_clean_accuracy_after', test)} after; "
        f"{percent(found['commonest_answer_share'])} of its answers are then one class",
    }


def share_interval(share: float, images: int, confidence: float) -> tuple[float, float]:
    """Wilson's of an accuracy of which no image's own verdict is kept: images are the sample, so
    that it is too narrow where patients bring several."""
    return wilson(round(share * images), images, confidence)


def origin_of(found: Numbers) -> str:
    """Where numbers that are no part of a run come from, in a line."""
    told: Numbers = found["provenance"]
    return (
        f"{told['data']}; revision {told['revision']:.7}, {told['date']}, by {told['command']} "
        f"with {told['preset']}, on {told['machine']}"
    )


def seed_table(results: Results, params: Params) -> Table | None:
    """Mean and standard deviation over evaluate.seeds; None: there are none."""
    if not results.seeds:
        return None
    runs = [one["models"] for one in results.seeds.values()]
    models = (results.target, *results.hardened)
    columns = list(runs[0][models[0]])
    rows = [
        (model, *(_spread([run[model][column] for run in runs]) for column in columns))
        for model in models
    ]
    seeds = ", ".join(map(str, results.seeds))
    images = params.evaluate.battery.images_per_class
    return Table(
        ("Model", *(_title(column) for column in columns)),
        rows,
        f"Trained, attacked and hardened anew from seeds {seeds} on one split: mean and standard "
        "deviation of the accuracy. Static: EAD made on that seed's undefended model, no budget. "
        f"PGD: adaptive, {params.evaluate.battery.steps} steps, "
        f"{params.evaluate.battery.channels[0]}, on "
        f"{'all' if images is None else f'{images} a class of the'} test images; one attack finds "
        "less than the battery does, so these are higher than the worst cases above.",
    )


def _spread(values: list[float]) -> str:
    deviation = f"± {100 * stdev(values):.1f}" if len(values) > 1 else f"({NONE})"
    return f"{100 * mean(values):.1f} {deviation} %".replace(" ", NBSP)


def _title(column: str) -> str:
    plain = {"clean": "Clean", "static": "Static EAD"}
    return plain.get(column) or column.replace("pgd_l2_", "PGD, L2 ")
