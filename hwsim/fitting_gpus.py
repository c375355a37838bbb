"""Refits the coefficients that ship for GPUs: `make fit`, on the public kernel sets.

Coefficients shared by all GPUs transfer to devices nobody measured; some belong to a generation. Samples are
drawn per device and operator with a fixed seed, so that the same folder gives the same files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from devices import Device
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.fitted import FOLDER, places_of
from hwsim.fitting import (
    Fitted,
    Key,
    Sample,
    fit,
    log_errors,
    mean_error,
    read_entries,
    samples_of,
    spread_of,
    write_entries,
)
from hwsim.measurements.predicting import questions_of

SEED = 20261125
# errors of devices left out, by device and op
LEFT_OUT = Path(__file__).parents[1] / "docs" / "left-out.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A measurement file, its operators used, rows per device and operator, and the shortest time used.

    `skipped` are generations whose rows are not used; `weight` as in `Sample`.
    """

    file: str
    ops: Callable[[str], bool]
    rows: int
    least_s: float
    weight: float = 1.0
    skipped: tuple[str, ...] = ()


def _any(op: str) -> bool:
    return True


def _unwindowed(op: str) -> bool:
    return not op.endswith("windowed")


SOURCES = (
    Source(
        file="neusight/vector_ops_fp32.csv.gz",
        ops=lambda op: op in ("add", "gelu", "ln", "softmax", "mulu"),
        rows=20,
        least_s=150e-6,
    ),
    Source(file="neusight/gemm_fp32.csv.gz", ops=_any, rows=40, least_s=150e-6),
    Source(
        file="neusight/per_op_in_model_fp32.csv",
        ops=lambda op: op in ("VECln", "VECsoftmax", "VECadd", "EMBEDDING"),
        rows=30,
        least_s=100e-6,
    ),
    Source(  # products of these generations differ from the same ones of gemm_fp32 by up to 1.6x
        file="neusight/per_op_in_model_fp32.csv",
        ops=lambda op: op in ("Linear", "BMM"),
        rows=30,
        least_s=100e-6,
        skipped=("pascal", "turing", "volta", "ampere"),
    ),
    Source(
        file="neusight/e2e_fp32.csv", ops=lambda op: op.endswith(" inf"), rows=60, least_s=0.0, weight=2.0
    ),
    Source(
        file="aiconfigurator/gemm.csv.gz",
        ops=lambda op: op in ("gemm bfloat16", "gemm fp8", "gemm nvfp4", "gemm sq"),
        rows=30,
        least_s=5e-6,
    ),
    Source(file="aiconfigurator/context_attention.csv.gz", ops=_unwindowed, rows=25, least_s=8e-6),
    Source(file="aiconfigurator/generation_attention.csv.gz", ops=_unwindowed, rows=25, least_s=8e-6),
    Source(file="aiconfigurator/encoder_attention.csv.gz", ops=_any, rows=25, least_s=8e-6),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """Where a fit begins, the value that leaves the effect out, and the places with a value of their own.

    The beginning is never a shipped value, or a second fit would differ.
    """

    start: float
    neutral: float = 1.0
    own: tuple[Literal["memory", "vendor", "generation"], ...] = ()


FREE = {
    "dram_efficiency": Free(start=0.9, own=("memory", "generation")),
    "reduction_slowdown": Free(start=14.0, own=("vendor",)),
    "long_row_slowdown": Free(start=13.0, own=("vendor",)),
    "lookup_slowdown": Free(start=15.0),
    "overlap": Free(start=0.15, neutral=0.0),
    "kernel_ramp_s": Free(start=3e-6, neutral=0.0, own=("generation",)),
    "matrix_efficiency": Free(start=0.9),
    "narrow_matrix_efficiency": Free(start=0.8),
    "tile_half_reuse": Free(start=6.0, neutral=0.0),
    "k_prologue": Free(start=32.0, neutral=0.0),
    "lane_matrix_efficiency": Free(start=0.9),
    "lane_tile_half_reuse": Free(start=6.0, neutral=0.0),
    "lane_k_prologue": Free(start=8.0, neutral=0.0),
    "unaligned_share": Free(start=0.9),
    "unaligned_traffic": Free(start=1.5),
    "attention_efficiency": Free(start=0.7),
    "narrow_attention_share": Free(start=0.6),
    "widening_slowdown": Free(start=1.5),
    "query_half_tile": Free(start=8.0, neutral=0.0),
    "softmax_overlap": Free(start=0.3, neutral=0.0),
    "attention_stream_share": Free(start=0.9, own=("generation",)),
    "block_begin_cycle": Free(start=8000.0, neutral=0.0, own=("generation",)),
    "blocks_together": Free(start=2.0),
    "unit_byte_per_clock": Free(start=64.0, neutral=1e6, own=("generation",)),
    "core_energy_scale": Free(start=1.3, own=("generation",)),
    "node_exponent": Free(start=1.0, neutral=0.0),
    "cluster_sharing": Free(start=2.0, own=("generation",)),
    "unit_sharing": Free(start=1.3, own=("generation",)),
}


def draw(folder: Path, sources: Sequence[Source] = SOURCES, *, seed: int = SEED) -> list[Sample]:
    """Samples of GPUs of every source."""
    return draw_each(folder, (seed,), sources)[0]


def draw_each(folder: Path, seeds: Sequence[int], sources: Sequence[Source] = SOURCES) -> list[list[Sample]]:
    """Samples by each of several seeds; files are read once."""
    found: list[list[Sample]] = [[] for _ in seeds]
    for one in sources:
        asked = [each for each in questions_of(folder / one.file) if one.ops(each[0].op)]
        for seed, samples in zip(seeds, found, strict=True):
            drawn = samples_of(
                asked, most=one.rows, least_s=one.least_s, rng=np.random.default_rng(seed), weight=one.weight
            )
            samples += [
                s for s in drawn if s.device.engine == "simt" and s.device.generation not in one.skipped
            ]
    if not found[0]:
        raise HwsimError(
            f"{str(folder)!r} holds none of the measurement files that coefficients are fitted on"
        )
    return found


def fitted_rows(folder: Path, file: str) -> frozenset[int]:
    """The rows of a file that the shipped coefficients were fitted on."""
    of_file = [one for one in SOURCES if one.file == file]
    samples = draw(folder, of_file) if of_file else []
    return frozenset(int(row) for one in samples for row in one.question.rows[one.at])


def without(samples: Sequence[Sample], device: str) -> list[Sample]:
    """The samples of all other devices."""
    return [one for one in samples if one.device.id != device]


def start_of(samples: Sequence[Sample]) -> dict[Key, float]:
    """What is free, and where it begins: one value for all and one for every place sampled."""
    start: dict[Key, float] = {}
    for name, free in FREE.items():
        start[name, ""] = free.start
        for level in free.own:
            start |= {
                (name, place): free.start for place in sorted({_place(s.device, level) for s in samples})
            }
    return start


def _place(device: Device, level: str) -> str:
    memory, vendor, generation = places_of(device)[-4:-1]
    return {"memory": memory, "vendor": vendor, "generation": generation}[level]


def fit_gpus(samples: Sequence[Sample], *, iterations: int = 16) -> Fitted:
    """The coefficients of all GPUs."""
    return fit(samples, start_of(samples), iterations=iterations)


def leave_one_out(
    samples: Sequence[Sample], fresh: Sequence[Sample], *, iterations: int = 5
) -> dict[tuple[str, str], Array]:
    """Log errors of `fresh` rows of every device by coefficients fitted without any row of the device."""
    errors: dict[tuple[str, str], Array] = {}
    for device in sorted({one.device.id for one in fresh}):
        made = fit_gpus(without(samples, device), iterations=iterations)
        errors |= made.errors([one for one in fresh if one.device.id == device])
    return errors


def sigmas(left_out: Mapping[tuple[str, str], Array]) -> dict[str, float]:
    """Spreads by kind of operator beyond that of whole models, from errors of devices left out."""
    by_kind: dict[str, dict[tuple[str, str], Array]] = {}
    for key, errors in left_out.items():
        by_kind.setdefault(kind_of(key[1]), {})[key] = errors
    device = spread_of(by_kind.pop("model", left_out))
    found = {"log_sigma": device}
    for kind, errors_of in sorted(by_kind.items()):
        found[f"{kind}_log_sigma"] = float(np.sqrt(max(0.0, spread_of(errors_of) ** 2 - device**2)))
    return found


def kind_of(op: str) -> str:
    """The kind of operator behind a label of the sources."""
    if op.endswith((" inf", " train")):
        return "model"
    if "attention" in op:
        return "attention"
    return "gemm" if op.startswith(("gemm", "moe")) or op in ("linear", "bmm", "Linear", "BMM") else "stream"


def write(made: Fitted, left_out: Mapping[tuple[str, str], Array], folder: Path = FOLDER) -> list[Path]:
    """Write a file per place; entries that were not fitted stay as they are."""
    errors = made.errors()
    measured = ", ".join(sorted({source.file for source in SOURCES}))
    comment = "Written by `make fit`; priors that no measurement decides are kept."
    meanings = read_entries(FOLDER / "simt.toml")
    for name, value in sigmas(left_out).items():
        meanings[name] |= {"value": value, "source": "holds four errors in five of left-out devices"}
    paths = []
    for place in sorted({where for _, where in made.values}):
        path = folder / f"{place or 'simt'}.toml"
        entries = read_entries(FOLDER / path.name) if place else meanings
        for (name, where), value in made.values.items():
            if where == place:
                source = _story(made, errors, place)
                entries[name] = {"value": value, "meaning": meanings[name]["meaning"], "source": source}
        devices = sorted({s.device.id for s in made.samples if place in ("", *places_of(s.device))})
        told = f"{', '.join(devices)} in {measured}; make fit" if place else f"{measured}; make fit"
        write_entries(path, _scope(place, made.samples), entries, fitted_on=told, comment=comment)
        paths.append(path)
    return paths


def _scope(place: str, samples: Sequence[Sample]) -> str:
    levels = ("memory", "vendor", "generation")
    return next(
        (one for one in levels for s in samples if place and _place(s.device, one) == place), "engine"
    )


def ablation(made: Fitted) -> dict[str, float]:
    """Mean absolute error over the samples of the fit with each coefficient's effect left out, others kept.

    The empty name is the fit itself.
    """
    settings = ("", *FREE)
    sums = dict.fromkeys(settings, 0.0)
    for one in made.samples:
        chosen = {
            name: np.repeat([FREE[name].neutral if left == name else value for left in settings], one.at.size)
            for name, value in made.of(one.device).items()
        }
        errors = log_errors(one, chosen, times=len(settings)).reshape(len(settings), -1)
        for left, row in zip(settings, errors, strict=True):
            sums[left] += mean_error(row) / len(made.samples)
    return sums


def _story(made: Fitted, errors: Mapping[tuple[str, str], Array], place: str) -> str:
    """What a value was fitted on and what is left of the errors there."""
    used = {(s.device.id, s.op) for s in made.samples if place in ("", *places_of(s.device))}
    left = np.concatenate([errors[key] for key in sorted(used)])
    devices = len({device for device, _ in used})
    return (
        f"fitted on {left.size} rows of {devices} devices, mean absolute error there {mean_error(left):.0%}"
    )


def page(made: Fitted, left_out: Mapping[tuple[str, str], Array]) -> str:
    """The page of fitted coefficients: values, and errors on fresh rows of fitted and of left-out devices."""
    meanings = read_entries(FOLDER / "simt.toml")
    without_it = ablation(made)
    whole = without_it[""]
    lines = [
        "# Fitted coefficients of the GPU engine",
        "",
        "Written by `make fit`. Mean absolute error of latency, short rows included: *in the fit* on rows",
        "of the fit itself, *left out* on rows drawn anew, by a fit that saw no row of the device.",
        "",
        "*Without* in the first table: mean absolute error over all samples of the fit, "
        f"{whole:.1%} with all coefficients,",
        "when the effect of one is left out and the others stay.",
        "",
        "| coefficient | value | without | meaning |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {made.values[name, '']:.4g} | {without_it[name]:.1%} | {meanings[name]['meaning']} |"
        for name in FREE
    ]
    lines += ["", "Own values of kinds of memory, vendors and generations:", ""]
    for name, free in FREE.items():
        if free.own:
            own = [(where, v) for (n, where), v in made.values.items() if n == name and where]
            lines.append(f"- {name}: " + ", ".join(f"{where} {value:.4g}" for where, value in own))
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


def record(left_out: Mapping[tuple[str, str], Array], path: Path = LEFT_OUT) -> None:
    """Keep the errors of devices left out for the page of validation."""
    errors = {f"{device}|{op}": np.round(e, 3).tolist() for (device, op), e in sorted(left_out.items())}
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in errors.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> None:
    """`python -m hwsim.fitting_gpus FOLDER`: fit on measurement files, rewrite files and their page."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/measurements")
    samples, fresh = draw_each(folder, (SEED, SEED + 1))
    made = fit_gpus(samples)
    left_out = leave_one_out(samples, fresh)
    for path in write(made, left_out):
        sys.stdout.write(f"{path}\n")
    record(left_out)
    Path("docs/calibration.md").write_text(page(made, left_out), encoding="utf-8")


if __name__ == "__main__":
    main()
