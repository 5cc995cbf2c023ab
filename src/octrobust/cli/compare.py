"""`octrobust compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from octrobust.cli import output
from octrobust.cli.base import EXPERIMENTS, AllCommits, AsJson, app, examples, project
from octrobust.errors import UserError, one_line_errors

if TYPE_CHECKING:
    from octrobust.experiments.read import Experiment


MANY = 8  # columns beside each other; more of them stand below each other


@app.command(
    rich_help_panel=EXPERIMENTS,
    epilog=examples(
        ("octrobust compare", "the headline of every experiment since the last commit"),
        ("octrobust compare --sort accuracy_hardened", "another order, best first"),
        ("octrobust compare --columns 'robust_*,median_l2_*'", "other figures"),
        ("octrobust compare --all --json", "all commits, everything, for a script"),
    ),
)
def compare(
    sort: Annotated[
        str | None,
        typer.Option(
            help="Metric or parameter. The default is what the best defence is chosen by: its "
            "accuracy on validation images under PGD."
        ),
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Worst first.")] = False,
    columns: Annotated[
        str | None,
        typer.Option(help="Metrics or parameters, separated by commas; * and ? as in file names."),
    ] = None,
    all_commits: AllCommits = False,
    as_json: AsJson = False,
) -> None:
    """DVC's experiments and the workspace as a table: where they differ, and what came of it.

    The best is marked with *. It is the best of those that were measured as the
    workspace was: same data, same split, same battery.
    """
    with one_line_errors():
        from octrobust.experiments import read, table

        root = project()
        with output.waiting("asking DVC"):
            found = read.read_experiments(root, all_commits=all_commits)
        by = sort or read.ROBUST
        metrics = table.chosen(columns, found)
        rows = table.ordered(found, by, reverse=reverse)
        metric = by if any(by in one.metrics for one in found) else read.ROBUST
        best = table.best(found, metric)
        parameters = [name for name in table.differing(found) if name not in metrics]
        if not any(one.metrics for one in found):
            raise UserError("no experiment here has results yet: run `dvc repro` or `dvc exp run`")
        if as_json:
            output.write_json(_told(rows, parameters, metrics, best, metric))
            return
        _show(rows, parameters, metrics, best)
        like = next(one for one in found if one.kind == "workspace")
        others = sum(table.measured(one) != table.measured(like) for one in found)
        output.notes(
            f"* is the best by {metric}" + (f" ({best.best})." if best and best.best else "."),
            *(
                [f"{others} of them: other data, split or battery: their figures do not compare."]
                if others
                else []
            ),
            "accuracy_attacked and accuracy_hardened: EAD made on attack.target, no budget; "
            "adaptive: made on the model itself. Not for clinical use.",
        )


def _told(
    rows: list[Experiment],
    parameters: list[str],
    columns: list[str],
    best: Experiment | None,
    by: str,
) -> dict[str, Any]:
    return {
        "best": best and best.name,
        "best_by": by,
        "columns": columns,
        "experiments": [
            {
                "name": one.name,
                "rev": one.rev,
                "kind": one.kind,
                "state": one.state,
                "is_best": one is best,
                "differs": {name: one.params.get(name) for name in parameters},
                "shown": {name: _value(one, name) for name in columns},
                "metrics": one.metrics,
            }
            for one in rows
        ],
    }


def _value(one: Experiment, name: str) -> Any:
    return one.metrics.get(name, one.params.get(name))


def _cell(one: Experiment, name: str) -> str:
    from octrobust.cli.cells import cell

    return "null" if one.params.get(name, "") is None else cell(name, _value(one, name))


def _show(
    rows: list[Experiment],
    parameters: list[str],
    columns: list[str],
    best: Experiment | None,
) -> None:
    from octrobust.cli.cells import heading

    states = any(one.state != "success" for one in rows)
    if len(parameters) + len(columns) > MANY:
        _show_turned(rows, [*parameters, *columns], best, states)
        return
    heads = [heading(name) for name in (*parameters, *columns)]
    table = output.new_table("experiment", *(["state"] * states), *heads, numbers=tuple(heads))
    for one in rows:
        marked = "* " if one is best else "  "
        cells = [_cell(one, name) for name in (*parameters, *columns)]
        state = [one.state if one.kind == "experiment" else ""] * states
        table.add_row(f"{marked}{one.name}", *state, *cells, style="bold" if one is best else None)
    output.console().print(table)


def _show_turned(
    rows: list[Experiment], names: list[str], best: Experiment | None, states: bool
) -> None:
    """A column an experiment: many headings beside each other break into letters."""
    marked = [f"{'* ' if one is best else ''}{one.name}" for one in rows]
    table = output.new_table("", *marked, numbers=tuple(marked))
    if states:
        table.add_row("state", *(one.state if one.kind == "experiment" else "" for one in rows))
    for name in names:
        table.add_row(name, *(_cell(one, name) for one in rows))
    output.console().print(table)
