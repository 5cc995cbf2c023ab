"""Tables of whole protocols: what the notebooks ran beside what is described, and over seeds."""

from __future__ import annotations

from statistics import mean, stdev

from octrobust.config import PAPERS, Params
from octrobust.report import paper
from octrobust.report.results import CLEAN, Results
from octrobust.report.tables import Table
from octrobust.report.wording import NBSP, NONE, percent


def replay_table(results: Results) -> Table | None:
    """Paper, notebooks, and the protocol as described, side by side; None: not replayed."""
    found, target = results.replay, results.target
    if found is None:
        return None

    def here(model: str, data: str) -> str:
        return percent(results.score(model, data)["accuracy"])

    rows = [
        (
            "undefended, clean",
            percent(paper.TABLE_1["config_1"].accuracy, 2),
            f"{percent(found['fresh_clean_accuracy'])}: another model than the paper's 98 %, "
            f"trained for less at a high rate ({percent(found['fresh_train_accuracy'])} on its "
            f"training images; theirs had {percent(paper.NOTEBOOK_ATTACKED_TRAIN)})",
            here(target, CLEAN),
        ),
        (
            "undefended, attacked",
            percent(paper.ACCURACY_ATTACKED, 2),
            f"{percent(found['attacked_stepping'])} as they measured, stepping on the "
            f"{found['attacked_images']} attacked images; {percent(found['attacked_fixed'])} "
            "without the steps",
            f"{here(target, target)} (EAD, adaptive, no budget)",
        ),
        (
            "hardened, attacked",
            percent(paper.ACCURACY_HARDENED, 2),
            f"{percent(found['hardened_stepping'])} as they measured, stepping on the "
            f"{found['test_images']} attacked test images; {percent(found['hardened_fixed'])} "
            "without the steps",
            f"{here(PAPERS, target)} static; {here(PAPERS, PAPERS)} adaptive (EAD, no budget)",
        ),
        (
            "hardened, clean",
            f"not printed; {percent(paper.NOTEBOOK_HARDENED_CLEAN, 2)} in the notebooks",
            f"{percent(found['hardened_clean_accuracy'])} before those steps, "
            f"{percent(found['hardened_clean_accuracy_after'])} after; "
            f"{percent(found['commonest_answer_share'])} of its answers are then one class",
            here(PAPERS, CLEAN),
        ),
    ]
    return Table(
        ("Accuracy of", "Paper", "Notebooks, replayed here", "As described, here"),
        rows,
        "The middle column repeats the faults of the published notebooks on this run's images: "
        "their attack (Carlini and Wagner's L2, no L1 term), a fresh model at a high learning "
        "rate, and an optimiser that steps on the images it is measured on. Its numbers show a "
        "way of measuring, not a model's robustness. docs/explanation/paper-audit.md tells the "
        "story.",
        bold=3,
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
