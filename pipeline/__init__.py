"""The stages of dvc.yaml, one thin file each, run as ``python -m pipeline.STAGE``.

An editable install points at the user's workspace; a queued or temporary DVC experiment is
another checkout. So this checkout's own library goes first on the path.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from octrobust.errors import interruptible_imports

interruptible_imports()
