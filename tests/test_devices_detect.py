"""The machine at hand as a device."""

from __future__ import annotations

import subprocess
import sys

from devices import detect, device
from devices.detect import detect_all, simd_of


def test_this_machine_is_a_cpu_with_rates_caches_and_memory() -> None:
    local = detect()
    assert (local.id, local.kind, local.engine) == ("local", "cpu", "cpu")
    assert float(local.compute.units) >= 1
    assert float(local.peak("fp32")[1]) > 1e9
    assert local.memory.l1 is not None
    assert local.memory.dram is not None
    assert float(local.memory.dram.capacity_byte) > 1e8
    assert local.memory.last_level_cache is not None


def test_local_is_the_detected_machine_and_the_same_each_time() -> None:
    assert device("local") == detect() == detect_all()[0]


def test_estimates_are_marked_as_such() -> None:
    sources = detect().sources
    assert "estimated" in sources["memory.dram"]
    assert "assumed" in sources["compute"]


def test_another_process_sees_the_same_machine() -> None:
    code = "import devices; print(devices.detect().fingerprint())"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == detect().fingerprint()


def test_instruction_sets_give_flop_per_clock() -> None:
    avx512 = frozenset({"avx512f", "avx512_bf16", "avx512_vnni", "avx2", "fma"})
    assert simd_of(frozenset({"avx2", "fma"}), "x86_64").vector["fp32"] == 32.0
    assert simd_of(avx512, "x86_64").vector == {"fp64": 32.0, "fp32": 64.0, "bf16": 128.0, "int8": 256.0}
    assert simd_of(avx512, "x86_64", full_width=False).vector["fp32"] == 32.0
    amx = avx512 | {"amx_tile", "amx_bf16", "amx_int8"}
    assert simd_of(amx, "x86_64").matrix == {"bf16": 1024.0, "int8": 2048.0}
    assert simd_of(frozenset({"asimdhp"}), "aarch64").vector == {"fp64": 8.0, "fp32": 16.0, "fp16": 32.0}
    assert simd_of(frozenset(), "x86_64").name == "sse"


def test_devices_imports_no_heavy_library() -> None:
    heavy = ["torch", "matplotlib", "scipy", "networkx", "sympy", "pydantic"]
    code = f"import sys, devices; print([name for name in {heavy!r} if name in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"
