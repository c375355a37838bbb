"""Fits the GPU engine's coefficients to measured kernels: few, physical, in log space, with a robust loss.

Coefficients shared by all GPUs transfer to devices nobody measured; two belong to a generation: what its
arithmetic costs in energy (and so how far power lowers its clock) and how far neighbouring tiles share loads.
Samples are drawn per device and operator with a fixed seed, so that the same folder gives the same files.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices import Device, DeviceError
from devices import device as find_device
from devices import stack as find_stack
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.estimating import estimate
from hwsim.fitted import FOLDER
from hwsim.measurements.predicting import questions_of
from hwsim.measurements.question import Question

SEED = 20261125
STEP = 0.01  # relative step of the finite differences
SCALE = 0.2  # log error from which the loss grows like an absolute value
PULL = 0.02  # weight of one e-fold away from the prior


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A measurement file, its operators used, rows per device and operator, and the shortest time used."""

    file: str
    ops: Callable[[str], bool]
    rows: int
    least_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Measured rows of one device and operator, as the arrays one estimate takes."""

    device: Device
    op: str
    question: Question
    at: NDArray[np.intp]
    measured_s: Array


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
SHARED = (
    *("dram_efficiency", "reduction_slowdown", "overlap", "kernel_ramp_s"),
    *("matrix_efficiency", "tile_half_reuse", "k_prologue"),
    *(
        "lane_matrix_efficiency",
        "lane_tile_half_reuse",
        "lane_k_prologue",
        "unaligned_share",
        "unaligned_traffic",
    ),
    *("attention_efficiency", "query_half_tile"),
)
BY_GENERATION = ("core_energy_scale", "cluster_sharing")
AT_MOST_ONE = ("_efficiency", "_share", "overlap")
# two sectors hold any unaligned one; beyond a cluster of sixteen blocks nothing is shared
LARGEST = {"unaligned_traffic": 2.0, "cluster_sharing": 16.0}
AT_LEAST_ONE = ("cluster_sharing", "reduction_slowdown", "unaligned_traffic")
# Where a fit begins and what it is pulled to: never the shipped values, or a second fit would differ.
START = {
    "dram_efficiency": 0.9, "reduction_slowdown": 8.0, "overlap": 0.15, "kernel_ramp_s": 3e-6,
    "matrix_efficiency": 0.9, "tile_half_reuse": 6.0, "k_prologue": 32.0, "lane_matrix_efficiency": 0.9,
    "lane_tile_half_reuse": 6.0, "lane_k_prologue": 8.0, "unaligned_share": 0.9, "unaligned_traffic": 1.5,
    "attention_efficiency": 0.7, "query_half_tile": 8.0, "core_energy_scale": 1.8, "cluster_sharing": 1.5,
}  # fmt: skip


def draw(
    folder: Path, sources: Sequence[Source] = SOURCES, *, skip: str = "", seed: int = SEED
) -> list[Sample]:
    """Samples of every source; rows of device id `skip` are left out."""
    found: list[Sample] = []
    for source in sources:
        rng = np.random.default_rng(seed)
        for question, measured in questions_of(folder / source.file):
            if source.ops(question.op):
                found += _sample(source, question, measured, rng, skip)
    if not found:
        raise HwsimError(
            f"{str(folder)!r} holds none of the measurement files that coefficients are fitted on"
        )
    return found


def _sample(
    source: Source, question: Question, measured: Array, rng: np.random.Generator, skip: str
) -> Iterator[Sample]:
    try:
        device = find_device(question.device)
    except DeviceError:
        return
    good = np.isfinite(measured) & (measured >= source.least_s)
    for value in question.parts[0].sizes.values():
        good &= np.isfinite(value) & (np.asarray(value) > 0)
    at = np.flatnonzero(good)
    if device.engine != "simt" or device.id == skip or at.size < 10:
        return
    if at.size > source.rows:
        at = np.sort(rng.choice(at, source.rows, replace=False))
    yield Sample(device=device, op=question.op, question=question, at=at, measured_s=measured[at])


def log_errors(sample: Sample, coefficients: Mapping[str, float]) -> Array:
    """ln(predicted / measured) of every row of a sample."""
    part, protocol = sample.question.parts[0], sample.question.protocol
    sizes: dict[str, Any] = {
        name: np.broadcast_to(np.asarray(v, np.float64), sample.question.rows.size)[sample.at]
        for name, v in part.sizes.items()
    }
    overrides = {**sample.question.settings, **{f"coefficient.{k}": v for k, v in coefficients.items()}}
    result = estimate(
        part.graph,
        sample.device,
        stack=find_stack(protocol.stack),
        warm=protocol.warm,
        overrides=overrides,
        **sizes,
    )
    return np.asarray(np.log((result.latency_s + protocol.added_s) / sample.measured_s))


@dataclass(frozen=True, slots=True)
class Fitted:
    """Values by (coefficient, generation or empty), the samples they were fitted on, and their residuals."""

    values: Mapping[tuple[str, str], float]
    samples: Sequence[Sample]

    def of(self, generation: str) -> dict[str, float]:
        """Coefficients of a device of `generation`; of one nobody measured the middle of all."""
        found = {name: value for (name, where), value in self.values.items() if not where}
        for name in BY_GENERATION:
            every = [v for (n, where), v in self.values.items() if n == name and where]
            found[name] = self.values.get((name, generation), float(np.exp(np.median(np.log(every)))))
        return found

    def errors(self, samples: Sequence[Sample] | None = None) -> dict[tuple[str, str], Array]:
        """Log errors by (device, op)."""
        return {
            (s.device.id, s.op): log_errors(s, self.of(s.device.generation))
            for s in (self.samples if samples is None else samples)
        }


def fit(samples: Sequence[Sample], *, iterations: int = 25) -> Fitted:
    """Least squares over log errors, every (device, operator) alike, pulled gently towards the priors."""
    from scipy.optimize import least_squares

    generations = sorted({s.device.generation for s in samples})
    keys = [(name, "") for name in SHARED] + [(name, g) for name in BY_GENERATION for g in generations]
    start = np.log([START[name] for name, _ in keys])
    top = np.array([_top(name) for name, _ in keys])
    bottom = np.array([0.0 if name in AT_LEAST_ONE else -30.0 for name, _ in keys])
    start = np.clip(start, bottom + 0.05, top - 0.05)
    memory: dict[tuple[int, bytes], Array] = {}

    def residuals(x: Array) -> Array:
        made = Fitted({key: float(np.exp(v)) for key, v in zip(keys, x, strict=True)}, samples)
        parts = []
        for index, one in enumerate(samples):
            chosen = made.of(one.device.generation)
            known = (index, np.array(list(chosen.values())).tobytes())
            if known not in memory:
                memory[known] = log_errors(one, chosen) / np.sqrt(one.at.size)
            parts.append(memory[known])
        return np.concatenate([*parts, PULL * (x - start)])

    found = least_squares(
        residuals, start, loss="soft_l1", f_scale=SCALE / np.sqrt(200), bounds=(bottom, top), diff_step=STEP,
        max_nfev=iterations, x_scale=0.3,
    )  # fmt: skip
    return Fitted({key: float(np.exp(v)) for key, v in zip(keys, found.x, strict=True)}, samples)


def _top(name: str) -> float:
    """The logarithm of the largest value a coefficient may take."""
    return 0.0 if name.endswith(AT_MOST_ONE) else float(np.log(LARGEST.get(name, 8000.0)))


def spread_of(errors: Mapping[tuple[str, str], Array]) -> float:
    """Standard deviation of the log error that makes the 80 % interval hold four errors in five."""
    weights = np.concatenate([np.full(e.size, 1 / e.size) for e in errors.values()])
    every = np.abs(np.concatenate(list(errors.values())))
    order = np.argsort(every)
    reached = np.searchsorted(np.cumsum(weights[order]), 0.8 * weights.sum())
    return float(every[order][reached] / 1.2816)


def leave_one_out(
    folder: Path, sources: Sequence[Source] = SOURCES, *, iterations: int = 12
) -> dict[tuple[str, str], Array]:
    """Log errors of every device by coefficients fitted without any of its rows, on rows drawn anew."""
    fresh = draw(folder, sources, seed=SEED + 1)
    errors: dict[tuple[str, str], Array] = {}
    for device in sorted({s.device.id for s in fresh}):
        made = fit(draw(folder, sources, skip=device), iterations=iterations)
        errors |= made.errors([s for s in fresh if s.device.id == device])
    return errors


def write(made: Fitted, left_out: Mapping[tuple[str, str], Array], folder: Path = FOLDER) -> list[Path]:
    """Write the engine's file and one per generation; entries that were not fitted stay as they are."""
    errors = made.errors()
    measured = ", ".join(sorted({source.file for source in SOURCES}))
    shared = _read(FOLDER / "simt.toml")
    middle = made.of("")
    for name in SHARED:
        shared[name] |= {"value": made.values[name, ""], "source": _story(made, errors, "")}
    for name in BY_GENERATION:
        shared[name] |= {"value": middle[name], "source": "the middle of the fitted generations"}
    sigma = spread_of(left_out)
    shared["log_sigma"] |= {
        "value": sigma,
        "source": "holds four errors in five of left-out devices",
    }
    paths = [_save(folder / "simt.toml", "engine", shared, f"{measured}; make fit")]
    for generation in sorted({g for _, g in made.values if g}):
        own = _read(FOLDER / f"{generation}.toml")
        for name in BY_GENERATION:
            own[name] = {
                "value": made.values[name, generation],
                "meaning": shared[name]["meaning"],
                "source": _story(made, errors, generation),
            }
        devices = sorted({s.device.id for s in made.samples if s.device.generation == generation})
        told = f"{', '.join(devices)} in {measured}; make fit"
        paths.append(_save(folder / f"{generation}.toml", "generation", own, told))
    return paths


def _read(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: entry for name, entry in document.items() if isinstance(entry, dict)}


def _story(made: Fitted, errors: Mapping[tuple[str, str], Array], generation: str) -> str:
    """What a value was fitted on and what is left of the errors there."""
    used = {(s.device.id, s.op) for s in made.samples if generation in ("", s.device.generation)}
    left = np.concatenate([errors[key] for key in sorted(used)])
    devices = len({device for device, _ in used})
    return f"fitted on {left.size} rows of {devices} devices, mean absolute error there {_percent(left)}"


def _percent(errors: Array) -> str:
    return f"{np.mean(np.abs(np.expm1(errors))):.0%}"


def _save(path: Path, scope: str, entries: Mapping[str, Mapping[str, Any]], fitted_on: str) -> Path:
    lines = ["# Written by `make fit`; priors that no measurement decides are kept."]
    lines += [f'scope = "{scope}"', f'fitted_on = "{fitted_on}"']
    for name, entry in entries.items():
        lines += ["", f"[{name}]", f"value = {float(entry['value']):.5g}"]
        lines += [f'{key} = "{entry[key]}"' for key in ("meaning", "source")]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def page(made: Fitted, left_out: Mapping[tuple[str, str], Array]) -> str:
    """The page of fitted coefficients: values, and errors on fresh rows of fitted and of left-out devices."""
    shared = _read(FOLDER / "simt.toml")
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
        told = ("", "") if out is None else (_percent(out), f"{np.expm1(np.mean(out)):+.0%}")
        lines.append(f"| {device} | {op} | {error.size} | {_percent(error)} | {told[0]} | {told[1]} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """`python -m hwsim.fitting FOLDER`: fit on measurement files, rewrite coefficients and their page."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/measurements")
    made = fit(draw(folder))
    left_out = leave_one_out(folder)
    for path in write(made, left_out):
        sys.stdout.write(f"{path}\n")
    Path("docs/calibration.md").write_text(page(made, left_out), encoding="utf-8")


if __name__ == "__main__":
    main()
