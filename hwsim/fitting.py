"""Fits the GPU engine's coefficients to measured kernels: few, physical, in log space, with a robust loss.

Coefficients shared by all GPUs transfer to devices nobody measured; two belong to a generation: what its arithmetic
costs in energy (and so how far power lowers its clock) and how far neighbouring tiles share loads. Samples are
drawn per device and operator with a fixed seed, so that the same folder gives the same files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from devices import Device, DeviceError, device as find_device, stack as find_stack
from numpy.typing import NDArray

from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.estimating import estimate
from hwsim.fitted import FOLDER, coefficients_for
from hwsim.measurements.predicting import questions_of
from hwsim.measurements.question import Question

SEED = 20261125
STEP = 0.01  # relative step of the finite differences
SCALE = 0.2  # log error from which the loss grows like an absolute value
PULL = 0.02  # weight of one e-fold away from the prior


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A measurement file, the operators used of it, rows per device and operator, and the shortest time used."""

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
    Source(file="neusight/vector_ops_fp32.csv.gz", ops=lambda op: op in ("add", "gelu", "ln", "softmax", "tanh"), rows=60, least_s=75e-6),
    Source(file="neusight/gemm_fp32.csv.gz", ops=lambda op: True, rows=250, least_s=75e-6),
    Source(file="aiconfigurator/gemm.csv.gz", ops=lambda op: op == "gemm bfloat16", rows=300, least_s=3e-6),
    Source(
        file="aiconfigurator/context_attention.csv.gz",
        ops=lambda op: op == "prefill attention bfloat16 kv bfloat16",
        rows=200,
        least_s=20e-6,
    ),
)
SHARED = (
    "dram_efficiency", "reduction_slowdown", "lane_matrix_efficiency", "unaligned_share", "unaligned_traffic",
    "tile_half_reuse", "k_prologue", "overlap", "kernel_ramp_s", "attention_efficiency", "query_half_tile",
    "onchip_efficiency",
)  # fmt: skip
BY_GENERATION = ("core_energy_scale", "cluster_sharing")
AT_MOST_ONE = ("dram_efficiency", "lane_matrix_efficiency", "unaligned_share", "overlap", "attention_efficiency",
               "onchip_efficiency")
AT_LEAST_ONE = ("cluster_sharing", "reduction_slowdown", "unaligned_traffic")
START = {"cluster_sharing": 1.5, "unit_byte_per_clock": 64.0, "core_energy_scale": 1.8, "tile_half_reuse": 2.0, "k_prologue": 8.0, "kernel_ramp_s": 3e-6}


def draw(folder: Path, sources: Sequence[Source] = SOURCES, *, skip: str = "", seed: int = SEED) -> list[Sample]:
    """Samples of every source; rows of device id `skip` are left out."""
    found: list[Sample] = []
    for source in sources:
        rng = np.random.default_rng(seed)
        for question, measured in questions_of(folder / source.file):
            if source.ops(question.op):
                found += _sample(source, question, measured, rng, skip)
    if not found:
        raise HwsimError(f"{str(folder)!r} holds none of the measurement files that coefficients are fitted on")
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
        part.graph, sample.device, stack=find_stack(protocol.stack), warm=protocol.warm, overrides=overrides, **sizes
    )
    return np.asarray(np.log((result.latency_s + protocol.added_s) / sample.measured_s))


@dataclass(frozen=True, slots=True)
class Fitted:
    """Values by (coefficient, generation or empty), the samples they were fitted on, and their residuals."""

    values: Mapping[tuple[str, str], float]
    samples: Sequence[Sample]

    def of(self, generation: str) -> dict[str, float]:
        """Coefficients of a device of `generation`; those of a generation nobody measured are the middle of all."""
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


def fit(samples: Sequence[Sample], *, iterations: int = 12) -> Fitted:
    """Least squares over log errors, every (device, operator) of equal weight, pulled gently towards the priors."""
    from scipy.optimize import least_squares

    priors = {**coefficients_for(samples[0].device).values, **START}
    generations = sorted({s.device.generation for s in samples})
    keys = [(name, "") for name in SHARED] + [(name, g) for name in BY_GENERATION for g in generations]
    start = np.log([max(priors[name], 1e-9) for name, _ in keys])
    top = np.array([0.0 if name in AT_MOST_ONE else 9.0 for name, _ in keys])
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


def spread_of(errors: Mapping[tuple[str, str], Array]) -> float:
    """Standard deviation of the log error that makes the 80 % interval hold four errors in five, all pairs alike."""
    weights = np.concatenate([np.full(e.size, 1 / e.size) for e in errors.values()])
    every = np.abs(np.concatenate(list(errors.values())))
    order = np.argsort(every)
    reached = np.searchsorted(np.cumsum(weights[order]), 0.8 * weights.sum())
    return float(every[order][reached] / 1.2816)


def leave_one_out(folder: Path, sources: Sequence[Source] = SOURCES, *, iterations: int = 6) -> dict[tuple[str, str], Array]:
    """Log errors of every device by coefficients fitted without any of its rows, on rows drawn anew."""
    fresh = draw(folder, sources, seed=SEED + 1)
    errors: dict[tuple[str, str], Array] = {}
    for device in sorted({s.device.id for s in fresh}):
        made = fit(draw(folder, sources, skip=device), iterations=iterations)
        errors |= made.errors([s for s in fresh if s.device.id == device])
    return errors


def write(made: Fitted, sigma: float, folder: Path = FOLDER) -> list[Path]:
    """Write the engine's file and one per generation; entries that were not fitted stay as they are."""
    import tomllib

    document = tomllib.loads((FOLDER / "simt.toml").read_text(encoding="utf-8"))
    errors = made.errors()
    measured = ", ".join(sorted({source.file for source in SOURCES}))
    for name in SHARED:
        document[name] |= {"value": made.values[name, ""], "source": _story(made, errors, "")}
    middle = made.of("")
    for name in BY_GENERATION:
        document[name] |= {"value": middle[name], "source": "middle of the fitted generations, for all others"}
    document["log_sigma"] |= {"value": sigma, "source": "four errors in five of devices left out of the fit"}
    paths = [_save(folder / "simt.toml", document, f"{measured}; make fit")]
    for generation in sorted({g for _, g in made.values if g}):
        table: dict[str, Any] = {"scope": "generation"}
        for name in BY_GENERATION:
            meaning = document[name]["meaning"]
            table[name] = {"value": made.values[name, generation], "meaning": meaning, "source": _story(made, errors, generation)}
        devices = sorted({s.device.id for s in made.samples if s.device.generation == generation})
        paths.append(_save(folder / f"{generation}.toml", table, f"{', '.join(devices)} in {measured}; make fit"))
    return paths


def _story(made: Fitted, errors: Mapping[tuple[str, str], Array], generation: str) -> str:
    """What a value was fitted on and what is left of the errors there."""
    used = {(s.device.id, s.op) for s in made.samples if generation in ("", s.device.generation)}
    left = np.concatenate([errors[key] for key in sorted(used)])
    return f"fitted on {left.size} rows of {len({d for d, _ in used})} devices, mean absolute error {np.mean(np.abs(np.expm1(left))):.0%}"


def _save(path: Path, table: Mapping[str, Any], fitted_on: str) -> Path:
    lines = ["# Written by `make fit`; priors that no measurement decides are kept.", f'scope = "{table["scope"]}"']
    lines.append(f'fitted_on = "{fitted_on}"')
    for name, entry in table.items():
        if isinstance(entry, Mapping):
            lines += ["", f"[{name}]", f"value = {float(entry['value']):.5g}"]
            lines += [f'{key} = "{entry[key]}"' for key in ("meaning", "source")]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """`python -m hwsim.fitting FOLDER`: fit on a folder of measurement files and rewrite the shipped coefficients."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/measurements")
    made = fit(draw(folder))
    for path in write(made, spread_of(made.errors(draw(folder, seed=SEED + 1)))):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
