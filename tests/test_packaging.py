"""What is installed is what lies in the rooms."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("graphs", "devices", "hwsim", "reports")


def test_a_built_wheel_holds_the_rooms_with_their_data_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "LICENSE", "README.md", "cli.py"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, source)
    for name in (*ROOMS, "tests", "tools", "examples"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    rooms = [path for room in ROOMS for path in (source / room).rglob("*") if path.is_file()]
    expected = {path.relative_to(source).as_posix() for path in [*rooms, *source.glob("cli.py")]}

    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [*build, "--wheel-dir", str(tmp_path), str(source)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = tmp_path.glob("hwsim-*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert shipped == expected
