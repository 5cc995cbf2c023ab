"""Where a heavy stage begins: here, or on as many processes as `compute` says."""

from __future__ import annotations

import sys
from collections.abc import Callable

from octrobust import config
from octrobust.config import Compute
from octrobust.distributed import place
from octrobust.errors import one_line_errors, to_stderr


def run_stage(main: Callable[..., None]) -> None:
    """Run `main` with the arguments of the command line.

    With `compute.launcher` none, in this process. Otherwise the same command is started once more
    on every rank, and this process waits for them: it says their error, and ends with their exit
    code. Called in a rank (also in one that `torchrun -m pipeline.STAGE` started), it runs `main`
    there, beside the others.
    """
    if place.is_rank():
        from octrobust.launch.worker import run_rank

        run_rank(main, sys.argv[1:])
        return
    with one_line_errors():
        compute = config.load().compute
        if compute.launcher == "none":
            main(*sys.argv[1:])
            return
        line, code = _elsewhere(compute, _command())
        if line:
            to_stderr(line)
        if code:
            raise SystemExit(code)


def _elsewhere(compute: Compute, command: list[str]) -> tuple[str, int]:
    if compute.launcher == "submitit":
        from octrobust.launch.slurm import submit_and_wait

        return submit_and_wait(command, compute)
    from octrobust.launch.elastic import hosts_rendezvous, run_elastic

    if compute.nodes > 1 and hosts_rendezvous(compute):
        from octrobust.launch.join import announced

        with announced(command):
            return run_elastic(command, compute)
    return run_elastic(command, compute)


def _command() -> list[str]:
    """This process's own, as `python -m pipeline.STAGE` started it."""
    spec = sys.modules["__main__"].__spec__
    assert spec is not None, "stages are started as modules"
    return ["-m", spec.name, *sys.argv[1:]]
