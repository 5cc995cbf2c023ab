"""torch's elastic agent, which knows what no restart mends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch.distributed.elastic.agent.server.api import (
    RunResult,
    WorkerGroup,
    WorkerSpec,
    WorkerState,
)
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from octrobust.config import Compute
from octrobust.launch.elastic import FINAL, say_restart


class Agent(LocalElasticAgent):
    """Starts all ranks again after a fault, but not after an error that a person must mend."""

    @classmethod
    def of(
        cls, command: list[str], compute: Compute, rendezvous: dict[str, Any], room: Path
    ) -> Agent:
        """For `python COMMAND`; see `octrobust.launch.elastic`."""
        spec = WorkerSpec(
            role="stage",
            local_world_size=compute.processes,
            entrypoint=sys.executable,
            args=tuple(command),
            rdzv_handler=get_rendezvous_handler(RendezvousParameters(**rendezvous)),
            max_restarts=compute.restarts,
            local_addr=rendezvous.get("local_addr"),
        )
        return cls(spec, DefaultLogsSpecs(log_dir=str(room)))

    def work(self) -> dict[int, int]:
        """Run to the end; exit codes of the ranks of this machine that failed at last.

        The other machines are told that this one will not come back, unless a signal ends it: then
        one that takes its place may join them.
        """
        try:
            result = self.run()
        except SignalException:
            raise
        except BaseException:
            self._close()
            raise
        self._close()
        return _codes(result) if result is not None and result.is_failed() else {}

    def _close(self) -> None:
        self._worker_group.spec.rdzv_handler.shutdown()

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if result.state in (WorkerState.FAILED, WorkerState.UNHEALTHY):
            codes = _codes(result)
            if set(codes.values()) & set(FINAL):
                self._remaining_restarts = 0
            elif self._remaining_restarts > 0:
                say_restart(codes, self._remaining_restarts - 1)
        return result


def _codes(result: RunResult) -> dict[int, int]:
    return {rank: failure.exitcode for rank, failure in result.failures.items()}
