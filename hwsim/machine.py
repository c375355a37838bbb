"""Device, stack and coefficients as the numbers pricing needs: rates (per dtype), structure, energies.

Every field is a float or an array of design points, so that a sweep over any device field is only one more
axis.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from devices import Device, Stack
from devices.energy import addition_share
from graphs.ir import HOST
from graphs.workload import dtype_bits
from hwsim.engines.demand import Structure
from hwsim.errors import HwsimError
from hwsim.fitted import Coefficients
from hwsim.network import Path

NODE_NM = 7.0  # process at which core energy is the profile's times core_energy_scale
MATRIX, VECTOR = "matrix", "vector"
_PRICED_AS = {
    "int64": "fp32", "int32": "fp32", "int16": "fp32", "bool": "fp32", "uint8": "fp32",
    "complex32": "fp16", "complex64": "fp32", "complex128": "fp64",
}  # fmt: skip
_OF_STACK = ("dispatch_s", "launch_s", "reserve_byte")
_STRUCTURE = (
    *("units", "array_rows", "array_columns", "array_count", "onchip_byte", "lanes"),
    "coefficients",
)
_OF_MACHINE = (
    *("matrix_flop_per_s", "matrix_share", "vector_flop_per_s", "special_op_per_s", "dram_byte_per_s"),
    "onchip_byte_per_s",
    *("unit_byte_per_s", "block_s", "capacity_byte", "matrix_j_per_flop", "vector_j_per_flop"),
    *("special_j_per_op", "addition_j_per_op", "dram_j_per_byte", "onchip_j_per_byte", "static_w", "limit_w"),
    "link_byte_per_s",
    *("board_compute", "board_memory"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one device under one stack offers; scalars or [points] arrays."""

    device: Device
    stack: Stack
    structure: Structure
    matrix_flop_per_s: Mapping[str, Any]
    matrix_share: Mapping[str, Any]  # of the datasheet's peak
    vector_flop_per_s: Mapping[str, Any]
    special_op_per_s: Any
    dram_byte_per_s: Any
    onchip_byte_per_s: Any
    unit_byte_per_s: Any
    block_s: Any
    capacity_byte: Any
    matrix_j_per_flop: Mapping[str, Any]
    vector_j_per_flop: Mapping[str, Any]
    special_j_per_op: Any
    addition_j_per_op: Mapping[str, Any]
    dram_j_per_byte: Any
    onchip_j_per_byte: Any
    static_w: Any
    limit_w: Any
    board_compute: Any  # factors of measured boards, see hwsim.energy
    board_memory: Any
    coefficients: Coefficients
    substitutes: Mapping[str, str]
    on_lanes: frozenset[str]
    paths: Mapping[str, Path]  # links of each axis of ranks
    link_byte_per_s: Mapping[str, Any]  # of level k of an axis, "axis.k"
    host: Machine | None = None  # the CPU behind it, for what it does not run (hwsim.hosting)

    def place(self, name: str) -> Machine:
        """The machine that rows of a place run on."""
        return self.host if name == HOST and self.host is not None else self

    def at(self, index: Any) -> Machine:
        """The machine at some of its design points: every array indexed, every float kept."""
        return _map_arrays(self, lambda a: a[index])

    def path(self, axis: str) -> Path:
        """The links of an axis at the bandwidth of the points at hand; none where it has one rank."""
        return tuple(
            replace(level, bandwidth_byte_per_s=self.link_byte_per_s[f"{axis}.{index}"])
            for index, level in enumerate(self.paths.get(axis, ()))
        )

    def arrays(self) -> list[Any]:
        """Every field that is an array of design points."""
        found: list[Any] = []

        def keep(array: Any) -> Any:
            found.append(array)
            return array

        _map_arrays(self, keep)
        return found

    def mapped(self, change: Callable[[Any], Any]) -> Machine:
        """The machine with `change` applied to every array."""
        return _map_arrays(self, change)


def build_machine(
    device: Device,
    stack: Stack,
    coefficients: Coefficients,
    dtypes: Mapping[str, set[str]],
    paths: Mapping[str, Path] | None = None,
) -> Machine:
    """The machine for the dtypes a workload uses (`matrix` and `vector` sets); rates are achievable ones."""
    c = coefficients
    substitutes: dict[str, str] = {}
    on_lanes: set[str] = set()
    matrix, share, matrix_j, addition_j, vector, vector_j = {}, {}, {}, {}, {}, {}
    for dtype in sorted(dtypes[MATRIX]):
        used, peak = device.peak(_PRICED_AS.get(dtype, dtype.partition(":")[0]))
        if used != dtype and dtype not in _PRICED_AS:
            substitutes[dtype] = used
        on_matrix = used in device.compute.matrix_flop_per_s
        share[dtype] = c[_efficiency(c, used, on_matrix)]
        matrix[dtype] = peak * share[dtype]
        if not on_matrix:
            on_lanes.add(dtype)
        matrix_j[dtype] = (device.energy.matrix_j_per_flop if on_matrix else device.energy.vector_j_per_flop)[
            used
        ]
        addition_j[dtype] = matrix_j[dtype] * addition_share(used)
    for dtype in sorted(dtypes[VECTOR]):
        used, peak = device.vector_peak(_PRICED_AS.get(dtype, dtype.partition(":")[0]))
        vector[dtype] = peak * c["vector_efficiency"]
        vector_j[dtype] = device.energy.vector_j_per_flop[used]
    onchip = device.memory.last_level_cache
    dram = device.memory.dram or onchip
    if dram is None or dram.bandwidth_byte_per_s is None:
        raise HwsimError(f"device '{device.id}' gives no bandwidth for its memory; add memory.dram.bandwidth")
    chip_rate = onchip.bandwidth_byte_per_s if onchip is not None else None
    special = device.compute.special_op_per_s
    node = device.process_nm if device.process_nm is not None else NODE_NM
    core = c["core_energy_scale"] * (node / NODE_NM) ** c.values.get("node_exponent", 0.0)
    array = device.compute.array
    fastest = reduce(np.maximum, vector.values()) if vector else 1.0
    return Machine(
        device=device,
        stack=stack,
        structure=Structure(
            units=device.compute.units,
            array_rows=array.rows if array else 1.0,
            array_columns=array.columns if array else 1.0,
            array_count=array.count if array else 1.0,
            dataflow=array.dataflow if array else "",
            onchip_byte=onchip.capacity_byte if onchip else 0.0,
            lanes=_given(device.compute.lanes_per_unit, 8.0),
            coefficients=dict(c.values),
            attention_kernel=stack.attention_kernel,
        ),
        matrix_flop_per_s=matrix,
        matrix_share=share,
        vector_flop_per_s=vector,
        special_op_per_s=special * c["special_efficiency"] if special is not None else fastest / 8,
        dram_byte_per_s=dram.bandwidth_byte_per_s * c["dram_efficiency"],
        onchip_byte_per_s=chip_rate * c["onchip_efficiency"] if chip_rate is not None else np.inf,
        unit_byte_per_s=device.compute.clock_hz * c.values.get("unit_byte_per_clock", np.inf),
        block_s=c.values.get("block_begin_cycle", 0.0) / device.compute.clock_hz,
        capacity_byte=dram.capacity_byte,
        matrix_j_per_flop={d: j * core for d, j in matrix_j.items()},
        vector_j_per_flop={d: j * core for d, j in vector_j.items()},
        addition_j_per_op={d: j * core for d, j in addition_j.items()},
        special_j_per_op=device.energy.special_j_per_op * core,
        dram_j_per_byte=_given(dram.energy_j_per_byte, 0.0),
        onchip_j_per_byte=_given(onchip.energy_j_per_byte if onchip is not None else None, 0.0),
        static_w=device.energy.static_w,
        limit_w=device.power.cap_w,
        board_compute=c["board_compute_scale"],
        board_memory=c["board_memory_scale"],
        coefficients=c,
        substitutes=substitutes,
        on_lanes=frozenset(on_lanes),
        paths=paths or {},
        link_byte_per_s={
            f"{axis}.{index}": level.bandwidth_byte_per_s
            for axis, path in (paths or {}).items()
            for index, level in enumerate(path)
        },
    )


def _efficiency(c: Coefficients, dtype: str, on_matrix: bool) -> str:
    """Which coefficient says what share of its peak a dtype reaches."""
    narrow = on_matrix and dtype_bits(dtype) <= 8 and "narrow_matrix_efficiency" in c.values
    return (
        "narrow_matrix_efficiency"
        if narrow
        else "matrix_efficiency"
        if on_matrix
        else "lane_matrix_efficiency"
    )


def _given(value: Any, default: float) -> Any:
    """A published value, or what stands for one that is not."""
    return default if value is None else value


def _map_arrays(machine: Machine, change: Callable[[Any], Any]) -> Machine:
    """The machine with every array changed; whatever holds none stays the very same."""

    def changed(whole: Any, names: tuple[str, ...]) -> Any:
        found = {}
        for name in names:
            old = getattr(whole, name)
            if isinstance(old, dict):
                if any(isinstance(one, np.ndarray) and one.ndim for one in old.values()):
                    found[name] = {key: change(v) if np.ndim(v) else v for key, v in old.items()}
            elif isinstance(old, np.ndarray) and old.ndim:
                found[name] = change(old)
        return dataclasses.replace(whole, **found) if found else whole

    structure = changed(machine.structure, _STRUCTURE)
    stack = changed(machine.stack, _OF_STACK)
    result: Machine = changed(machine, _OF_MACHINE)
    if machine.host is not None:
        result = dataclasses.replace(result, host=_map_arrays(machine.host, change))
    if structure is not machine.structure or stack is not machine.stack:
        result = dataclasses.replace(result, structure=structure, stack=stack)
    return result
