"""`hwsim calibrate -d local`: coefficients come back, the file is used at once, and doubts are told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwsim
from devices.detect import unmeasured
from devices.measured import coefficient_folder
from hwsim.errors import HwsimError
from hwsim.fitted import coefficients_for

pytest.importorskip("torch")
import torch

from graphs.benchmarks import Benchmark, benchmarks  # needs torch
from graphs.measuring import Campaign, Timed, measure, points
from graphs.timing import Window
from hwsim.calibrating_accelerators import Accelerator, accelerators, calibrate_accelerator
from hwsim.calibrating_devices import fit_devices
from hwsim.calibrating_machine import Timings, calibrate_machine
from hwsim.fitting import Fitted, mean_error
from hwsim.machine_fit import fit_machine, hardware, samples_of_machine
from hwsim.version import VERSION

pytestmark = pytest.mark.needs_torch
TRUE = {"lane_matrix_efficiency": 0.7, "panel_half_rows": 4.0, "gelu_slowdown": 2.5, "kernel_ramp_s": 5e-6}
FEW = ("linear", "relu", "gelu", "add", "norm", "large result")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folders, empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HWSIM_CACHE", str(tmp_path / "cache"))
    return coefficient_folder()


def grid(*names: str, most: int = 100) -> list[Benchmark]:
    return [replace(one, grid=one.grid[:most]) for one in benchmarks() if one.name in names]


def machine() -> hwsim.Device:
    return replace(unmeasured(), id="this machine")


def as_if_timed(coefficients: dict[str, float]) -> list[Timed]:
    """Every point of a few benchmarks, timed on a machine that is as the coefficients say."""
    chosen = points(grid(*FEW), ["fp32"])
    blank = [Timed(point=one, windows=(timed(1.0),)) for one in chosen]
    found = []
    for sample in samples_of_machine(blank, machine()):
        seconds = np.exp(
            Fitted({(k, ""): v for k, v in coefficients.items()}, [sample]).errors()[
                sample.device.id, sample.op
            ]
        )
        found += list(seconds)
    return [
        Timed(point=one, windows=(timed(float(seconds)),)) for one, seconds in zip(chosen, found, strict=True)
    ]


def timed(seconds: float) -> Window:
    return Window(round=0, seconds=seconds, canary_s=1e-3, valid=True)


def test_a_fit_finds_the_machine_that_was_timed() -> None:
    made = fit_machine(as_if_timed(TRUE), machine())
    after, before = (np.concatenate(list(part.values())) for part in (made.residuals, made.before))
    assert mean_error(after) < 0.06 < mean_error(before)
    assert made.values["gelu_slowdown"] / made.values["norm_slowdown"] == pytest.approx(2.5, rel=0.25)
    assert made.log_sigma < 0.2


def test_a_faster_product_than_the_told_clock_allows_raises_the_clock() -> None:
    told = machine()
    fast = [replace(one, windows=(timed(one.windows[0].seconds / 4),)) for one in as_if_timed({})]
    changes = hardware(list(samples_of_machine(fast, told)), told)
    assert changes["compute.clock"] > float(told.compute.clock_hz)
    assert set(changes) <= {"compute.clock", "memory.dram.bandwidth", "memory.l3.bandwidth"}


def test_points_never_timed_on_a_quiet_machine_are_no_calibration() -> None:
    busy = [replace(one, windows=(replace(one.windows[0], valid=False),)) for one in as_if_timed({})]
    with pytest.raises(HwsimError, match="nothing was timed on a quiet machine; stop other programs"):
        fit_machine(busy, machine())


def write(folder: Path, **environment: Any) -> None:
    """A calibration file as one was written on a machine with this environment."""
    here = unmeasured()
    told = {"cpu": here.name, "cores": int(here.compute.units), "date": "2026-01-01", "hwsim": VERSION}
    told |= environment
    lines = [
        'scope = "machine"',
        'fitted_on = "10 operators"',
        "[overlap]",
        "value = 0.77",
        'source = "test"',
    ]
    lines += ["[environment]", *(f"{key} = {json.dumps(value)}" for key, value in told.items())]
    lines += ["[device]", '"memory.dram.bandwidth" = "77 GB/s"']
    folder.mkdir(parents=True)
    (folder / "local.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_calibration_is_used_at_once(own: Path) -> None:
    write(own)
    local = hwsim.device("local")
    assert local.memory.dram.bandwidth_byte_per_s == 77e9
    assert "measured" in local.sources["memory.dram.bandwidth"]
    found = coefficients_for(local)
    assert (found["overlap"], found.tier, found.warnings) == (0.77, "measured on this machine", ())
    assert hwsim.estimate("bert-base", "local").provenance["tier"] == "measured on this machine"


def test_a_calibration_of_another_cpu_is_told_and_not_used(own: Path) -> None:
    write(own, cpu="Another CPU", cores=96)
    local = hwsim.device("local")
    assert local == unmeasured()
    found = coefficients_for(local)
    assert found["overlap"] != 0.77
    assert found.warnings == (
        "the calibration in the user's folder is of Another CPU, 96 cores and not used; "
        "run `hwsim calibrate -d local`",
    )
    assert found.warnings[0] in hwsim.estimate("bert-base", "local").warnings


def test_a_calibration_with_another_torch_is_told_and_used(own: Path) -> None:
    write(own, torch="1.0.0")
    found = coefficients_for(hwsim.device("local"))
    assert found["overlap"] == 0.77
    assert "this machine was calibrated with torch 1.0.0, and this is" in found.warnings[0]


def test_a_calibration_by_another_hwsim_is_told_used_and_can_be_fitted_again(own: Path) -> None:
    write(own, hwsim="0.0.1")
    found = coefficients_for(hwsim.device("local"))
    assert found["overlap"] == 0.77
    assert found.warnings == (
        f"this machine was calibrated by hwsim 0.0.1, and this is {VERSION}; "
        "run `hwsim calibrate -d local --refit`",
    )


def test_another_device_has_no_doubts(own: Path) -> None:
    write(own, cpu="Another CPU")
    assert coefficients_for(hwsim.device("epyc-9654")).warnings == ()


def test_what_cannot_be_calibrated_is_one_line() -> None:
    with pytest.raises(HwsimError, match="device 'h100-sxm' is not this machine, so nothing can be timed"):
        hwsim.calibrate(device="h100-sxm")
    with pytest.raises(HwsimError, match="a file names its devices, so device 'local' has no place"):
        hwsim.calibrate("gemm.csv", device="local")
    with pytest.raises(HwsimError, match="nothing to calibrate from; give -d local, or --from FILE"):
        hwsim.calibrate()
    with pytest.raises(HwsimError, match="refit is for what was timed here; give -d local"):
        hwsim.calibrate("gemm.csv", refit=True)
    with pytest.raises(HwsimError, match="minutes=0: give some time"):
        calibrate_machine(minutes=0)
    with pytest.raises(HwsimError, match="threads=999: this machine has"):
        calibrate_machine(threads=999)


def test_a_calibration_that_is_stopped_says_what_it_keeps(own: Path) -> None:
    """Stopped when the first point is about to be timed, then once more with what an earlier one kept."""

    def stop(done: float, text: str) -> None:
        raise KeyboardInterrupt

    again = "the same command goes on with them"
    with pytest.raises(KeyboardInterrupt, match=f"stopped; 0 windows are kept, and {again}"):
        calibrate_machine(minutes=0.1, threads=1, grid=grid("relu"), progress=stop)
    (kept,) = (own.parents[2] / "cache").glob("calibration-local.jsonl")
    window = {"round": 0, "seconds": 1e-5, "canary_s": 1e-3, "valid": True, "waiting": 0.0}
    key = points(grid("relu"), ["fp32"])[0].key
    kept.write_text(kept.read_text() + json.dumps({"key": key, **window}) + "\n" + '{"key": "cut o')
    with pytest.raises(KeyboardInterrupt, match=f"stopped; 1 windows are kept, and {again}"):
        calibrate_machine(minutes=0.1, threads=1, grid=grid("relu"), progress=stop)


def test_what_was_timed_can_be_fitted_again(own: Path) -> None:
    chosen = grid(*FEW)
    campaign = Campaign(
        timed=tuple(as_if_timed(TRUE)), threads=int(machine().compute.units), pinned=True,
        torch=str(torch.__version__), canary_flop_per_s=1e11, date="2026-01-02",
    )  # fmt: skip
    own.mkdir(parents=True)
    stamp = {"cpu": machine().name, "cores": campaign.threads, "torch": campaign.torch}
    Timings(own / "local-timings.jsonl", {**stamp, "threads": campaign.threads}).save(campaign)
    made = calibrate_machine(refit=True, grid=chosen)
    assert made.environment["date"] == "2026-01-02"
    assert sum(row.timed for row in made.rows) == len(campaign.timed)
    assert made.file == own / "local.toml"
    assert hwsim.estimate("bert-base", "local").provenance["tier"] == "measured on this machine"


def test_without_timings_there_is_nothing_to_fit_again(own: Path) -> None:
    with pytest.raises(HwsimError, match=r"local-timings\.jsonl holds no timings of this machine"):
        calibrate_machine(refit=True)


@pytest.mark.slow
def test_a_real_calibration_beats_priors_on_sizes_it_has_not_seen(own: Path) -> None:
    """One thread, as two are seldom undisturbed where tests run side by side."""
    seen = grid("linear", "relu", "gelu", "norm", "softmax", "add", most=5)
    made = calibrate_machine(minutes=0.6, threads=1, grid=seen)
    assert made.file == own / "local.toml"
    assert sum(row.timed for row in made.rows) >= 10
    unseen = [
        replace(one, grid=one.grid[5:8]) for one in benchmarks() if one.name in ("linear", "norm", "softmax")
    ]
    campaign = measure(points(unseen, ["fp32"]), beyond_byte=0.0, budget_s=20.0, threads=1)
    here = machine().replace(**{"compute.units": 1.0})
    plain = list(samples_of_machine(campaign.timed, here))
    fitted = [replace(one, device=here.replace(**made.changes)) for one in plain]
    known = {(name, ""): value for name, value in made.values.items()}
    before, after = (
        mean_error(np.concatenate(list(one.errors().values())))
        for one in (Fitted({}, plain), Fitted(known, fitted))
    )
    assert after < before


def test_a_gpu_that_was_timed_is_fitted_like_a_file(own: Path) -> None:
    gpu = hwsim.device("l4")
    told = [replace(one, windows=(timed((one.seconds or 0.0) / 50),)) for one in as_if_timed({})]
    made = fit_devices(list(samples_of_machine(told, gpu)), told="hwsim calibrate -d local on cuda:0")
    assert {row.device for row in made.rows} == {"l4"}
    assert made.files == (own / "l4.toml",)
    assert "hwsim calibrate -d local on cuda:0" in made.files[0].read_text()
    assert coefficients_for(hwsim.device("l4")).tier == "measured on this device"


@pytest.mark.slow
def test_a_device_that_torch_computes_on_is_timed(own: Path) -> None:
    """Torch's own CPU stands for a GPU: the road is the same, and its numbers are of no use."""
    few = [replace(one, dtypes=("fp32",)) for one in grid("linear", "relu", "add", most=3)]
    gpu = Accelerator(on="cpu", device=hwsim.device("l4"))
    made = calibrate_accelerator(gpu, minutes=0.5, grid=few, floor_s=0.0)
    assert {(row.device, row.op) for row in made.rows} <= {("l4", "linear"), ("l4", "relu"), ("l4", "add")}
    assert "hwsim calibrate -d local on cpu" in made.files[0].read_text()
    with pytest.raises(HwsimError, match="nothing on l4 took longer than its launch; allow more --minutes"):
        calibrate_accelerator(gpu, minutes=0.02, grid=few, floor_s=1e3)


def test_no_gpu_is_no_accelerator() -> None:
    found, unknown = accelerators()
    assert all(one.device.kind == "gpu" for one in found)
    assert bool(found) <= torch.accelerator.is_available()
    assert unknown == [] or all("GPU" in line or "torch's" in line for line in unknown)
