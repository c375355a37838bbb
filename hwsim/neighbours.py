"""The neighbours of a set-up: what could be changed by one step, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np

from devices import Device, Stack, devices, format_quantity
from devices.cluster import Cluster
from devices.stack import AttentionKernel, stacks
from graphs.ir import FLOAT_DTYPES
from graphs.parallel import ONE, Parallel
from graphs.workload import dtype_bits
from hwsim.estimating import estimate
from hwsim.layout_steps import named, off_loaded, otherwise_dealt, ranks_changed
from hwsim.result import Estimate

WEIGHTS = ("int8", "int4:g128")
KV = ("fp8",)
MORE = 1.25  # of the what-if questions about the machine
STEP_UP, STEP_DOWN = 1.25, 0.8  # a device counts as another step when its limit differs by so much


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything one estimate needs."""

    model: Any
    device: Device | Cluster
    stack: Stack
    phase: str
    dtype: str | None
    weights: str | None
    kv: str | None
    price: Any
    strict: bool
    sizes: Mapping[str, Any]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    parallel: Parallel = ONE

    def estimate(self, **changes: Any) -> Estimate:
        """The estimate, with more overrides (numbers or arrays) if wanted."""
        found: Estimate = estimate(
            self.model, self.device, phase=self.phase, dtype=self.dtype, weights=self.weights, kv=self.kv,
            stack=self.stack, strict=self.strict, price=self.price, parallel=self.parallel,
            overrides={**self.sizes, **self.overrides, **changes},
        )  # fmt: skip
        return found

    @property
    def links(self) -> tuple[str, ...]:
        """Links of the device that exchanges of this layout may cross."""
        one = self.device.device if isinstance(self.device, Cluster) else self.device
        outside = {one.host_link} if self.parallel.offloaded else set()
        if self.parallel.devices > 1:
            outside |= (
                {t.link for t in self.device.tiers} if isinstance(self.device, Cluster) else {*one.links}
            )
        return tuple(name for name in one.links if name in outside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step from a set-up: its kind, its name, and the set-up it leads to."""

    kind: str  # dtype weights kv attention stack layout offload device
    name: str
    setup: Setup
    note: str = ""  # what the step is, where the name does not say it


def changes(setup: Setup, base: Estimate) -> Iterator[Change]:
    """Steps that change graph, stack or device; `base` says what there is to change."""
    yield from _narrower(setup, base)
    yield from _kernels(setup, base)
    for one in stacks():
        if one.id != setup.stack.id:
            yield Change(kind="stack", name=f"stack {one.id}", setup=replace(setup, stack=one))
    yield from _layouts(setup, base)
    for device, note in _devices(base) if isinstance(setup.device, Device) and base.devices == 1 else ():
        elsewhere = replace(setup, device=device, price=None)
        yield Change(kind="device", name=f"device {device.id}", setup=elsewhere, note=note)


def _narrower(setup: Setup, base: Estimate) -> Iterator[Change]:
    """Fewer bits: of everything, where the device computes so; of weights or the KV cache alone."""
    own = base.dtype
    for dtype in _faster_dtypes(base.machine, own):
        yield Change(kind="dtype", name=f"dtype {dtype}", setup=replace(setup, dtype=dtype))
    for dtype in WEIGHTS:
        if base.params and dtype_bits(dtype) < dtype_bits(setup.weights or own):
            yield Change(kind="weights", name=f"weights {dtype}", setup=replace(setup, weights=dtype))
    for dtype in KV:
        if base.memory_bytes["kv_cache"] and dtype_bits(dtype) < dtype_bits(setup.kv or own):
            yield Change(kind="kv", name=f"KV cache {dtype}", setup=replace(setup, kv=dtype))


def _faster_dtypes(device: Device, own: str) -> list[str]:
    """Narrower floats the device computes with, and `tf32` beside `fp32`; integers are no drop-in."""
    rates = {**device.compute.vector_flop_per_s, **device.compute.matrix_flop_per_s}
    wanted = [dtype for dtype in FLOAT_DTYPES if dtype in rates and dtype != own]
    return [
        dtype
        for dtype in wanted
        if dtype_bits(dtype) < dtype_bits(own) or (own == "fp32" and dtype == "tf32")
    ]


_NO_ADVICE = ("as_written", "flash_attention_2", "flash_decoding")  # kernels that others are set against


def _kernels(setup: Setup, base: Estimate) -> Iterator[Change]:
    if not any(row.kind.startswith("attention") for row in base.ops):
        return
    for kernel in get_args(AttentionKernel):
        if kernel not in (*_NO_ADVICE, setup.stack.attention_kernel):
            stack = setup.stack.replace(attention_kernel=kernel)
            yield Change(kind="attention", name=f"attention {kernel}", setup=replace(setup, stack=stack))


def _layouts(setup: Setup, base: Estimate) -> Iterator[Change]:
    """Other ranks where there are several devices, and what may lie outside of them."""
    layout = setup.parallel
    most = setup.device.count if isinstance(setup.device, Cluster) else layout.devices
    experts = any(row.kind == "grouped_gemm" for row in base.ops)
    several = [*ranks_changed(layout, most, experts=experts)] if most > 1 else []
    several += otherwise_dealt(layout, setup.phase == "train", setup.phase == "decode")
    for kind, layouts in (("layout", several), ("offload", off_loaded(layout, base))):
        for changed in layouts:
            note = f"on {changed.devices} instead of {layout.devices}" if kind == "layout" else ""
            yield Change(
                kind=kind, name=named(layout, changed), setup=replace(setup, parallel=changed),
                note=note if changed.devices != layout.devices else "",
            )  # fmt: skip


def _devices(base: Estimate) -> Iterator[tuple[Device, str]]:
    """The next device up and the next down of the same kind, by what limits here: bandwidth or arithmetic."""
    own: Device = base.machine
    in_memory = base.breakdown_s["memory"] > base.breakdown_s["compute"] + base.breakdown_s["power"]

    def limit(device: Device) -> float | None:
        if in_memory:
            dram = device.memory.dram
            found = None if dram is None else dram.bandwidth_byte_per_s
        else:
            dtype, found = device.peak(base.dtype)
            found = found if dtype == base.dtype else None
        return None if found is None or np.ndim(found) else float(found)

    here = limit(own)
    if here is None:
        return
    rated = [(limit(one), one) for one in devices(own.kind) if one.id != own.id]
    others = [(rate, one) for rate, one in rated if rate is not None]
    what, unit = ("DRAM at", "byte_per_s") if in_memory else (f"{base.dtype} at", "flop_per_s")
    up = [pair for pair in others if pair[0] >= STEP_UP * here]
    down = [pair for pair in others if pair[0] <= STEP_DOWN * here]
    # of equal ones the newest
    picked = []
    if up:
        picked.append(min(up, key=lambda pair: (pair[0], -(pair[1].year or 0))))
    if down:
        picked.append(max(down, key=lambda pair: (pair[0], pair[1].year or 0)))
    for rate, one in picked:
        yield one, f"{what} {format_quantity(rate, unit)}, here {format_quantity(here, unit)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Numeric:
    """Steps that are numbers: names, kinds, and one override array per path, the base point first."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    overrides: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]


def numeric_changes(base: Estimate, links: tuple[str, ...] = ()) -> Numeric:
    """Batch halved and doubled, and a somewhat better machine with its `links`: points of one estimate."""
    steps: list[tuple[str, str, str, float]] = []
    values: dict[str, float] = {}
    batch = float(base.sizes.get("batch", 0.0))
    if batch:
        values["batch"] = batch
        steps.append((f"batch {2 * batch:g}", "batch", "batch", 2 * batch))
        if batch >= 2:
            steps.append((f"batch {batch // 2:g}", "batch", "batch", batch // 2))
    for name, path, value in _machine_values(base, links):
        values[path] = value
        steps.append((f"{name} +{MORE - 1:.0%}", "machine", path, MORE * value))
    count = len(steps) + 1
    overrides = {path: np.full(count, value) for path, value in values.items()}
    for at, (_, _, path, value) in enumerate(steps, 1):
        overrides[path][at] = value
    return Numeric(names=tuple(s[0] for s in steps), kinds=tuple(s[1] for s in steps), overrides=overrides)


def _machine_values(base: Estimate, links: tuple[str, ...]) -> Iterator[tuple[str, str, float]]:
    """What a better machine would have more of: name, path, value."""
    device: Device = base.machine
    dtype, _ = device.peak(base.dtype)
    matrix = device.compute.matrix_flop_per_s.get(dtype)
    dram, cache = device.memory.dram, device.memory.last_level_cache
    level = next((n for n in ("l3", "l2", "l1") if getattr(device.memory, n) is not None), None)
    if dram is not None and dram.bandwidth_byte_per_s is not None:
        yield "DRAM bandwidth", "device.memory.dram.bandwidth", float(dram.bandwidth_byte_per_s)
    if matrix is not None:
        yield f"{dtype} matrix rate", f"device.compute.matrix.{dtype}", float(matrix)
    if cache is not None and level is not None:
        own = getattr(device.memory, level).capacity_byte
        yield "on-chip memory", f"device.memory.{level}.capacity", float(own)
    yield "power limit", "device.power.limit", float(device.power.limit_w)
    for link in links:
        rate = float(device.links[link].bandwidth_byte_per_s)
        yield f"{link} bandwidth", f"device.links.{link}.bandwidth", rate
