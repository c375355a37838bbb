"""In CI, where every extra is installed, a test cannot pass by being skipped for want of one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).with_name("conftest.py")
SUITE = {
    "test_mark.py": """
        import pytest
        @pytest.mark.needs_browser
        def test_a_page():
            pytest.skip("no browser")
        """,
    "test_import.py": """
        import pytest
        def test_an_extra():
            pytest.importorskip("a_library_nobody_has")
        """,
    "test_file.py": """
        import pytest
        pytest.importorskip("a_library_nobody_has")
        """,
    "test_data.py": """
        def test_measured_data(shared_folder):
            pass
        """,
}


def outcomes(folder: Path, in_ci: bool) -> dict[str, str]:
    """What became of each file of the suite, read from the summary that pytest prints."""
    shutil.copy(CONFTEST, folder)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = needs_browser\n")
    for name, source in SUITE.items():
        (folder / name).write_text(source.replace("\n        ", "\n"))
    environment = os.environ | {"HWSIM_CI": str(int(in_ci)), "HWSIM_SHARED": str(folder / "nothing")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        "pytest.ini",
        "-rA",
        "--continue-on-collection-errors",
        ".",
    ]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    lines = re.findall(r"^([A-Z]+) (?:\[\d+\] )?(test_\w+\.py)", result.stdout, re.MULTILINE)
    return {name: outcome for outcome, name in lines}


def test_only_outside_data_may_be_missing_in_ci(tmp_path: Path) -> None:
    assert outcomes(tmp_path, in_ci=True) == {
        "test_mark.py": "FAILED",
        "test_import.py": "FAILED",
        "test_file.py": "ERROR",
        "test_data.py": "SKIPPED",
    }


def test_elsewhere_a_missing_extra_only_skips(tmp_path: Path) -> None:
    assert set(outcomes(tmp_path, in_ci=False).values()) == {"SKIPPED"}
