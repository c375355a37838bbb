"""Energy that this machine tells it has used: processors by the powercap files of Linux (RAPL), NVIDIA GPUs
by NVML (nvidia-ml-py) or nvidia-smi.

Everything that shares a processor or a GPU counts. Where one does not tell, `Meter.missing` says why.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROCESSOR, GPU = "processor", "gpu"
POWERCAP = Path("/sys/class/powercap")
_PACKAGES = "intel-rapl:[0-9]*"  # the name on AMD processors, too
_LEAST_RUNS = 3
_SMI = ("nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits")
_SMI_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """Joules so far of one processor or GPU, and after how many it begins again, if it does."""

    part: str
    joules: Callable[[], float]
    range_j: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Every counter of this machine, and for what has none, why."""

    counters: tuple[Counter, ...]
    missing: tuple[str, ...]

    def joules_of(self, run: Callable[[], object], runs: int) -> dict[str, float]:
        """Joules of one run by part of the machine, of `runs` in a row or a few more."""
        if not self.counters:
            return {}
        count = max(runs, _LEAST_RUNS)
        before = [one.joules() for one in self.counters]
        for _ in range(count):
            run()
        found: dict[str, float] = {}
        for one, then in zip(self.counters, before, strict=True):
            used = one.joules() - then
            used = used % one.range_j if one.range_j else used
            found[one.part] = found.get(one.part, 0.0) + used / count
        return found


def meter(folder: Path = POWERCAP) -> Meter:
    """The meter of this machine."""
    processors, why_not = _packages(folder)
    gpus, why_no_gpu = _gpus()
    return Meter(counters=(*processors, *gpus), missing=tuple(filter(None, (why_not, why_no_gpu))))


def _packages(folder: Path) -> tuple[list[Counter], str]:
    """Whole packages; a part of a package is counted with it."""
    found = []
    for package in sorted(folder.glob(_PACKAGES)):
        if ":" in package.name.partition(":")[2]:
            continue
        counter = package / "energy_uj"
        try:
            float(counter.read_text())
            # the counter counts to its largest value and then from 0
            most = float((package / "max_energy_range_uj").read_text()) + 1
        except (OSError, ValueError) as error:
            return (
                [],
                f"processor: {counter} cannot be read ({type(error).__name__}); ask for read access to it",
            )
        found.append(Counter(part=PROCESSOR, joules=_microjoules(counter), range_j=most * 1e-6))
    return found, "" if found else f"processor: no powercap files (RAPL) in {folder}"


def _microjoules(counter: Path) -> Callable[[], float]:
    return lambda: 1e-6 * float(counter.read_text())


def _gpus() -> tuple[Sequence[Counter], str]:
    """Counters by NVML where nvidia-ml-py and a driver are here, else the power that nvidia-smi tells."""
    try:
        import pynvml
    except ImportError:
        return smi_counters(_SMI)
    return nvml_counters(pynvml)


def nvml_counters(nvml: Any) -> tuple[list[Counter], str]:
    """Millijoules since the driver was loaded, of GPUs from Volta on; `nvml` is the module pynvml."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return [], f"NVIDIA GPUs: no driver answers NVML ({error})"

    def joules(handle: Any) -> Callable[[], float]:
        return lambda: 1e-3 * float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))

    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        one = joules(nvml.nvmlDeviceGetHandleByIndex(index))
        try:
            one()
        except nvml.NVMLError as error:
            return [], f"NVIDIA GPUs: number {index} does not count its energy ({error})"
        found.append(Counter(part=GPU, joules=one))
    return found, "" if found else "NVIDIA GPUs: none"


def smi_counters(command: Sequence[str]) -> tuple[list[Counter], str]:
    """The power of all GPUs that `command` prints in watts, one a line, summed over time between readings."""

    def watts() -> float:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_S, check=True)
        return sum(float(line) for line in told.stdout.splitlines() if line.strip())

    try:
        watts()
    except (OSError, ValueError, subprocess.SubprocessError):
        return [], "NVIDIA GPUs: neither NVML nor nvidia-smi here"
    return [Counter(part=GPU, joules=_Summed(watts))], ""


class _Summed:
    """Joules since the first reading, each stretch at the mean of the power at its ends."""

    def __init__(self, watts: Callable[[], float]) -> None:
        self._watts, self._joules = watts, 0.0
        self._last: tuple[float, float] | None = None

    def __call__(self) -> float:
        now, power = time.perf_counter(), self._watts()
        if self._last is not None:
            then, before = self._last
            self._joules += (now - then) * (power + before) / 2
        self._last = (now, power)
        return self._joules
