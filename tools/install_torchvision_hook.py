"""Puts torchvision_hook.py into site-packages of the running environment, with the line that starts it."""

from __future__ import annotations

import py_compile
import shutil
import sys
import sysconfig
from pathlib import Path

MODULE = "_torchvision_hook"


def main() -> None:
    if sys.prefix == sys.base_prefix:
        sys.exit("this is not a virtual environment; run it with .venv/bin/python")
    site_packages = Path(sysconfig.get_path("purelib"))
    module = site_packages / f"{MODULE}.py"
    shutil.copyfile(Path(__file__).with_name("torchvision_hook.py"), module)
    py_compile.compile(str(module), doraise=True)  # each interpreter start loads it
    (site_packages / f"{MODULE}.pth").write_text(f"import {MODULE}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
