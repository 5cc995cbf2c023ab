"""What was run, remembered in MLflow: the only room that imports it.

A stage's numbers are in files before anything here is called. `record` copies them into a spool
(`.octrobust/records/` of the user's own checkout), and `flush` brings the spool into the tracking
store. A tracker that is down therefore costs no number and no run.
"""

from octrobust.tracking.log import Summary, flush, record, track
from octrobust.tracking.stage import StageRun, stage_run

__all__ = ["StageRun", "Summary", "flush", "record", "stage_run", "track"]
