"""What rows of a device's own are worth: `python -m benchmarks.own_rows FOLDER` rewrites a table of
docs/validation.md.

Of each device and operator a random half of some thousand rows teaches a surface (`hwsim.fitting_surface`),
beside the coefficients that ship; the other half is predicted with it. No row that counts was in that fit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.validation_page import PAGE, rewrite
from hwsim.engines.demand import Array
from hwsim.fitted import coefficients_for
from hwsim.fitting import Sample, log_errors, mean_error, samples_of
from hwsim.fitting_gpus import fitted_rows, kind_of
from hwsim.fitting_surface import learn, shape_of
from hwsim.measurements.predicting import questions_of
from hwsim.surface import Surface
from hwsim.uncertainty import Z80

BEGIN, END = "<!-- own rows: begin -->", "<!-- own rows: end -->"
SEED, ROWS = 20261125, 3000
# file, operators, and three times the floor of its host and method in seconds
FILES = (
    ("neusight/gemm_fp32.csv.gz", ("linear", "bmm"), 75e-6),
    ("neusight/vector_ops_fp32.csv.gz", ("add", "gelu", "ln", "softmax", "mulu", "tanh"), 75e-6),
    ("aiconfigurator/gemm.csv.gz", ("gemm bfloat16", "gemm fp8", "gemm nvfp4"), 10e-6),
    (
        "aiconfigurator/context_attention.csv.gz",
        ("prefill attention bfloat16 kv bfloat16", "prefill attention fp8 kv fp8"),
        10e-6,
    ),
    ("aiconfigurator/generation_attention.csv.gz", ("decode attention bfloat16 kv bfloat16",), 10e-6),
)


@dataclass(frozen=True, slots=True)
class Scored:
    """Log errors of the half that taught nothing, by physics and with neighbours, and which were inside."""

    physics: Array
    neighbours: Array
    inside: Array


def scored(first: Sequence[Sample], second: Sequence[Sample]) -> Scored:
    """The second halves of samples of one device and operator, with what the first ones teach."""
    surface = {one.key: one.patch for one in learn(first, {}, "")}
    parts = [_predicted(one, surface) for one in second]
    return Scored(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _predicted(sample: Sample, surface: Surface) -> tuple[Array, Array, Array]:
    physics = log_errors(sample, {})
    shape = shape_of(sample)
    if shape is None or shape[0] not in surface:
        return physics, physics, np.zeros(physics.size)
    patch = surface[shape[0]]
    slower, known = patch.at(shape[1])
    part = sample.question.parts[0]
    own = replace(part, settings={**part.settings, "coefficient.kernel_slowdown": np.exp(slower)})
    asked = replace(sample.question, parts=(own, *sample.question.parts[1:]))
    errors = log_errors(replace(sample, question=asked), {})
    c = coefficients_for(sample.device).values
    device = c["log_sigma"] * (1 - known)
    spread = c[f"{kind_of(sample.op)}_log_sigma"] * (1 - known) + patch.sigma * known
    return physics, errors, np.abs(errors) <= Z80 * np.hypot(device, spread)


def halves(folder: Path, name: str, ops: Sequence[str], least_s: float) -> Iterator[tuple[Sample, Sample]]:
    """Both halves of the rows of every question."""
    rng = np.random.default_rng(SEED)
    fitted = np.array(sorted(fitted_rows(folder, name)), dtype=np.intp)
    asked = ((question, measured) for question, measured in questions_of(folder / name) if question.op in ops)
    for one in samples_of(asked, most=ROWS, rng=rng, least_s=least_s):
        if one.device.engine != "simt":
            continue
        first = rng.random(one.at.size) < 0.5
        second = ~first & ~np.isin(one.question.rows[one.at], fitted)
        yield tuple(  # type: ignore[misc]  # two of them
            replace(one, at=one.at[chosen], measured_s=one.measured_s[chosen]) for chosen in (first, second)
        )


def table(folder: Path, files: Sequence[tuple[str, tuple[str, ...], float]] = FILES) -> Iterator[str]:
    """The lines of the table."""
    for name, ops, least_s in files:
        pairs: dict[tuple[str, str], list[tuple[Sample, Sample]]] = {}
        for first, second in halves(folder, name, ops, least_s):
            pairs.setdefault((first.op, first.device.id), []).append((first, second))
        found = {key: scored(*zip(*some, strict=True)) for key, some in pairs.items()}
        for op in ops:
            of_op = {device: one for (label, device), one in found.items() if label == op}
            if of_op:
                yield _line(name, op, of_op)


def _line(name: str, op: str, found: dict[str, Scored]) -> str:
    physics, neighbours, inside = (
        np.concatenate([getattr(one, field) for one in found.values()])
        for field in ("physics", "neighbours", "inside")
    )
    worst = max(found, key=lambda device: mean_error(found[device].neighbours))
    return (
        f"| {name.split('.')[0]} | {op} | {len(found)} | {physics.size} | {mean_error(physics):.1%} "
        f"| {mean_error(neighbours):.1%} | {np.median(np.abs(np.expm1(neighbours))):.1%} "
        f"| {worst} {mean_error(found[worst].neighbours):.0%} | {np.mean(inside):.0%} |"
    )


HEAD = (
    "| file | operator | devices | rows | as shipped | with neighbours | median | worst device | inside |",
    "|---|---|---|---|---|---|---|---|---|",
)


def main() -> None:
    """Rewrite the table in place."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/measurements")
    rewrite(PAGE, BEGIN, END, "\n".join((*HEAD, *table(folder))))


if __name__ == "__main__":
    main()
