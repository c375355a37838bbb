"""Sweeps in directories: whole files or none, resumed without pricing again, one owner at a time."""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pyarrow import dataset, parquet

import hwsim
from hwsim import HwsimError, SweepResult
from hwsim.sweeps.lock import locked
from tests.sweeping import assert_same, drawn, grid, write_toml

ROOT = Path(__file__).resolve().parent.parent
HERE = {**os.environ, "PYTHONPATH": str(ROOT)}


def parts(folder: Path) -> dict[str, int]:
    """Files with their times of change."""
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.glob("part-*"))}


def program(spec: Path, out: Path, before: str = "") -> list[str]:
    """A sweep in another process, in which `before` runs first."""
    lines = ("import sys", f"sys.path.insert(0, {str(ROOT)!r})", "import cli", before)
    script = spec.with_name("run.py")
    body = f"cli.app(['sweep', {str(spec)!r}, '--out', {str(out)!r}, *sys.argv[1:]])"
    script.write_text("\n".join((*lines, "if __name__ == '__main__':", f"    {body}")))
    return [sys.executable, str(script)]


def test_a_directory_holds_the_table_that_memory_holds(tmp_path: Path) -> None:
    spec = drawn(tmp_path, 2000)
    written = hwsim.sweep(spec, out=tmp_path / "out")
    assert len(parts(tmp_path / "out")) == 4
    assert_same(hwsim.sweep(spec), written)
    assert_same(written, SweepResult.open(tmp_path / "out"))
    assert written.front() == hwsim.sweep(spec).front()


def test_processes_write_the_same_files(tmp_path: Path) -> None:
    spec = drawn(tmp_path, 3000)
    one = hwsim.sweep(spec, out=tmp_path / "one", workers=1)
    two = hwsim.sweep(spec, out=tmp_path / "two", workers=2)
    assert_same(one, two)
    for name in parts(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_other_programs_read_the_table_and_what_it_is(tmp_path: Path) -> None:
    hwsim.sweep(grid(tmp_path), out=tmp_path / "out")
    table = dataset.dataset(list((tmp_path / "out").glob("*.parquet"))).to_table()
    assert table.num_rows == 36
    assert {str(table.schema.field(name).type) for name in ("m", "latency_s")} == {"double"}
    assert str(table.schema.field("fits").type) == "bool"
    assert table["cost_usd"].null_count == 36
    notes = parquet.read_schema(next((tmp_path / "out").glob("*.parquet"))).metadata
    document = json.loads((tmp_path / "out" / "spec.json").read_text())
    assert json.loads(notes[b"hwsim.spec"]) == document["spec"]
    assert json.loads(notes[b"hwsim.versions"]) == document["versions"]
    assert {"hwsim", "python", "numpy", "scipy"} <= document["versions"].keys()
    assert json.loads(notes[b"hwsim.tool"]) == document["tool"]


def test_resume_prices_only_what_is_missing(tmp_path: Path) -> None:
    spec, out = drawn(tmp_path, 3000), tmp_path / "out"
    whole = hwsim.sweep(spec)
    hwsim.sweep(spec, out=out)
    before = parts(out)
    for name in ("part-0000001.parquet", "part-0000004.parquet"):
        (out / name).unlink()
    (out / ".part-0000004.parquet.4711").write_text("half of it")
    told: list[tuple[int, int]] = []
    assert_same(whole, hwsim.sweep(spec, out=out, resume=True, progress=lambda *args: told.append(args)))
    after = parts(out)
    assert [name for name in before if before[name] == after[name]] == [
        name for name in before if name[:12] not in ("part-0000001", "part-0000004")
    ]
    assert told == [(1976, 3000), (2488, 3000), (3000, 3000)]
    assert not list(out.glob(".part*"))


def test_a_spoiled_part_is_priced_again(tmp_path: Path) -> None:
    spec, out = drawn(tmp_path, 1500), tmp_path / "out"
    whole = hwsim.sweep(spec, out=out)
    expected = whole["latency_s"]
    (out / "part-0000001.parquet").write_bytes(b"PAR1 and then nothing")
    assert (hwsim.sweep(spec, out=out, resume=True)["latency_s"] == expected).all()


def test_a_directory_is_not_written_over(tmp_path: Path) -> None:
    spec, out = drawn(tmp_path, 600), tmp_path / "out"
    hwsim.sweep(spec, out=out)
    with pytest.raises(HwsimError, match="already holds a sweep; --resume goes on with it"):
        hwsim.sweep(spec, out=out)
    with pytest.raises(HwsimError, match="was begun with another spec"):
        hwsim.sweep({**spec, "set": {"k": 128}}, out=out, resume=True)
    document = json.loads((out / "spec.json").read_text())
    (out / "spec.json").write_text(json.dumps({**document, "tool": "older", "fingerprint": "other"}))
    with pytest.raises(HwsimError, match="was begun with another version of hwsim"):
        hwsim.sweep(spec, out=out, resume=True)


def test_a_changed_device_is_not_resumed(tmp_path: Path) -> None:
    spec, out = drawn(tmp_path, 600), tmp_path / "out"
    hwsim.sweep(spec, out=out)
    profile = Path(spec["device"])
    profile.write_text(profile.read_text().replace("100 GB/s", "101 GB/s"))
    with pytest.raises(HwsimError, match="other devices, models or coefficients"):
        hwsim.sweep(spec, out=out, resume=True)


def test_files_of_something_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "part-0000000.parquet").write_text("mine")
    with pytest.raises(HwsimError, match="holds Parquet files of something else"):
        hwsim.sweep(drawn(tmp_path, 600), out=tmp_path)
    with pytest.raises(HwsimError, match="holds no sweep"):
        SweepResult.open(tmp_path)


def test_an_unfinished_directory_opens_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    hwsim.sweep(drawn(tmp_path, 1500), out=out)
    (out / "part-0000001.parquet").unlink()
    result = SweepResult.open(out)
    assert len(result) == 1500 - 512
    assert result.warnings == ("1 of 3 chunks are not there; --resume adds them",)


def test_two_sweeps_into_one_directory_refuse_each_other(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with locked(out), pytest.raises(HwsimError, match=f"is being written by process {os.getpid()} on"):
        hwsim.sweep(drawn(tmp_path, 600), out=out)
    assert len(hwsim.sweep(drawn(tmp_path, 600), out=out)) == 600


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "lock").write_text("process 4711 on elsewhere\n")
    assert len(hwsim.sweep(drawn(tmp_path, 600), out=out)) == 600


def begun(command: list[str], out: Path, count: int, **more: Any) -> subprocess.Popen[str]:
    """The process, once it has written some parts and not all."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    while len(parts(out)) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_sweep_is_resumed_to_the_table_of_an_unbroken_one(tmp_path: Path, workers: int) -> None:
    spec, out = drawn(tmp_path, 200_000, columns=["latency"]), tmp_path / "out"
    path = write_toml(tmp_path / "spec.toml", spec)
    process = begun([*program(path, out), "--workers", str(workers)], out, 5)
    process.kill()
    process.communicate()
    time.sleep(1.0)  # what its workers had begun
    before = parts(out)
    assert 5 <= len(before) < 391
    resumed = hwsim.sweep(path, out=out, resume=True, workers=1)
    after = parts(out)
    assert all(after[name] == changed for name, changed in before.items())
    assert_same(hwsim.sweep(path, workers=1), resumed)


def test_an_interrupt_ends_in_one_line_and_a_directory_to_resume(tmp_path: Path) -> None:
    spec, out = drawn(tmp_path, 200_000, columns=["latency"]), tmp_path / "out"
    path = write_toml(tmp_path / "spec.toml", spec)
    # whoever runs the tests in the background may have interrupts ignored, and children inherit that
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = begun([*program(path, out), "--workers", "2"], out, 5, start_new_session=True, preexec_fn=heed)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    stdout, stderr = process.communicate()
    assert process.returncode == 130
    assert stdout == ""
    (line,) = stderr.splitlines()
    assert line.startswith("stopped; ")
    assert line.endswith(f"of 391 chunks are in {out}, and --resume adds the rest")
    assert_same(hwsim.sweep(path, workers=1), hwsim.sweep(path, out=out, resume=True, workers=1))


def test_a_killed_worker_ends_in_one_line_and_a_directory_to_resume(tmp_path: Path) -> None:
    spec, out = drawn(tmp_path, 200_000, columns=["latency"]), tmp_path / "out"
    path = write_toml(tmp_path / "spec.toml", spec)
    process = begun([*program(path, out), "--workers", "2"], out, 5)
    workers = [
        one for one in psutil.Process(process.pid).children() if "spawn_main" in " ".join(one.cmdline())
    ]
    workers[-1].kill()
    _, stderr = process.communicate()
    assert process.returncode == 1
    (line,) = stderr.splitlines()
    assert "a worker process was killed, perhaps for want of memory; " in line
    assert "--resume adds the rest" in line
    assert_same(hwsim.sweep(path, workers=1), hwsim.sweep(path, out=out, resume=True, workers=1))


SCRIPT = """
import hwsim
result = hwsim.sweep({spec!r})
print(len(result), flush=True)
"""


def test_a_script_that_does_not_ask_for_its_name_is_priced_in_one_process(tmp_path: Path) -> None:
    script = tmp_path / "plan.py"
    script.write_text(SCRIPT.format(spec=drawn(tmp_path, 5000)))
    done = subprocess.run(
        [sys.executable, script], cwd=ROOT, capture_output=True, text=True, check=False, env=HERE
    )
    assert (done.stdout, done.stderr) == ("5000\n", "")


def test_processes_that_such_a_script_cannot_start_are_an_error_in_one_line(tmp_path: Path) -> None:
    script = tmp_path / "plan.py"
    script.write_text(SCRIPT.format(spec=drawn(tmp_path, 5000)).replace("})", "}, workers=2)"))
    done = subprocess.run(
        [sys.executable, script], cwd=ROOT, capture_output=True, text=True, check=False, env=HERE
    )
    assert done.returncode == 1
    assert "HwsimError: worker processes could not start; in a script" in done.stderr


def test_a_full_disk_ends_in_one_line_and_a_directory_to_resume(tmp_path: Path) -> None:
    spec, out = drawn(tmp_path, 3000), tmp_path / "out"
    path = write_toml(tmp_path / "spec.toml", spec)
    # files may have 40 kB: spec.json is shorter, a part is longer
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, {resource.RLIM_INFINITY}))"
    for workers in ("1", "2"):
        command = [*program(path, out, limit), "--workers", workers, "--resume"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("hwsim failed: OSError: ")
        assert "0 of 6 chunks are in" in line
        assert "--resume adds the rest" in line
        assert sorted(p.name for p in out.iterdir()) == ["lock", "spec.json"]
    assert_same(hwsim.sweep(path), hwsim.sweep(path, out=out, resume=True))
