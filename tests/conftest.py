"""What every test may ask for, and the rule that in CI nothing is skipped for want of an extra."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
IN_CI = os.environ.get("HWSIM_CI") == "1"
ALWAYS_RUN_IN_CI = ("needs_browser", "needs_cluster", "needs_torch")

# No deadline: a slow machine is not a wrong answer. In CI the same examples every time.
hypothesis.settings.register_profile("hwsim", deadline=None, derandomize=IN_CI)
hypothesis.settings.load_profile("hwsim")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden with what came out")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests away from the network and from the files of whoever runs them."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    home = tempfile.TemporaryDirectory(prefix="hwsim-tests-")
    config.add_cleanup(home.cleanup)
    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        # tests side by side share traces: the cache has to bear that anyway, and tracing twice is slow
        if variable != "XDG_CACHE_HOME" or not hasattr(config, "workerinput"):
            os.environ[variable] = str(Path(home.name) / variable.lower())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    marked = any(item.get_closest_marker(name) for name in ALWAYS_RUN_IN_CI)
    return _failed_if_skipped_in_ci(report, marked)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    return _failed_if_skipped_in_ci((yield), marked=False)


def _failed_if_skipped_in_ci(report, marked: bool):
    """CI installs every extra, so a module that could not be imported there is a broken set-up."""
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2])
        if marked or "could not import" in reason:
            report.outcome = "failed"
            report.longrepr = f"skipped, which CI does not allow for this test. {reason}"
    return report


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """Public measurements and reference data, which lie beside the repository and are not part of it."""
    folder = Path(os.environ.get("HWSIM_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no measurement data at {folder}; set HWSIM_SHARED to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium to hand to playwright as `executable_path`."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on the path; install the package chromium")
    return path


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("name.txt", text)` compares the text with tests/golden/name.txt, or rewrites that file."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"no {path.relative_to(ROOT)}; write it with pytest --update-golden"
        assert text == path.read_text(encoding="utf-8")

    return check
