"""Refits what TPUs reach of their datasheets: products first, then the vector unit; `make fit`.

Half of the rows of each operator are drawn for the fit and the other half, and every operator that is in no
fit, say how good it is. TPU v4: a profiler's kernels, each alone; v6e: layers of a model library.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hwsim import fitting_energy
from hwsim.engines.demand import Array
from hwsim.fitted import FOLDER
from hwsim.fitting import (
    Fitted,
    Key,
    Sample,
    fit,
    log_errors,
    mean_error,
    read_entries,
    samples_of,
    write_entries,
)
from hwsim.measurements.predicting import questions_of

SEED = 20261125
# of files beside and in the folder of measurements: the generation fitted, its products, its vector work
V4, V6E = "tpu-v4", "tpu-v6e"
FILES = {V4: "../reference/tpu_kernels_measured.csv", V6E: "llmservingsim/torchprof_layers_v0.csv"}
# what kernels alone reach is of that way of measuring, and no property of the chip; layers of a library are
WRITTEN = {V4: ("tpu-v4-alone", "machine"), V6E: ("tpu-v6e", "generation")}
PRODUCTS = {V4: ("matmul",), V6E: ("gemm",)}
VECTORS: Mapping[str, tuple[str, ...]] = {V4: ("layer_norm",), V6E: ()}
# the v6e file has norms that take a microsecond at any size: fused into what stands before them, no measure
ALL_OPS = (V4,)
# where a fit begins and what it is pulled to
START = {
    "dram_efficiency": 0.8, "matrix_efficiency": 0.8, "overlap": 0.5, "kernel_ramp_s": 1e-6,
    "fill_share": 0.3,
}  # fmt: skip
VECTOR_START = {"vector_efficiency": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """Rows of one generation: those that a fit may use, and those it may not."""

    fitted: list[Sample]
    left_out: list[Sample]


def draw(folder: Path, generation: str, *, seed: int = SEED) -> Halves:
    """Both halves of every operator in a fit; operators in none are left out whole."""
    rng = np.random.default_rng(seed)
    used = (*PRODUCTS[generation], *VECTORS[generation])
    fitted: list[Sample] = []
    out: list[Sample] = []
    every = samples_of(
        questions_of(folder / FILES[generation]), most=10**9, rng=rng,
        ops=lambda op: generation in ALL_OPS or op in used,
    )  # fmt: skip
    for one in (sample for sample in every if sample.device.generation == generation):
        order = rng.permutation(one.at.size)
        half = order.size // 2 if one.op in used else 0
        for chosen, place in ((order[:half], fitted), (order[half:], out)):
            if chosen.size:
                at = np.sort(chosen)
                place.append(replace(one, at=one.at[at], measured_s=one.measured_s[at]))
    return Halves(fitted=fitted, left_out=out)


def fit_generation(samples: Sequence[Sample], generation: str, *, iterations: int = 25) -> Fitted:
    """Products say what arrays and memory reach, then norms, with that held, what the vector unit does."""

    def free(start: Mapping[str, float]) -> dict[Key, float]:
        return {(name, generation): value for name, value in start.items()}

    products = [one for one in samples if one.op in PRODUCTS[generation]]
    vectors = [one for one in samples if one.op in VECTORS[generation]]
    made = fit(products, free(START), iterations=iterations)
    if not vectors:
        return made
    more = fit(vectors, free(VECTOR_START), iterations=iterations, held=made.values)
    return Fitted(more.values, [*products, *vectors])


def write(made: Fitted, generation: str, folder: Path = FOLDER) -> Path:
    """Write the file of a generation, or of the way it was measured."""
    meanings = read_entries(FOLDER / "systolic.toml")
    left = np.concatenate(list(made.errors().values()))
    story = f"fitted on {left.size} rows, mean absolute error there {mean_error(left):.1%}"
    entries = {
        name: {"value": value, "meaning": meanings[name]["meaning"], "source": story}
        for (name, _), value in made.values.items()
    }
    stem, scope = WRITTEN[generation]
    path = folder / f"{stem}.toml"
    name = FILES[generation].removeprefix("../")
    comment = "Written by `make fit`."
    write_entries(path, scope, entries, fitted_on=f"{name}; make fit", comment=comment)
    return path


def left_out_errors(made: Fitted, halves: Halves) -> dict[tuple[str, str], Array]:
    """Log errors by operator on rows that no fit used."""
    found: dict[tuple[str, str], list[Array]] = {}
    for one in halves.left_out:
        errors = log_errors(one, made.of(one.device))
        found.setdefault((one.device.id, one.op), []).append(errors)
    return {key: np.concatenate(parts) for key, parts in found.items()}


def section(made: Fitted, out: Mapping[tuple[str, str], Array]) -> list[str]:
    """Values, and errors in the fit and left out, as lines of a page."""
    lines = ["| coefficient | value |", "|---|---|"]
    lines += [f"| {name} | {value:.3g} |" for (name, _), value in made.values.items()]
    lines += ["", "| operator | rows fitted | error there | rows left out | error there | bias there |"]
    lines += ["|---|---|---|---|---|---|"]
    own = made.errors()
    for key, errors in sorted(out.items()):
        fitted = (f"{own[key].size}", f"{mean_error(own[key]):.1%}") if key in own else ("0", "")
        bias = f"{np.expm1(np.mean(errors)):+.1%}"
        lines.append(
            f"| {key[1]} | {' | '.join(fitted)} | {errors.size} | {mean_error(errors):.1%} | {bias} |"
        )
    return lines


def main() -> None:
    """`python -m hwsim.fitting_tpus FOLDER`: fit TPUs and boards, write files and their page."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/measurements")
    lines = [
        "# Fitted coefficients of TPUs and of the energy of boards",
        "",
        "Written by `make fit`; errors are mean absolute ones. What the figures mean and what they do not:",
        "[accelerators.md](accelerators.md).",
    ]
    for generation in FILES:
        halves = draw(folder, generation)
        made = fit_generation(halves.fitted, generation)
        out = left_out_errors(made, halves)
        sys.stdout.write(f"{write(made, generation)}\n")
        lines += ["", f"## {generation}", "", *section(made, out)]
    rows = fitting_energy.rows_of(folder)
    factors = fitting_energy.fit(rows.some(rows.fitted))
    sys.stdout.write(f"{fitting_energy.write(rows, factors)}\n")
    lines += ["", "## Energy of boards", "", *fitting_energy.section(rows, factors)]
    Path("docs/calibration-accelerators.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
