"""GPUs at hand as drivers describe them: NVML for NVIDIA, the KFD folder for AMD, system_profiler for Apple.

None of them needs torch; a driver that is not there tells of no GPU.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from devices.architecture import architectures
from devices.reported import Reported

_KFD = Path("/sys/class/kfd/kfd/topology/nodes")
_DRM = Path("/sys/class/drm")
_AMD = 0x1002
# Bytes per second and lane of a PCIe generation, per direction (PCI-SIG; encoding taken off).
_PCIE_LANE = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.56e9}
_PROFILER_S = 20.0


def reported() -> list[Reported]:
    """Every GPU that any driver of this machine tells of."""
    return [*_nvidia(), *amd(_KFD, _DRM), *_apple()]


def _nvidia() -> Iterator[Reported]:
    """Through nvidia-ml-py; without it or without a driver there is none."""
    try:
        import pynvml
    except ImportError:
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            yield _nvidia_gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index))
    finally:
        pynvml.nvmlShutdown()


def _nvidia_gpu(nvml: Any, handle: Any) -> Reported:
    def ask(question: Callable[..., Any], *more: Any) -> Any:
        try:
            return question(handle, *more)
        except nvml.NVMLError:
            return None

    name = nvml.nvmlDeviceGetName(handle)
    name = name.decode() if isinstance(name, bytes) else str(name)
    capability = ask(nvml.nvmlDeviceGetCudaComputeCapability)
    clock = ask(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM)
    memory_clock = ask(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_MEM)
    memory, limit = ask(nvml.nvmlDeviceGetMemoryInfo), ask(nvml.nvmlDeviceGetEnforcedPowerLimit)
    generation, width = ask(nvml.nvmlDeviceGetMaxPcieLinkGeneration), ask(nvml.nvmlDeviceGetMaxPcieLinkWidth)
    return Reported(
        name=name,
        told_by="NVML",
        architecture="" if capability is None else nvidia_architecture(name, *capability),
        lanes=ask(nvml.nvmlDeviceGetNumGpuCores),
        clock_hz=None if clock is None else clock * 1e6,
        memory_byte=None if memory is None else float(memory.total),
        memory_clock_hz=None if memory_clock is None else memory_clock * 1e6,
        bus_bit=ask(nvml.nvmlDeviceGetMemoryBusWidth),
        limit_w=None if limit is None else limit / 1e3,
        host_link_byte_per_s=_PCIE_LANE[generation] * width if generation in _PCIE_LANE and width else None,
    )


def nvidia_architecture(name: str, major: int, minor: int) -> str:
    """`sm_86` of compute capability 8.6, or the GeForce variant that halves floats accumulated in fp32."""
    plain = f"sm_{major}{minor}"
    halved = f"{plain}-geforce"
    return halved if "GeForce" in name and halved in architectures() else plain


def amd(nodes: Path, drm: Path) -> list[Reported]:
    """GPUs among the nodes of the KFD topology folder; `drm` holds their product names and power caps."""
    found = []
    for node in sorted(nodes.glob("*"), key=lambda path: int(path.name) if path.name.isdigit() else -1):
        told = _properties(node / "properties")
        if told.get("vendor_id") == _AMD and told.get("simd_count", 0) > 0:
            found.append(_amd_gpu(node, told, drm / f"renderD{told.get('drm_render_minor', 0)}" / "device"))
    return found


def _amd_gpu(node: Path, told: dict[str, int], card: Path) -> Reported:
    bank = _properties(node / "mem_banks" / "0" / "properties")
    caches = [_properties(path) for path in node.glob("caches/*/properties")]
    l2 = sum(cache["size"] for cache in caches if cache.get("level") == 2)
    chip = gfx(told["gfx_target_version"])
    caps = sorted(card.glob("hwmon/hwmon*/power1_cap"))
    return Reported(
        name=_text(card / "product_name") or f"AMD {chip}",
        told_by="the KFD topology folder",
        architecture=chip,
        units=told["simd_count"] // max(1, told.get("simd_per_cu", 1)),
        clock_hz=told.get("max_engine_clk_fcompute", 0) * 1e6 or None,
        memory_byte=float(bank.get("size_in_bytes", 0)) or None,
        memory_clock_hz=bank.get("mem_clk_max", 0) * 1e6 or None,
        bus_bit=bank.get("width") or None,
        l2_byte=l2 * 1024.0 or None,
        limit_w=int(_text(caps[0])) / 1e6 if caps else None,
    )


def gfx(version: int) -> str:
    """`gfx90a` of 90010: major, minor and step, the last two as one hexadecimal digit each."""
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def _properties(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""


def _apple() -> list[Reported]:
    if platform.system() != "Darwin":
        return []
    command = ["system_profiler", "SPDisplaysDataType", "-json"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_PROFILER_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    import psutil

    return apple(told.stdout, float(psutil.virtual_memory().total))


def apple(profiler_json: str, memory_byte: float) -> list[Reported]:
    """Apple's own GPUs in what `system_profiler SPDisplaysDataType -json` prints; memory is the machine's."""
    found = []
    for card in json.loads(profiler_json).get("SPDisplaysDataType", []):
        name, cores = str(card.get("sppci_model", "")), str(card.get("sppci_cores", ""))
        if name.startswith("Apple"):
            found.append(
                Reported(
                    name=name,
                    told_by="system_profiler",
                    units=int(cores) if cores.isdigit() else None,
                    memory_byte=memory_byte,
                )
            )
    return found
