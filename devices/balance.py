"""What a device's numbers say of each other: the ridge of its roofline, its power with all of it at work."""

from __future__ import annotations

from devices.device import Device, Quantity
from devices.errors import DeviceError


def ridge_flop_per_byte(device: Device, dtype: str) -> Quantity:
    """FLOP per DRAM byte above which a dtype's matrix (or vector) peak is the limit."""
    dram = device.memory.dram
    if dram is None or dram.bandwidth_byte_per_s is None:
        raise DeviceError(f"device '{device.id}' has no DRAM bandwidth; give memory.dram.bandwidth")
    return device.peak(dtype)[1] / dram.bandwidth_byte_per_s


def peak_power_w(device: Device, dtype: str) -> Quantity:
    """Watts at the full rate of a dtype and full DRAM bandwidth, at nominal clock and with no limit applied.

    Above `power.limit_w` the clock must drop: the device is power-limited at its peak.
    """
    used, rate = device.peak(dtype)
    on_matrix = used in device.compute.matrix_flop_per_s
    energy = device.energy.matrix_j_per_flop if on_matrix else device.energy.vector_j_per_flop
    return energy[used] * rate + memory_power_w(device) + device.energy.static_w


def vector_power_w(device: Device) -> Quantity:
    """As `peak_power_w`, for fp32 (or the next dtype there is) on the vector units."""
    used, rate = device.vector_peak("fp32")
    return device.energy.vector_j_per_flop[used] * rate + memory_power_w(device) + device.energy.static_w


def memory_power_w(device: Device) -> Quantity:
    """Watts of DRAM at its full bandwidth."""
    dram = device.memory.dram
    if dram is None or dram.bandwidth_byte_per_s is None or dram.energy_j_per_byte is None:
        return 0.0
    return dram.bandwidth_byte_per_s * dram.energy_j_per_byte
