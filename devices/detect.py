"""This machine as devices: its CPU as the operating system tells it, its GPUs as their drivers do.

What is not told is an estimate, and `Device.sources` says so: the sustained clock inside a virtual
machine, the FMA units per core and the DRAM bandwidth. `calibrate -d local` measures what these stand for.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from devices import energy
from devices.derived import derived_bandwidth
from devices.device import Compute, Device, Energy, Memory, MemoryLevel, Power, Price
from devices.energy import Technology
from devices.errors import DeviceError
from devices.measured import measured

_CACHE_FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")
_CPUINFO = Path("/proc/cpuinfo")
# Estimates of ours where nothing is told: the node and the power per core of typical server CPUs.
_PROCESS_NM = 7.0
_WATT_PER_CORE = 6.0
_CLOCK_HZ = 2.5e9
# What one core of a server CPU moves from DRAM, and what a socket with eight DDR4-3200 channels does at most.
_DRAM_BYTE_PER_S_PER_CORE = 12e9
_DRAM_BYTE_PER_S_MOST = 200e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Simd:
    """FLOP per clock and core by dtype, of the vector units and of a matrix unit if there is one."""

    name: str
    vector: dict[str, float]
    matrix: dict[str, float]


def detect() -> Device:
    """The CPU of this machine as device `local`, with what was measured of it."""
    found, seen = _local(), measured()
    if seen is None or not seen.changes or not seen.of(found.name, int(found.compute.units)):
        return found
    return _with_measured(found, tuple(seen.changes.items()), str(seen.environment.get("date", "")))


def unmeasured() -> Device:
    """This machine as the system tells it, whatever was measured: where a calibration begins."""
    return _local()


@cache
def _with_measured(found: Device, changes: tuple[tuple[str, str], ...], date: str) -> Device:
    told = {path: f"measured, hwsim calibrate -d local, {date}" for path, _ in changes}
    return replace(found.replace(**dict(changes)), sources={**found.sources, **told}, notes="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The devices of this machine, and a line for each GPU that could not be made one."""

    devices: tuple[Device, ...]
    skipped: tuple[str, ...]


def survey() -> Survey:
    """The CPU, and every GPU that a driver tells of and that a profile or its architecture explains."""
    from devices.drivers import reported
    from devices.reported import device_of

    found, skipped = [detect()], []
    for told in reported():
        try:
            found.append(device_of(told))
        except DeviceError as error:
            skipped.append(str(error))
    return Survey(devices=tuple(found), skipped=tuple(skipped))


def detect_all() -> list[Device]:
    """The devices of `survey`."""
    return list(survey().devices)


@cache
def _local() -> Device:
    info = _cpuinfo()
    cores = _physical_cores()
    known = whole_cpu(info.get("model name", ""), cores)
    if known is not None:
        return known
    clock, clock_source = _clock(info)
    simd = simd_of(_flags(info), platform.machine(), full_width=_full_width(info))
    levels, cache_source = _caches(cores)
    technology = Technology(engine="cpu", process_nm=_PROCESS_NM)
    limit = _WATT_PER_CORE * cores
    return Device(
        id="local",
        name=info.get("model name") or platform.processor() or platform.machine(),
        kind="cpu",
        vendor=info.get("vendor_id", "unknown"),
        generation=f"cpu-{simd.name}",
        year=None,
        process_nm=None,
        engine="cpu",
        compute=Compute(
            units=float(cores),
            clock_hz=clock,
            vector_flop_per_s={dtype: rate * cores * clock for dtype, rate in simd.vector.items()},
            matrix_flop_per_s={dtype: rate * cores * clock for dtype, rate in simd.matrix.items()},
            lanes_per_unit=simd.vector["fp32"] / 2,
        ),
        memory=_memory(levels, cores, clock, technology),
        links={},
        power=Power(limit_w=limit),
        energy=Energy(
            matrix_j_per_flop=dict(energy.op_energy(technology, "matrix")),
            vector_j_per_flop=dict(energy.op_energy(technology, "vector")),
            special_j_per_op=energy.special_energy(technology),
            static_w=energy.static_power(technology, limit),
        ),
        price=Price(),
        sources={
            "identity": "/proc/cpuinfo or the platform module of Python",
            "compute": f"{simd.name} with two FMA units per core assumed; clock: {clock_source}",
            "memory.caches": cache_source,
            "memory.dram": "RAM size from psutil; bandwidth estimated at 12 GB/s per core, at most 200 GB/s",
            "power": "estimated at 6 W per core",
            "energy": energy.table_source(),
        },
        notes="Detected, not measured: `hwsim calibrate -d local` fits what the estimates stand for.",
    )


def whole_cpu(model_name: str, cores: int) -> Device | None:
    """The profile of a CPU as `local`, where this machine has all of its cores; RAM is the machine's."""
    from devices.catalog import find

    profile = find(model_name) if model_name else None
    if profile is None or profile.kind != "cpu" or profile.compute.units != cores:
        return None
    import psutil

    here = profile.replace(**{"memory.dram.capacity": float(psutil.virtual_memory().total)})
    return replace(
        here, id="local", notes=f"{profile.notes} This machine, matched to '{profile.id}' by name."
    )


def simd_of(flags: frozenset[str], machine: str, *, full_width: bool = True) -> Simd:
    """What the instruction-set flags promise; two FMA units per core is right for most, not all, CPUs.

    Not `full_width`: AVX-512 runs as two halves on 256-bit units, at the rate of AVX2.
    """
    if machine.lower() in ("aarch64", "arm64"):
        half = {"fp16": 32.0} if "asimdhp" in flags else {}
        dot = {"int8": 64.0} if "asimddp" in flags else {}
        return Simd(name="neon", vector={"fp64": 8.0, "fp32": 16.0, **half, **dot}, matrix={})
    if "avx512f" in flags:
        width = 1.0 if full_width else 0.5
        plain = {"fp64": 32.0 * width, "fp32": 64.0 * width}
        bf16 = {"bf16": 128.0 * width} if "avx512_bf16" in flags else {}
        dot = {"int8": 256.0 * width} if "avx512_vnni" in flags else {}
        # One AMX unit: 16 rows x 16 columns x 64 bytes of depth every 16 clocks.
        tile = {"bf16": 1024.0, "int8": 2048.0} if "amx_tile" in flags else {}
        tile = {dtype: rate for dtype, rate in tile.items() if f"amx_{dtype}" in flags}
        name = "amx" if tile else "avx512"
        return Simd(name=name, vector={**plain, **bf16, **dot}, matrix=tile)
    if "avx2" in flags and "fma" in flags:
        return Simd(name="avx2", vector={"fp64": 16.0, "fp32": 32.0}, matrix={})
    return Simd(name="sse", vector={"fp64": 4.0, "fp32": 8.0}, matrix={})


def _cpuinfo() -> dict[str, str]:
    """The first processor of /proc/cpuinfo with lower-case keys; empty on other systems."""
    if not _CPUINFO.is_file():
        return {}
    first = _CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _flags(info: dict[str, str]) -> frozenset[str]:
    return frozenset(info.get("flags", info.get("features", "")).lower().split())


def _full_width(info: dict[str, str]) -> bool:
    """False on AMD Zen 4 (family 25), whose units are 256 bits wide; Zen 5 is family 26."""
    return not (info.get("vendor_id") == "AuthenticAMD" and int(info.get("cpu family", 0)) < 26)


def _physical_cores() -> int:
    import psutil

    return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1


def _clock(info: dict[str, str]) -> tuple[float, str]:
    """The highest clock that is told, and by whom; a virtual machine often tells only the present one."""
    import psutil

    told = psutil.cpu_freq()
    if told is not None and told.max > 0:
        return told.max * 1e6, "maximum, psutil"
    named = re.search(r"@\s*([\d.]+)\s*GHz", info.get("model name", ""))
    if named:
        return float(named[1]) * 1e9, "base, from the model name"
    if told is not None and told.current > 0:
        # Rounded, so that the device stays the same from one process to the next.
        return round(told.current, -2) * 1e6, "present clock, psutil"
    return _CLOCK_HZ, "not told; 2.5 GHz assumed"


def _caches(cores: int) -> tuple[dict[str, tuple[float, bool]], str]:
    """Capacity of l1 (per core), l2 and l3 (whole device), and whether one cache serves all cores."""
    found: dict[str, tuple[float, bool]] = {}
    for folder in sorted(_CACHE_FOLDER.glob("index*")):
        level, kind, size, shared = (
            (folder / name).read_text().strip() for name in ("level", "type", "size", "shared_cpu_list")
        )
        if kind != "Instruction":
            found[f"l{level}"] = (_sysfs_size(size), "-" in shared or "," in shared)
    if "l1" in found and "l2" in found:
        return _whole_device(found, cores), "sysfs cache folder"
    return {
        "l1": (32 * 1024.0, False),
        "l2": (cores * 512 * 1024.0, False),
    }, "not told; 32 and 512 KiB assumed"


def _whole_device(found: dict[str, tuple[float, bool]], cores: int) -> dict[str, tuple[float, bool]]:
    return {
        level: (size if level == "l1" or shared else size * cores, shared)
        for level, (size, shared) in found.items()
    }


def _sysfs_size(text: str) -> float:
    factors = {"K": 1024.0, "M": 1024.0**2, "G": 1024.0**3}
    return float(text[:-1]) * factors[text[-1]] if text[-1] in factors else float(text)


def _memory(
    levels: dict[str, tuple[float, bool]], cores: int, clock: float, technology: Technology
) -> Memory:
    import psutil

    compute = Compute(units=float(cores), clock_hz=clock)
    caches = {
        level: MemoryLevel(
            capacity_byte=size,
            per_unit=level == "l1",
            bandwidth_byte_per_s=derived_bandwidth("cpu", level, compute),
            energy_j_per_byte=energy.sram_energy(technology, level),
            label=f"{level.upper()}{', shared' if shared else ''}",
        )
        for level, (size, shared) in levels.items()
        if level in ("l1", "l2", "l3")
    }
    dram = MemoryLevel(
        capacity_byte=float(psutil.virtual_memory().total),
        per_unit=False,
        bandwidth_byte_per_s=min(_DRAM_BYTE_PER_S_PER_CORE * cores, _DRAM_BYTE_PER_S_MOST),
        energy_j_per_byte=energy.dram_energy(technology, "DDR4"),
        label="RAM",
    )
    return Memory(units=float(cores), dram=dram, **caches)
