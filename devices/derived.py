"""Rules for bandwidths that nobody publishes; what they fill is marked `derived` in `Device.sources`."""

from __future__ import annotations

from devices.device import Compute, Quantity

# Bytes per clock and unit.
# simt l1: shared memory of NVIDIA SMs since Volta, 32 banks x 4 B (CUDA programming guide).
# simt l2, l3: 5120 B per clock of an A100 over 108 SMs (LLMCompass); an H100 measures 21
# (5.5 TB/s, Chips and Cheese).
# cpu: two 32 B loads from L1, 32 B from L2, 16 B from L3, from memory, unverified.
_BYTE_PER_CLOCK = {
    ("simt", "l1"): 128.0,
    ("simt", "l2"): 47.0,
    ("simt", "l3"): 47.0,
    ("cpu", "l1"): 64.0,
    ("cpu", "l2"): 32.0,
    ("cpu", "l3"): 16.0,
}
# An array takes a value per row and gives one per column each clock; two bytes in, four bytes out.
_ARRAY_BYTE_IN, _ARRAY_BYTE_OUT = 2.0, 4.0


def derived_bandwidth(engine: str, level: str, compute: Compute) -> Quantity | None:
    """Bytes per second of an on-chip level of the whole device; None where there is no rule."""
    clock = compute.boost_clock_hz or compute.clock_hz
    if (engine, level) in _BYTE_PER_CLOCK:
        return _BYTE_PER_CLOCK[engine, level] * compute.units * clock
    if compute.array is not None and level in ("l1", "l2"):
        array = compute.array
        per_clock = array.count * (array.rows * _ARRAY_BYTE_IN + array.columns * _ARRAY_BYTE_OUT)
        return per_clock * compute.clock_hz
    return None
