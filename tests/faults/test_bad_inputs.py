"""How many bad inputs are tried: the tables of the unit tests, run and counted once more."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.conftest import ROOT
from tests.faults.conftest import Note

pytestmark = pytest.mark.faults

KINDS = {
    "images and paths": "test_bad_images.py",
    "indexes, arrays, weights and models": "test_bad_files.py",
    "parameters": "test_bad_parameters.py",
    "stages": "test_bad_stages.py",
    "archives": "test_archives.py",
}
# Odd, but good: these stand in the same files.
GOOD = (
    *("other_modes_and_formats_are_taken", "names_of_every_kind", "litter_is_no_image"),
    *("paths_with_spaces", "weights_at_a_path_with_spaces", "what_a_file_may_be"),
    *("no_parameter_escapes_the_table", "a_stage_in_a_folder_with_spaces"),
    *("check_takes_the_committed_file", "only_the_wanted_are_written"),
)


def test_every_bad_input_is_refused(note: Note) -> None:
    files = [f"tests/unit/{name}" for name in KINDS.values()]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.findall(r"^tests/unit/(\w+\.py)::test_(\w+).* PASSED", done.stdout, re.MULTILINE)
    assert all(any(name.startswith(good) for _, name in passed) for good in GOOD)
    bad = Counter(file for file, name in passed if not name.startswith(GOOD))
    tried = {kind: bad[file] for kind, file in KINDS.items()}
    assert min(tried.values()) > 0
    assert sum(tried.values()) >= 40
    listed = ", ".join(f"{count} of {kind}" for kind, count in tried.items())
    note(f"{sum(tried.values())} bad inputs refused: {listed}")
