"""How many bad inputs are tried: the tables of the unit tests, run and counted once more."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.faults.conftest import Note

pytestmark = pytest.mark.faults

TABLES = ("bad_images", "bad_files", "bad_parameters", "bad_stages", "archives")


def test_every_bad_input_is_refused(note: Note) -> None:
    files = [f"tests/unit/test_{name}.py" for name in TABLES]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    tried = re.search(r"(\d+) passed", done.stdout)
    assert tried is not None
    note(f"{tried[1]} tests of bad, and of odd but good, input passed: {', '.join(TABLES)}")
