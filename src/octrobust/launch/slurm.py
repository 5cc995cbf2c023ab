"""A stage as a job of SLURM, by submitit: one task a machine, each with torch's launcher in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import octrobust
from octrobust.config import Compute
from octrobust.errors import UserError, to_stderr
from octrobust.files import project_home
from octrobust.launch.elastic import run_elastic

_PORTS = range(20_000, 30_000)  # of the first machine, by the job's number


@dataclass(frozen=True)
class StageJob:
    """What every task of the job runs. A job that is preempted, or out of time, is queued again
    as it was: the stage goes on by what is finished."""

    command: tuple[str, ...]
    compute: dict[str, Any]

    def __call__(self) -> tuple[str, int]:
        import submitit

        compute = Compute.model_validate(self.compute)
        here = submitit.JobEnvironment()
        if compute.nodes > 1:
            port = _PORTS[int(here.raw_job_id) % len(_PORTS)]
            compute = compute.model_copy(update={"rendezvous": f"{here.hostnames[0]}:{port}"})
        # SLURM sends SIGTERM before it preempts; what counts is submitit's own signal.
        os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGINT"
        try:
            return run_elastic(list(self.command), compute)
        except UserError as error:
            return f"error: {error}", 2

    def checkpoint(self) -> Any:
        """What submitit queues again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(command: list[str], compute: Compute) -> Any:
    """Queue the job; returns submitit's.

    Raises:
        UserError: no submitit, or no SLURM.
    """
    try:
        import submitit
    except ImportError:
        raise UserError(
            "compute.launcher: submitit is not installed: `uv pip install -e '.[slurm]'`"
        ) from None
    slurm = compute.slurm
    folder = project_home() / ".octrobust" / "jobs" / "%j"
    try:
        executor = submitit.AutoExecutor(
            folder, cluster=slurm.cluster, slurm_max_num_timeout=compute.restarts
        )
    except RuntimeError as error:
        raise UserError(f"compute.slurm.cluster: '{slurm.cluster}' is not here ({error})") from None
    wanted = {
        "name": "octrobust-" + "-".join(command[1:]),
        "nodes": compute.nodes,
        "tasks_per_node": 1,
        "timeout_min": slurm.minutes,
        "cpus_per_task": compute.threads,
        "gpus_per_node": compute.processes if compute.device.startswith("cuda") else None,
        "mem_gb": slurm.memory_gb,
        "slurm_partition": slurm.partition,
    }
    executor.update_parameters(**{name: value for name, value in wanted.items() if value})
    _find_this_library()
    return executor.submit(StageJob(tuple(command), compute.model_dump()))


def _find_this_library() -> None:
    """The job imports the library of this checkout, which a queued experiment has of its own."""
    source = str(Path(octrobust.__file__).parents[1])
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([source, *(p for p in others if p)])


def submit_and_wait(command: list[str], compute: Compute) -> tuple[str, int]:
    """Queue the job and wait for its end; an interrupt cancels it.

    Returns:
        As `run_elastic`, of the first task that failed.
    """
    job = submit(command, compute)
    to_stderr(f"job {job.job_id}: its output goes to {job.paths.stdout} and {job.paths.stderr}")
    try:
        return ended(job)
    except BaseException:
        job.cancel(check=False)
        raise


def ended(job: Any) -> tuple[str, int]:
    """Wait for the job; the line to say and the exit code of its first task that failed."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        results = job.results()
    except (FailedJobError, UncompletedJobError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"job {job.job_id} ended without a result ({reason}); see its output"
        ) from None
    failed = [(line, code) for line, code in results if code]
    return failed[0] if failed else ("", 0)
