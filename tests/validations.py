"""Validations written down by hand, for tests of what is computed and drawn from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hwsim.validation import Host, KindRow, Protocol, Validation, ValidationRow

HOST = Host(cpu="A CPU", cores=2, memory_byte=16e9, system="A system", torch="2.13.0", threads=2)
PROTOCOL = Protocol(
    timing="host clock",
    statistic="lower quartile",
    rounds=3,
    canary="matrix product",
    canary_s=0.01,
    canary_limit=1.15,
    others_share=0.01,
)


def kind(name: str, measured_s: float | None, predicted_s: float | None) -> KindRow:
    """A kind that ran ten times on each side that has it."""
    return KindRow(
        kind=name,
        measured_s=measured_s,
        measured_count=10 if measured_s else 0,
        predicted_s=predicted_s,
        predicted_count=10 if predicted_s else 0,
    )


def row(model: str, measured_s: float | None, predicted_s: float, **changes: Any) -> ValidationRow:
    """Two thirds of each side are products, the rest attention; 50 us pass between operators."""
    profiled_s = measured_s or predicted_s
    plain = ValidationRow(
        model=model,
        phase="forward",
        sizes={"batch": 1.0, "seq": 512.0},
        dtype="fp32",
        measured_s=measured_s,
        repeatability=None if measured_s is None else 0.02,
        windows=12,
        discarded=2 if measured_s else 12,
        predicted_s=predicted_s,
        low_s=predicted_s / 1.5,
        high_s=predicted_s * 1.5,
        profiled_s=profiled_s,
        profile_quiet=True,
        kinds=(
            kind("gemm", profiled_s * 2 / 3, predicted_s * 2 / 3),
            kind("attention", profiled_s / 3 - 50e-6, predicted_s / 3),
            kind("between operators", 50e-6, None),
        ),
    )
    return replace(plain, **changes)


def validation(*rows: ValidationRow, **changes: Any) -> Validation:
    """The rows, on a machine nobody has."""
    plain = Validation(
        device="local", stack="eager", tier="datasheet", host=HOST, protocol=PROTOCOL, rows=rows
    )
    return replace(plain, **changes)
