"""Refits the coefficients that ship for GPUs: `make fit`, on the public kernel sets.

Coefficients shared by all GPUs transfer to devices nobody measured; some belong to a generation. Samples are
drawn per device and operator with a fixed seed, so that the same folder gives the same files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.fitted import FOLDER
from hwsim.fitting import (
    Fitted,
    Key,
    Sample,
    fit,
    mean_error,
    read_entries,
    samples_of,
    spread_of,
    write_entries,
)

SEED = 20261125


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A measurement file, its operators used, rows per device and operator, and the shortest time used."""

    file: str
    ops: Callable[[str], bool]
    rows: int
    least_s: float


SOURCES = (
    Source(
        file="neusight/vector_ops_fp32.csv.gz",
        ops=lambda op: op in ("add", "gelu", "ln", "softmax", "tanh"),
        rows=60,
        least_s=75e-6,
    ),
    Source(file="neusight/gemm_fp32.csv.gz", ops=lambda op: True, rows=250, least_s=75e-6),
    Source(file="aiconfigurator/gemm.csv.gz", ops=lambda op: op == "gemm bfloat16", rows=300, least_s=3e-6),
    Source(
        file="aiconfigurator/context_attention.csv.gz",
        ops=lambda op: op == "prefill attention bfloat16 kv bfloat16",
        rows=150,
        least_s=50e-6,
    ),
)
# Where a fit begins and what it is pulled to: never the shipped values, or a second fit would differ.
SHARED = {
    "dram_efficiency": 0.9, "reduction_slowdown": 8.0, "overlap": 0.15, "kernel_ramp_s": 3e-6,
    "matrix_efficiency": 0.9, "tile_half_reuse": 6.0, "k_prologue": 32.0, "lane_matrix_efficiency": 0.9,
    "lane_tile_half_reuse": 6.0, "lane_k_prologue": 8.0, "unaligned_share": 0.9, "unaligned_traffic": 1.5,
    "attention_efficiency": 0.7, "query_half_tile": 8.0,
}  # fmt: skip
BY_GENERATION = {"core_energy_scale": 1.8, "cluster_sharing": 1.5}


def draw(
    folder: Path, sources: Sequence[Source] = SOURCES, *, skip: str = "", seed: int = SEED
) -> list[Sample]:
    """Samples of GPUs of every source; rows of device id `skip` are left out."""
    found: list[Sample] = []
    for source in sources:
        rng = np.random.default_rng(seed)
        drawn = samples_of(
            folder / source.file, most=source.rows, least_s=source.least_s, rng=rng, skip=skip, ops=source.ops
        )
        found += [one for one in drawn if one.device.engine == "simt"]
    if not found:
        raise HwsimError(
            f"{str(folder)!r} holds none of the measurement files that coefficients are fitted on"
        )
    return found


def start_of(samples: Sequence[Sample]) -> dict[Key, float]:
    """What is free, and where it begins: the shared ones, and those of every generation sampled."""
    generations = sorted({one.device.generation for one in samples})
    shared = {(name, ""): value for name, value in SHARED.items()}
    return shared | {(name, g): value for g in generations for name, value in BY_GENERATION.items()}


def with_middle(made: Fitted) -> Fitted:
    """With the middle of the generations for devices of one that nobody measured."""
    middle = {}
    for name in BY_GENERATION:
        every = [value for (n, where), value in made.values.items() if n == name and where]
        middle[name, ""] = float(np.exp(np.median(np.log(every))))
    return Fitted({**middle, **made.values}, made.samples)


def fit_gpus(samples: Sequence[Sample], *, iterations: int = 25) -> Fitted:
    """The coefficients of all GPUs."""
    return with_middle(fit(samples, start_of(samples), iterations=iterations))


def leave_one_out(
    folder: Path, sources: Sequence[Source] = SOURCES, *, iterations: int = 12
) -> dict[tuple[str, str], Array]:
    """Log errors of every device by coefficients fitted without any of its rows, on rows drawn anew."""
    fresh = draw(folder, sources, seed=SEED + 1)
    errors: dict[tuple[str, str], Array] = {}
    for device in sorted({s.device.id for s in fresh}):
        made = fit_gpus(draw(folder, sources, skip=device), iterations=iterations)
        errors |= made.errors([s for s in fresh if s.device.id == device])
    return errors


def write(made: Fitted, left_out: Mapping[tuple[str, str], Array], folder: Path = FOLDER) -> list[Path]:
    """Write the engine's file and one per generation; entries that were not fitted stay as they are."""
    errors = made.errors()
    measured = ", ".join(sorted({source.file for source in SOURCES}))
    comment = "Written by `make fit`; priors that no measurement decides are kept."
    shared = read_entries(FOLDER / "simt.toml")
    for name in SHARED:
        shared[name] |= {"value": made.values[name, ""], "source": _story(made, errors, "")}
    for name in BY_GENERATION:
        shared[name] |= {"value": made.values[name, ""], "source": "the middle of the fitted generations"}
    shared["log_sigma"] |= {
        "value": spread_of(left_out),
        "source": "holds four errors in five of left-out devices",
    }
    paths = [folder / "simt.toml"]
    write_entries(paths[0], "engine", shared, fitted_on=f"{measured}; make fit", comment=comment)
    for generation in sorted({g for _, g in made.values if g}):
        path = folder / f"{generation}.toml"
        own = read_entries(FOLDER / path.name)
        for name in BY_GENERATION:
            own[name] = {
                "value": made.values[name, generation],
                "meaning": shared[name]["meaning"],
                "source": _story(made, errors, generation),
            }
        devices = sorted({s.device.id for s in made.samples if s.device.generation == generation})
        told = f"{', '.join(devices)} in {measured}; make fit"
        write_entries(path, "generation", own, fitted_on=told, comment=comment)
        paths.append(path)
    return paths


def _story(made: Fitted, errors: Mapping[tuple[str, str], Array], generation: str) -> str:
    """What a value was fitted on and what is left of the errors there."""
    used = {(s.device.id, s.op) for s in made.samples if generation in ("", s.device.generation)}
    left = np.concatenate([errors[key] for key in sorted(used)])
    devices = len({device for device, _ in used})
    return (
        f"fitted on {left.size} rows of {devices} devices, mean absolute error there {mean_error(left):.0%}"
    )


def page(made: Fitted, left_out: Mapping[tuple[str, str], Array]) -> str:
    """The page of fitted coefficients: values, and errors on fresh rows of fitted and of left-out devices."""
    shared = read_entries(FOLDER / "simt.toml")
    lines = [
        "# Fitted coefficients of the GPU engine",
        "",
        "Written by `make fit`. Mean absolute error of latency, short rows included: *in the fit* on rows",
        "of the fit itself, *left out* on rows drawn anew, by a fit that saw no row of the device.",
        "",
        "| coefficient | value | meaning |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {made.values[name, '']:.4g} | {shared[name]['meaning']} |" for name in SHARED]
    lines += ["", "| generation | " + " | ".join(BY_GENERATION) + " |", "|---|---|---|"]
    for generation in sorted({g for _, g in made.values if g}):
        values = (f"{made.values[name, generation]:.4g}" for name in BY_GENERATION)
        lines.append(f"| {generation} | {' | '.join(values)} |")
    lines += [
        "",
        "| device | operator | rows | in the fit | left out | bias, left out |",
        "|---|---|---|---|---|---|",
    ]
    for (device, op), error in sorted(made.errors(made.samples).items()):
        out = left_out.get((device, op))
        told = ("", "") if out is None else (f"{mean_error(out):.0%}", f"{np.expm1(np.mean(out)):+.0%}")
        lines.append(f"| {device} | {op} | {error.size} | {mean_error(error):.0%} | {told[0]} | {told[1]} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """`python -m hwsim.fitting_gpus FOLDER`: fit on measurement files, rewrite files and their page."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/measurements")
    made = fit_gpus(draw(folder))
    left_out = leave_one_out(folder)
    for path in write(made, left_out):
        sys.stdout.write(f"{path}\n")
    Path("docs/calibration.md").write_text(page(made, left_out), encoding="utf-8")


if __name__ == "__main__":
    main()
