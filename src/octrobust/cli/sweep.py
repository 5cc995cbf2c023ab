"""`octrobust sweep`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from octrobust.cli import output
from octrobust.cli.base import EXPERIMENTS, AsJson, app, examples, project
from octrobust.cli.complete import parameters
from octrobust.errors import UserError, one_line_errors, to_stderr

if TYPE_CHECKING:
    from octrobust.experiments.grid import Point
    from octrobust.experiments.queue import Watched

MANY = 50  # experiments, above which a sweep is asked for with --yes


class _Group(TyperGroup):
    """`sweep attack.beta=...` is what one types first: it means `sweep queue`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = any("=" in word and not word.startswith("-") for word in args)
        if given and not self.commands.keys() & set(args):
            args = ["queue", *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            ctx.fail(
                f"'{args[0]}' is none of {', '.join(self.commands)}, and no NAME=VALUE,VALUE as in "
                "attack.beta=0.001,0.01"
            )
        return super().resolve_command(ctx, args)


sweep = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Queue a grid of parameters, run it, watch it, and draw what came of it.",
    epilog=examples(
        ("octrobust sweep attack.beta=0.0001,0.001,0.01", "queues three experiments"),
        ("octrobust sweep run", "runs what is queued, one after another, and watches"),
        ("octrobust sweep draw", "headline and distortion against the parameter, as PNG"),
    )
    + "\n\nWith several workers, a GPU each: docs/how-to/sweeps.md.",
)
app.add_typer(sweep, name="sweep", rich_help_panel=EXPERIMENTS)


@sweep.command(
    "queue",
    epilog=examples(
        ("octrobust sweep queue attack.beta=0.0001,0.001,0.01", "three experiments"),
        ("octrobust sweep queue attack.beta=0.001,0.01 train.seed=1,2", "four: every combination"),
        ("octrobust sweep queue attack.decision_rule=EN,L1,L2 --dry-run", "what it would queue"),
        ("octrobust sweep attack.beta=0.01,0.1 --attack-only", "no hardening, no evaluation"),
    ),
)
def queue(
    grid: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUE,VALUE",
            help="A parameter of params.yaml by its dotted name, and its values.",
            autocompletion=parameters,
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="What the experiments' names begin with.")
    ] = None,
    attack_only: Annotated[
        bool,
        typer.Option("--attack-only", help="Run attack@test and what it needs, and no more."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show them, queue none.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help=f"Also more than {MANY}.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue every combination of the values as an experiment of DVC.

    Each is checked as params.yaml is, before the first is queued. One that is
    there already, by name and parameters, is left alone.
    """
    with one_line_errors():
        from octrobust.experiments import queue as queues

        root = project()
        # A name of its own: the same grid may be run whole as well.
        values = _values(root)
        named = _grid(values, grid, name or ("attack" if attack_only else None))
        if len(named) > MANY and not (yes or dry_run):
            raise UserError(f"{len(named)} experiments: say --yes if that is meant")
        taken: set[str] = set()
        if not dry_run:
            with output.waiting("asking DVC"):
                taken = queues.taken(root, named, values)
        fresh = {key: point for key, point in named.items() if key not in taken}
        if not dry_run:
            _queue(root, fresh, "attack@test" if attack_only else None)
        if as_json:
            told = {key: point.values for key, point in fresh.items()}
            there = [key for key in named if key in taken]
            output.write_json({"queued": told, "there_already": there, "dry_run": dry_run})
            return
        for key in named:
            typer.echo(f"there already  {key}" if key in taken else key)
        if dry_run:
            typer.echo(f"{len(named)} experiments; a dry run: nothing was queued")
        else:
            typer.echo(f"{len(fresh)} queued. Run them: octrobust sweep run")


def _values(root: Path) -> dict[str, Any]:
    """params.yaml, once it is known to be as it should."""
    from octrobust import config
    from octrobust.files import read_yaml

    config.load(root / "params.yaml")  # its own mistakes come first
    values: dict[str, Any] = read_yaml(root / "params.yaml")
    return values


def _grid(values: dict[str, Any], typed: list[str], prefix: str | None) -> dict[str, Point]:
    """By name."""
    import re

    from octrobust.experiments.grid import points

    if prefix is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", prefix):
        raise UserError(f"--name: '{prefix}': letters, digits, _ and - only")
    named: dict[str, Point] = {}
    for point in points(typed, values):
        name = point.name(prefix)
        if name in named:
            alike = " and ".join(" ".join(one.overrides()) for one in (named[name], point))
            raise UserError(f"{alike} would both be called {name}: queue them apart, with --name")
        named[name] = point
    return named


def _queue(root: Path, fresh: dict[str, Point], stage: str | None) -> None:
    from tqdm import tqdm

    from octrobust.experiments import queue as queues

    for key, point in tqdm(fresh.items(), "queue", unit="experiment", leave=False, disable=None):
        queues.queue(root, point, key, stage)


Every = Annotated[float, typer.Option(min=1.0, help="Seconds after which DVC is asked again.")]


@sweep.command(
    epilog=examples(
        ("octrobust sweep run", "one worker; Ctrl-C ends the watching, not the work"),
        ("octrobust sweep run --no-watch", "comes back at once"),
        ("octrobust sweep run --json", "waits, then how each experiment ended"),
    )
)
def run(
    jobs: Annotated[int, typer.Option(min=1, help="Workers. On one GPU, or on a CPU: one.")] = 1,
    watching: Annotated[bool, typer.Option("--watch/--no-watch", help="Watch it.")] = True,
    every: Every = 15.0,
    as_json: AsJson = False,
) -> None:
    """Run what is queued, and watch it.

    The worker goes on when this window is closed, and ends with the queue.
    Exit code 1 if an experiment failed while it was watched.
    """
    with one_line_errors():
        from octrobust.experiments import queue as queues
        from octrobust.experiments.read import read_experiments

        root = project()
        with output.waiting("asking DVC"):
            # One that failed may be queued again under its name: those that are open alone.
            found = [one for one in read_experiments(root) if one.state in queues.OPEN]
            waiting = {one.name: one.state for one in found}
            if any(one.state == "queued" for one in found):
                queues.start(root, jobs)
        if waiting and watching:
            _watch(root, every, as_json)
        elif as_json:
            output.write_json(waiting)
        elif waiting:
            typer.echo(f"{len(waiting)} experiments at work or waiting: octrobust sweep watch")
        else:
            typer.echo("nothing is queued: octrobust sweep queue NAME=VALUE,VALUE queues a grid")


@sweep.command(
    epilog=examples(
        ("octrobust sweep watch", "until the queue is empty"),
        ("octrobust sweep watch --json", "how each experiment ended, by name"),
    )
)
def watch(every: Every = 15.0, as_json: AsJson = False) -> None:
    """Watch the queue: what is at work, what has ended, and the time left.

    Exit code 1 if an experiment failed. Ctrl-C ends the watching, not the work.
    """
    with one_line_errors():
        _watch(project(), every, as_json)


def _watch(root: Path, every: float, as_json: bool) -> None:
    from tqdm import tqdm

    from octrobust.experiments import queue as queues

    shown = "{l_bar}{bar}| {n}/{total} experiments [{elapsed}<{remaining}]{postfix}"
    # On a terminal a bar; into a file a line for each that ended.
    bar = tqdm(desc="sweep", total=0, bar_format=shown, disable=not sys.stderr.isatty())

    def said(seen: Watched, ended: list[tuple[str, str]]) -> None:
        for key, state in ended:
            why = f": {seen.why(key)}" if state == "failed" else ""
            tqdm.write(f"{state}  {key}{why}", file=sys.stderr if as_json else sys.stdout)
        bar.total, bar.n = len(seen.states), len(seen.states) - seen.open()
        bar.set_postfix_str("; ".join(f"{key}: {what}" for key, what in seen.doing.items()))

    try:
        with contextlib.closing(bar):
            seen = queues.watch(root, said, every)
    except KeyboardInterrupt:
        to_stderr(
            "no longer watched; the work goes on: `octrobust sweep watch` looks again, "
            "`dvc queue stop --kill` ends it"
        )
        raise typer.Exit(130) from None
    failed = sum(state == "failed" for state in seen.states.values())
    if as_json:
        output.write_json(seen.by_name())
    elif not seen.states:
        typer.echo("nothing is queued or running")
    else:
        typer.echo(
            f"{len(seen.states) - failed} experiments ended well, {failed} failed. "
            "See them: octrobust compare, octrobust sweep draw"
        )
    if failed:
        raise typer.Exit(1)
